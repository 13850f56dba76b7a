"""The exactness contract for Qwen-Image 1.x: what the engine draws is what the stock pipelines draw, with their encoder
told which tokens are pictures (diffusers issue 14194).

Latents agree to 1e-5 in fp32, not to the bit: the pictures' part of the encoder's work is done apart from the prompt's,
and projections of what no step changes once instead of in each, so matrix products have other row counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL import Image

from danqing.core.events import Cancelled, ImageReady, Started, Work
from danqing.core.raster import Raster, Size
from danqing.engine import flat
from danqing.engine.cache import Budget
from danqing.engine.families.contract import plan
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.processor import build_processor
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from danqing.schedule.policy import by_turn
from tests.support.tiny_1x import tell_kinds, tiny_1x
from tests.unit.engine.conftest import SIDE, SQUARE, STEPS, Crank, make_work, picture
from tests.unit.engine.test_exactness import difference, pictures, run
from tests.unit.engine.test_inpaint import levels, mask_of

TOLERANCE = 1e-5
LEVEL = 1
READ = SIDE * SIDE


@dataclass(frozen=True, slots=True)
class Pair:
    """A family, the stock pipeline of the same checkpoint, and a profile for it."""

    kind: str
    family: QwenImage1
    stock: Any
    profile: Profile

    def crank(self, **more: Any) -> Crank:
        return Crank(self.profile, self.family, **more)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[Callable[[str], Pair]]:
    made: dict[str, Pair] = {}

    def pair(name: str) -> Pair:
        if name not in made:
            made[name] = _pair(tmp_path_factory.mktemp(name.replace("+", "_")), name)
        return made[name]

    dimensions = pipeline_qwenimage_edit.calculate_dimensions
    with pytest.MonkeyPatch.context() as patch:
        # the stock pipeline reads every input at a million pixels; these take seconds on random weights
        patch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", READ)
        patch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", READ * (384 / 1024) ** 2)
        patch.setattr(
            pipeline_qwenimage_edit, "calculate_dimensions", lambda _area, ratio: dimensions(READ, ratio)
        )
        yield pair


def _pair(folder: Path, name: str) -> Pair:
    kind, _, more = name.partition("+")
    tiny_1x(folder, kind, told_clean=more == "clean")
    given = {} if kind == "paint" else {"processor": build_processor(folder)}
    stock = DiffusionPipeline.from_pretrained(folder, **given)
    stock.set_progress_bar_config(disable=True)
    stock.text_encoder.register_forward_pre_hook(tell_kinds, with_kwargs=True)
    family = QwenImage1(folder, torch.device("cpu"), torch.float32, keep=Budget(1 << 24))
    native = Native(multiple=16, input_area=READ)
    checkpoint = Checkpoint("tiny", str(folder), native, Relation.MINIATURE, "Apache-2.0")
    profile = Profile("tiny", "", {"tiny": checkpoint}, {"*": Preset("tiny", STEPS, 1.0, 3.0)})
    return Pair(kind, family, stock, profile)


def stock_call(pair: Pair, work: Work, output_type: str) -> Any:
    inputs = [Image.frombytes("RGB", (r.size.width, r.size.height), r.data) for r in work.inputs]
    given = {} if pair.kind == "paint" else {"image": inputs}
    return pair.stock(
        prompt=work.prompt,
        negative_prompt=work.negative_prompt,
        true_cfg_scale=3.0,
        height=work.size.height,
        width=work.size.width,
        num_inference_steps=STEPS,
        num_images_per_prompt=work.count,
        generator=[torch.Generator().manual_seed(work.seed + place) for place in range(work.count)],
        output_type=output_type,
        **given,
    ).images


def latents_of(pair: Pair, work: Work, *, together: bool) -> torch.Tensor:
    preset = pair.profile.preset(work.model)
    assert preset is not None
    made = plan(work, preset, pair.profile.checkpoints["tiny"].native)
    prefix = pair.family.prefill(made, pair.family.encode(made))
    lanes = [pair.family.begin(made, prefix, index) for index in range(work.count)]
    for _ in range(STEPS):
        for batch in [lanes] if together else [[lane] for lane in lanes]:
            pair.family.step(made, batch)
    return torch.cat([lane.latents for lane in lanes])


KINDS = [
    ("paint", 0),
    ("edit", 1),
    ("edit_plus", 1),
    ("edit_plus", 2),
    ("edit_plus", 3),
    ("edit_plus+clean", 2),
]


@pytest.mark.parametrize("negative", [None, "dull colours"], ids=["plain", "guided"])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(("name", "inputs"), KINDS)
def test_alone_is_the_stock_pipeline(
    *, make: Callable[[str], Pair], name: str, inputs: int, count: int, negative: str | None
) -> None:
    pair = make(name)
    if name.endswith("clean") and count > 1:
        # the stock pipeline cannot: its indices have one row for all pictures
        work = make_work(inputs=inputs, count=count, negative=negative)
        expected = torch.cat(
            [
                stock_call(pair, make_work(inputs=inputs, seed=7 + place, negative=negative), "latent")
                for place in range(count)
            ]
        )
    else:
        work = make_work(inputs=inputs, count=count, negative=negative)
        expected = stock_call(pair, work, "latent")
    for together in (False, True):
        torch.testing.assert_close(
            latents_of(pair, work, together=together), expected, atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize(("name", "inputs"), [("paint", 0), ("edit_plus", 2)])
def test_the_delivered_pixels_are_the_stock_pipelines(
    make: Callable[[str], Pair], name: str, inputs: int
) -> None:
    pair = make(name)
    work = make_work(inputs=inputs, count=2)
    made = run(pair.crank(), work)
    for event, expected in zip(made.of(ImageReady), stock_call(pair, work, "pil"), strict=True):
        assert difference(event.raster, Raster(work.size, 3, expected.tobytes())) <= LEVEL


def test_inputs_of_other_shapes_are_read_at_their_own(make: Callable[[str], Pair]) -> None:
    pair = make("edit_plus")
    wide, tall = picture(1, Size(96, 64)), picture(2, Size(60, 90))
    work = replace(make_work(), inputs=(wide, tall))
    torch.testing.assert_close(
        latents_of(pair, work, together=False), stock_call(pair, work, "latent"), atol=TOLERANCE, rtol=0
    )


def test_a_steps_tokens_are_those_of_the_inputs_too(make: Callable[[str], Pair]) -> None:
    """They go through every block of every step, so they fill a device as the target's do."""
    family = make("edit_plus").family
    native = Native(multiple=16, input_area=4 * SIDE * SIDE)
    one = (SIDE // 16) ** 2
    tokens = [family.tokens(plan(make_work(inputs=count), Preset("tiny", 4), native)) for count in range(3)]
    assert tokens == [one, 5 * one, 9 * one]


def test_interleaved_jobs_are_the_same_as_alone(make: Callable[[str], Pair]) -> None:
    pair = make("edit_plus")
    works = [
        make_work("a", inputs=1),
        make_work("b", inputs=1, count=2, prompt="two blue boats on a lake", seed=3),
        make_work("c", inputs=2, negative="grey"),
    ]
    alone = {key: raster for work in works for key, raster in pictures(run(pair.crank(), work)).items()}
    assert pictures(run(pair.crank(urgency=by_turn), *works)) == alone


def test_a_cancelled_neighbour_leaves_no_trace(make: Callable[[str], Pair]) -> None:
    pair = make("edit_plus")
    work = make_work("kept", inputs=1, count=2)
    alone = pictures(run(pair.crank(), work))
    mixed = pair.crank(urgency=by_turn)
    mixed.start(make_work("dropped", inputs=2, seed=99), work)
    mixed.turn(7)
    mixed.engine.cancel("dropped")
    mixed.turn()
    assert mixed.of(Cancelled, "dropped")
    assert pictures(mixed) == alone


def test_remembered_pictures_change_nothing(make: Callable[[str], Pair]) -> None:
    pair = make("edit_plus")
    work = make_work("a", inputs=3, count=2, negative="grey", prompt="a fox", tenant="ann")
    first = pictures(run(pair.crank(), work))
    again = pictures(run(pair.crank(), work))
    assert again == first


def test_another_prompt_about_the_same_pictures_sees_none_of_them_again(
    make: Callable[[str], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make("edit_plus")
    run(pair.crank(), make_work("a", inputs=2, tenant="bob"))
    seen: list[Any] = []
    tower = pair.family.encoder.model.visual
    monkeypatch.setattr(tower, "forward", lambda *given, **_: seen.append(given))
    run(pair.crank(), make_work("b", inputs=2, tenant="bob", prompt="another", negative="grey"))
    assert seen == []


@pytest.mark.parametrize("size", [Size(64, 64), Size(80, 48)])
def test_the_autoencoder_in_the_plane_is_the_stock_one(make: Callable[[str], Pair], size: Size) -> None:
    pair = make("edit_plus")
    pixels = torch.rand(1, 3, 1, size.height, size.width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        latents = pair.stock.vae.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(flat.read(pair.family.vae, pixels), latents, atol=TOLERANCE, rtol=0)
        drawn = pair.stock.vae.decode(latents).sample
        torch.testing.assert_close(flat.draw(pair.family.vae, latents), drawn, atol=TOLERANCE, rtol=0)


# masks and strength, which the stock Edit-Plus has not


def test_a_mask_of_everything_is_no_mask(make: Callable[[str], Pair]) -> None:
    pair = make("edit_plus")
    masked = make_work(inputs=2, mask=mask_of(SQUARE, (0, 0, SIDE, SIDE)))
    assert pictures(run(pair.crank(), masked)) == pictures(run(pair.crank(), make_work(inputs=2)))


def test_outside_the_mask_the_delivered_picture_is_the_input(make: Callable[[str], Pair]) -> None:
    pair = make("edit_plus")
    mask = mask_of(SQUARE, (20, 10, 50, 40))
    outside = levels(mask)[..., 0] == 0
    for raster in pictures(run(pair.crank(), make_work(inputs=2, count=2, mask=mask, edited=1))).values():
        given = levels(picture(1))
        assert (levels(raster)[outside] == given[outside]).all()
        assert (levels(raster)[~outside] != given[~outside]).any()


def test_an_edit_of_less_strength_takes_fewer_steps(make: Callable[[str], Pair]) -> None:
    pair = make("edit_plus")
    steps = [
        run(pair.crank(), make_work(inputs=1, knobs={"strength": strength})).of(Started)[0].steps
        for strength in (0.0, 0.5, 1.0)
    ]
    assert steps == [1, STEPS // 2, STEPS]
