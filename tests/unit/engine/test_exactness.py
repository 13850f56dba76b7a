"""The exactness contract of design section "The engine": what the engine draws is what the stock pipeline draws.

Latents agree to 1e-5 in fp32, not to the bit: the engine computes the prefix apart from the target and the time
embedding without the row of the prefix, so matrix products have other row counts and their kernels round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from danqing.core.events import Cancelled, ImageReady, Work
from danqing.core.raster import Raster
from danqing.engine.families.contract import plan
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.profiles.loader import Profile
from danqing.schedule.policy import by_turn
from tests.unit.engine.conftest import SIDE, STEPS, Crank, make_work

TOLERANCE = 1e-5
LEVEL = 1
"""Where latents differ in their last bits, a pixel may round to the neighbouring level."""


def stock_call(stock: Any, work: Work, output_type: str) -> Any:
    pictures = [Image.frombytes("RGB", (r.size.width, r.size.height), r.data) for r in work.inputs]
    return stock(
        work.prompt,
        image=pictures or None,
        negative_prompt=work.negative_prompt,
        true_cfg_scale=3.0 if work.negative_prompt else 1.0,
        height=work.size.height,
        width=work.size.width,
        output_resolution=SIDE,
        num_inference_steps=STEPS,
        num_images_per_prompt=work.count,
        generator=[torch.Generator().manual_seed(work.seed + place) for place in range(work.count)],
        output_type=output_type,
    ).images


def latents_of(family: QwenImage21, profile: Profile, work: Work, *, together: bool) -> torch.Tensor:
    preset = profile.preset(work.model)
    assert preset is not None
    made = plan(work, preset, profile.checkpoints["tiny"].native)
    prefix = family.prefill(made, family.encode(made))
    lanes = [family.begin(made, prefix, index) for index in range(work.count)]
    for _ in range(STEPS):
        for batch in [lanes] if together else [[lane] for lane in lanes]:
            family.step(made, batch)
    return torch.cat([lane.latents for lane in lanes])


@pytest.mark.parametrize("negative", [None, "dull colours"], ids=["plain", "guided"])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("inputs", [0, 1, 2, 3])
def test_alone_is_the_stock_pipeline(
    *, family: QwenImage21, stock: Any, profile: Profile, inputs: int, count: int, negative: str | None
) -> None:
    work = make_work(inputs=inputs, count=count, negative=negative)
    expected = stock_call(stock, work, "latent")
    for together in (False, True):
        torch.testing.assert_close(
            latents_of(family, profile, work, together=together), expected, atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("inputs", [0, 2])
def test_the_delivered_pixels_are_the_stock_pipelines_on_white(
    crank: Callable[..., Crank], stock: Any, inputs: int
) -> None:
    work = make_work(inputs=inputs, count=2)
    made = crank()
    made.start(work)
    made.turn()
    for event, expected in zip(made.of(ImageReady), stock_call(stock, work, "pil"), strict=True):
        white = Image.new("RGB", expected.size, "white")
        white.paste(expected, mask=expected.getchannel("A"))
        assert difference(event.raster, Raster(work.size, 3, white.tobytes())) <= LEVEL


def test_interleaved_jobs_are_the_same_as_alone(crank: Callable[..., Crank]) -> None:
    works = [
        make_work("a", inputs=1),
        make_work("b", count=2, prompt="two blue boats on a lake", seed=3),
        make_work("c", inputs=2, negative="grey"),
    ]
    alone = {key: raster for work in works for key, raster in pictures(run(crank(), work)).items()}
    mixed = pictures(run(crank(urgency=by_turn), *works))
    assert mixed == alone


def test_a_cancelled_neighbour_leaves_no_trace(crank: Callable[..., Crank]) -> None:
    work = make_work("kept", inputs=1, count=2)
    alone = pictures(run(crank(), work))
    mixed = crank(urgency=by_turn)
    mixed.start(make_work("dropped", inputs=2, seed=99), work)
    mixed.turn(7)
    mixed.engine.cancel("dropped")
    mixed.turn()
    assert mixed.of(Cancelled, "dropped")
    assert pictures(mixed) == alone


def test_a_paused_job_goes_on_as_if_never_paused(crank: Callable[..., Crank]) -> None:
    work = make_work("long", inputs=1)
    alone = pictures(run(crank(), work))
    mixed = crank(urgency=lambda lane, _now: -lane.arrived)
    mixed.start(work)
    mixed.turn(4)
    mixed.start(make_work("urgent", count=2))
    mixed.turn()
    assert [event.token for event in mixed.of(ImageReady)] == ["urgent", "urgent", "long"]
    assert pictures(mixed)["long", 0] == alone["long", 0]


def run(made: Crank, *works: Work) -> Crank:
    made.start(*works)
    made.turn()
    return made


def pictures(made: Crank) -> dict[tuple[str, int], Raster]:
    return {(event.token, event.index): event.raster for event in made.of(ImageReady)}


def difference(one: Raster, other: Raster) -> int:
    assert one.size == other.size
    return max(abs(a - b) for a, b in zip(one.data, other.data, strict=True))
