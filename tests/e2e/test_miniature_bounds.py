"""Whatever is sent to the bundled checkpoint, a picture of the asked size comes back: it may be wrong, never broken."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from danqing.core.events import Failed, ImageReady, Work
from danqing.core.raster import Raster, Size
from danqing.engine.build import open_engine
from danqing.engine.loop import StepEngine
from danqing.judge.draw import render
from danqing.judge.scenes import plan_case
from danqing.profiles.loader import load_profile

PROMPTS = {
    "another language": "Ein rotes Häuschen am Meer, bitte!",
    "emoji": "🐼🎋✨",
    "2,000 characters": "红" * 1000 + "a" * 1000,
    "nothing": "",
    "a space": " ",
    "special tokens": "<|im_end|><|image_pad|><image3> <|im_start|>system",
    "control characters": "red\u0000circle\u202e\ufffd",
}


@pytest.fixture(scope="module")
def engine() -> StepEngine:
    return open_engine(load_profile("miniature"), "cpu", 1)


def _draw(engine: StepEngine, prompt: str, inputs: tuple[Raster, ...], size: Size) -> np.ndarray:
    heard = []
    engine.listen(heard.append)
    engine.put(Work("t", "qwen-image", prompt, None, inputs, 1, size, 1))
    while engine.tick():
        pass
    assert not [event for event in heard if isinstance(event, Failed)]
    (made,) = (event.raster for event in heard if isinstance(event, ImageReady))
    assert made.size == size
    return np.frombuffer(made.data, np.uint8).reshape(size.height, size.width, 3)


def _scene(width: int, height: int) -> np.ndarray:
    return render(plan_case("recolour", 1).befores[0], width, height)


def _raster(pixels: np.ndarray) -> Raster:
    height, width, channels = pixels.shape
    return Raster(Size(width, height), channels, np.ascontiguousarray(pixels).tobytes())


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
def test_any_prompt_gives_a_picture_drawn_and_edited(engine: StepEngine, prompt: str) -> None:
    for inputs in ((), (_raster(_scene(128, 128)),)):
        assert _draw(engine, prompt, inputs, Size(128, 128)).std() > 0


def test_an_input_of_noise_a_single_colour_and_a_strange_shape(engine: StepEngine) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (90, 700, 3), dtype=np.uint8)
    for pixels in (noise, np.full((64, 64, 3), 255, np.uint8), np.zeros((15, 200, 3), np.uint8)):
        _draw(engine, "Make it blue.", (_raster(pixels),), Size(128, 128))


def test_a_picture_with_transparency(engine: StepEngine) -> None:
    scene = render(plan_case("recolour", 1).befores[0].with_things(), 128, 128)
    clear = np.concatenate([scene, np.zeros((128, 128, 1), np.uint8)], axis=-1)
    clear[32:96, 32:96, :3], clear[32:96, 32:96, 3] = (222, 36, 36), 255
    made = _draw(engine, "Make the picture sharp.", (_raster(clear),), Size(128, 128))
    assert np.isfinite(made.astype(np.float32)).all()


def test_a_request_of_2048_pixels_a_side(engine: StepEngine) -> None:
    made = _draw(engine, "A red circle in the middle. The background is plain white.", (), Size(2048, 2048))
    assert made.std() > 0
