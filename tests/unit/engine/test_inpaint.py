"""Editing under a mask: what is outside it is the input's, what is inside is an edit like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from danqing.core.events import ImageReady, Started, Work
from danqing.core.raster import Raster, Size
from danqing.engine.families.contract import plan
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.inpaint import Kept, cells, inner_edge, put_back
from danqing.profiles.loader import Profile
from danqing.schedule.policy import by_turn
from tests.unit.engine.conftest import SQUARE, STEPS, Crank, make_work, picture


def mask_of(size: Size, *boxes: tuple[int, int, int, int]) -> Raster:
    image = Image.new("L", (size.width, size.height))
    for box in boxes:
        image.paste(255, box)
    return Raster(size, 1, image.tobytes())


WHOLE = mask_of(SQUARE, (0, 0, 64, 64))
PART = mask_of(SQUARE, (20, 10, 50, 40))


def masked(token: str = "a", mask: Raster = PART, **more: Any) -> Work:
    return make_work(token, **{"inputs": 1, "mask": mask, **more})


def made(crank: Crank, *works: Work) -> dict[tuple[str, int], Raster]:
    crank.start(*works)
    crank.turn()
    return {(event.token, event.index): event.raster for event in crank.of(ImageReady)}


def levels(raster: Raster) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(raster.data, np.uint8).reshape(raster.size.height, raster.size.width, -1)


# the mask's arithmetic


def test_a_cell_is_edited_if_the_mask_touches_it_at_all() -> None:
    mask = mask_of(Size(64, 64), (15, 0, 17, 1))
    assert cells(mask, 4, 4).view(4, 4).nonzero().tolist() == [[0, 0], [0, 1]]


def test_cells_cover_a_mask_of_any_size_without_a_gap() -> None:
    for size in (Size(7, 5), Size(100, 33), Size(1, 1)):
        assert cells(mask_of(size, (0, 0, size.width, size.height)), 4, 6).all()
        assert not cells(mask_of(size), 4, 6).any()
    corner = cells(mask_of(Size(100, 33), (99, 32, 100, 33)), 4, 6).view(4, 6)
    assert corner.nonzero().tolist() == [[3, 5]]


def test_the_edge_is_soft_inside_the_mask_and_hard_outside() -> None:
    share = inner_edge(mask_of(Size(512, 512), (100, 100, 200, 200)), Size(512, 512))
    assert share[150, 98:104].tolist() == [0, 0, 0.5, 1, 1, 1]
    assert (share > 0).sum() == 100 * 100


def test_the_picture_s_own_edge_is_not_softened() -> None:
    share = inner_edge(mask_of(Size(512, 512), (0, 0, 512, 100)), Size(512, 512))
    assert (share[:90] == 1).all()
    assert (inner_edge(WHOLE, SQUARE) == 1).all()


def test_a_mask_thinner_than_its_edge_still_changes_what_it_selects() -> None:
    share = inner_edge(mask_of(Size(512, 512), (100, 100, 200, 101)), Size(512, 512))
    assert set(share[100, 100:200].tolist()) == {1.0}


def test_a_mask_finer_than_the_picture_is_not_lost() -> None:
    assert (inner_edge(mask_of(Size(512, 512), (100, 100, 101, 101)), SQUARE) > 0).sum() == 1


@pytest.mark.parametrize("size", [SQUARE, Size(128, 128), Size(96, 64), Size(33, 47)])
def test_outside_the_mask_every_pixel_is_the_resampled_input_s(size: Size) -> None:
    given, new = picture(0), picture(1, size)
    joined = levels(put_back(new, given, PART))
    whole = Image.frombytes("RGB", (64, 64), given.data)
    old = np.asarray(whole.resize((size.width, size.height), Image.Resampling.LANCZOS))
    share = inner_edge(PART, size)
    assert (joined[share == 0] == old[share == 0]).all()
    assert (joined[share == 1] == levels(new)[share == 1]).all()
    between = (share > 0) & (share < 1)
    low, high = np.minimum(old, levels(new)), np.maximum(old, levels(new))
    assert ((joined >= low) & (joined <= high))[between].all()


# the rule of the steps


def test_what_is_held_follows_the_stock_scheduler_s_own_rule() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.25, 4))
    scheduler.set_begin_index(0)
    latents, noise = torch.randn(1, 6, 8), torch.randn(1, 6, 8)
    kept = Kept(latents, torch.zeros(1, 6, 1, dtype=torch.bool))
    for at, time in enumerate(scheduler.timesteps):
        scheduler.step(torch.zeros_like(latents), time, latents)
        if at + 1 < len(scheduler.timesteps):
            stock = scheduler.scale_noise(latents, scheduler.timesteps[at + 1 : at + 2], noise)
        else:
            stock = latents
        assert torch.allclose(
            kept.held(torch.zeros_like(latents), noise, scheduler.sigmas[at + 1]), stock, atol=1e-6
        )


def test_latents_outside_the_mask_end_as_the_input_s(family: QwenImage21, profile: Profile) -> None:
    work = masked()
    preset = profile.preset(work.model)
    assert preset is not None
    done = plan(work, preset, profile.checkpoints["tiny"].native)
    prefix = family.prefill(done, family.encode(done))
    lane = family.begin(done, prefix, 0)
    for _ in range(family.steps(done)):
        family.step(done, [lane])
    outside = ~cells(PART, 4, 4)[0, :, 0]
    assert outside.sum() == 16 - 9
    assert torch.equal(lane.latents[0, outside], prefix.kept.latents[0, outside])
    assert not torch.isclose(lane.latents[0, ~outside], prefix.kept.latents[0, ~outside]).any(-1).all()


# whole works


def test_a_mask_of_everything_is_no_mask(crank: Callable[..., Crank]) -> None:
    """To the bit: nothing is held, nothing is put back, and where nothing is softened nothing is rounded twice."""
    assert made(crank(), masked(mask=WHOLE)) == made(crank(), make_work(inputs=1))


def test_outside_the_mask_the_delivered_picture_is_the_input(crank: Callable[..., Crank]) -> None:
    work = masked(count=2)
    for raster in made(crank(), work).values():
        outside = levels(PART)[..., 0] == 0
        assert (levels(raster)[outside] == levels(work.inputs[0])[outside]).all()
        assert (levels(raster)[~outside] != levels(work.inputs[0])[~outside]).any()


def test_the_picture_that_is_edited_may_be_any_of_the_inputs(crank: Callable[..., Crank]) -> None:
    work = masked(inputs=3, edited=2)
    outside = levels(PART)[..., 0] == 0
    (raster,) = made(crank(), work).values()
    assert (levels(raster)[outside] == levels(work.inputs[2])[outside]).all()


def test_masked_works_interleave_with_others_and_repeat(crank: Callable[..., Crank]) -> None:
    works = [masked("a", count=2), make_work("b", inputs=1, seed=3), masked("c", WHOLE, negative="grey")]
    alone = {key: raster for work in works for key, raster in made(crank(), work).items()}
    assert made(crank(urgency=by_turn), *works) == alone
    assert made(crank(urgency=by_turn), *works[::-1]) == alone


def test_a_palette_stays_inside_the_mask_too(crank: Callable[..., Crank]) -> None:
    work = masked(knobs={"color_palette": "#102030 5000, #e0d0c0 3000, #406080 2000"})
    outside = levels(PART)[..., 0] == 0
    (raster,) = made(crank(), work).values()
    assert (levels(raster)[outside] == levels(work.inputs[0])[outside]).all()


# strength


def test_an_edit_of_less_strength_takes_fewer_steps_from_nearer_to_its_input(
    crank: Callable[..., Crank],
) -> None:
    steps, seen = {}, {}
    for strength in (0.0, 0.5, 1.0):
        work = make_work(inputs=1, knobs={"strength": strength})
        turned = crank()
        (raster,) = made(turned, work).values()
        steps[strength] = turned.of(Started)[0].steps
        seen[strength] = raster
    assert steps == {0.0: 1, 0.5: STEPS // 2, 1.0: STEPS}
    assert seen[1.0] == next(iter(made(crank(), make_work(inputs=1)).values()))


def test_an_edit_begins_as_its_input_with_as_much_noise_as_its_first_step_expects(
    family: QwenImage21, profile: Profile
) -> None:
    work = make_work(inputs=1, knobs={"strength": 0.5})
    preset = profile.preset(work.model)
    assert preset is not None
    done = plan(work, preset, profile.checkpoints["tiny"].native)
    prefix = family.prefill(done, family.encode(done))
    lane = family.begin(done, prefix, 0)
    level = lane.scheduler.sigmas[STEPS // 2]
    assert 0 < level < 1
    assert torch.equal(lane.latents, level * lane.noise + (1 - level) * prefix.kept.latents)
    pure = family.begin(plan(make_work(inputs=1), preset, done.native), prefix, 0)
    assert torch.equal(lane.noise, pure.latents)


def test_strength_means_nothing_without_an_input(crank: Callable[..., Crank]) -> None:
    assert made(crank(), make_work(knobs={"strength": 0.1})) == made(crank(), make_work())
