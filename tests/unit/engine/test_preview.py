"""Previews: the map from latents to colours, where it is kept, when one is made, and that none changes a picture."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLQwenImage21
from PIL import Image

from danqing.core.events import Event, ImageReady, Preview, Stepped
from danqing.core.raster import Size
from danqing.engine import preview
from danqing.engine.families.contract import plan
from danqing.engine.families.qwen import channels
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.preview import FINEST, PIXELS, SIDE, SWATCH_SIDE, SWATCHES, Fit, Map
from danqing.engine.swatches import swatch
from danqing.engine.viewfinder import EVERY, Viewfinder
from danqing.profiles.loader import Native, Preset, Profile, load_profile
from tests.support.tiny_1x import tiny_1x
from tests.unit.engine.conftest import STEPS, Crank, make_work

ROWS = SWATCH_SIDE // PIXELS


@pytest.fixture(scope="session")
def one_x(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> QwenImage1:
    folder = tmp_path_factory.mktemp("one_x")
    tiny_1x(folder, "edit_plus")
    return QwenImage1(folder, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module", params=["2.1", "1.x"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("family" if request.param == "2.1" else "one_x")


class Finder(Viewfinder):
    """Fits from few swatches, all at once, on a clock turned by hand."""

    def __init__(self, families: dict[str, Any], folder: Path | None = None) -> None:
        self.time = 0.0
        super().__init__(families, folder, lambda: self.time)


@pytest.fixture(autouse=True)
def few_swatches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "SWATCHES", 12)


def told(crank: Crank, folder: Path | None = None) -> Finder:
    """A viewfinder for the engine, its map fitted."""
    finder = Finder(crank.engine._families, folder)  # type: ignore[arg-type]
    crank.engine.viewfinder = finder
    while finder.prepare():
        pass
    return finder


def pixels(seen: Preview) -> np.ndarray[Any, Any]:
    shape = (seen.raster.size.height, seen.raster.size.width, 3)
    return np.frombuffer(seen.raster.data, np.uint8).reshape(shape)


# -- the map


def test_a_world_that_is_linear_is_learned_exactly() -> None:
    """Latents that are the picture's own cell colours, mixed: the map can only be the mixture's inverse."""
    mix = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]

    def latents(picture: Image.Image) -> torch.Tensor:
        levels = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32)) / 127.5 - 1
        cells = torch.nn.functional.avg_pool2d(levels.permute(2, 0, 1)[None], 8)
        return torch.nn.functional.pixel_unshuffle(cells, 2).flatten(2).transpose(1, 2) @ mix

    fit = Fit()
    for _ in range(80):
        picture = fit.next()
        fit.see(picture, latents(picture))
    found = fit.solved()
    unseen = swatch(1001, SWATCH_SIDE)
    coarse = preview.Map(found.weight, found.bias, found.fit)._of(2)
    grid = latents(unseen).transpose(1, 2).reshape(1, 12, ROWS, ROWS)
    colours = torch.nn.functional.conv2d(
        torch.nn.functional.pad(grid, (1, 1, 1, 1), mode="replicate"), *coarse
    )
    shown = torch.nn.functional.pixel_shuffle(colours, 2)
    levels = torch.from_numpy(np.asarray(unseen.convert("RGB"), dtype=np.float32)) / 127.5 - 1
    right = torch.nn.functional.avg_pool2d(levels.permute(2, 0, 1)[None], 8)
    assert (shown - right).abs().max() < 0.02


def test_a_map_of_the_miniature_shows_scenes_it_has_not_seen(
    one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its autoencoder alone is loaded. A mean colour a token would leave 0.3 of the variance unexplained."""
    checkpoint = load_profile("miniature").checkpoints["miniature"]
    assert checkpoint.folder is not None
    eye = QwenImage21.__new__(QwenImage21)
    eye.device, eye.dtype = torch.device("cpu"), torch.float32
    eye.vae = AutoencoderKLQwenImage21.from_pretrained(checkpoint.folder / "vae").eval()
    eye._mean = channels(eye.vae.config.latents_mean, eye.device, eye.dtype)
    eye._std = channels(eye.vae.config.latents_std, eye.device, eye.dtype)
    fit = Fit()
    for _ in range(40):
        picture = fit.next()
        fit.see(picture, eye.latents(picture))
    found = fit.solved()
    errors, spread = 0.0, 0.0
    for number in range(500, 508):
        picture = swatch(number, SWATCH_SIDE)
        small = found.raster(eye.latents(picture), Size(SWATCH_SIDE, SWATCH_SIDE))
        shown = np.frombuffer(small.data, np.uint8).astype(float)
        right = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BOX), float).ravel()
        errors += float(((shown - right) ** 2).sum())
        spread += float(((right - right.mean()) ** 2).sum())
    assert errors / spread < 0.2
    assert found.fit > 0.8


@pytest.mark.parametrize(
    ("drawn", "shown"),
    [
        (Size(128, 128), Size(64, 64)),
        (Size(512, 256), Size(256, 128)),
        (Size(1024, 1024), Size(256, 256)),
        (Size(1040, 1024), Size(130, 128)),
        (Size(2048, 512), Size(256, 64)),
        (Size(4096, 32), Size(256, 2)),
        (Size(8192, 8192), Size(256, 256)),
        (Size(16, 16), Size(8, 8)),
    ],
)
def test_no_preview_is_larger_than_256_pixels_a_side(drawn: Size, shown: Size) -> None:
    found = Map(torch.randn(3 * FINEST**2, 4, 3, 3), torch.zeros(3 * FINEST**2), 1.0)
    raster = found.raster(torch.randn(1, drawn.area // PIXELS**2, 4), drawn)
    assert raster.size == shown
    assert max(raster.size.width, raster.size.height) <= SIDE


def test_swatches_are_the_same_every_time_and_unlike_each_other() -> None:
    assert [swatch(n, 32).tobytes() for n in range(8)] == [swatch(n, 32).tobytes() for n in range(8)]
    assert len({swatch(n, 32).tobytes() for n in range(SWATCHES)}) == SWATCHES


def test_numbers_that_are_not_finite_make_no_map() -> None:
    fit = Fit()
    fit.see(fit.next(), torch.full((1, ROWS**2, 4), float("nan")))
    with pytest.raises(RuntimeError):
        fit.solved()


# -- what it is kept under


def test_a_kept_map_is_read_back_for_its_own_autoencoder_alone(
    family: QwenImage21, one_x: QwenImage1, tmp_path: Path
) -> None:
    finder = Finder({"a": family}, tmp_path)
    while finder.prepare():
        pass
    name = preview.identity(family.vae, "QwenImage21")
    assert [file.name for file in tmp_path.iterdir()] == [f"{name}.safetensors"]
    kept = preview.recalled(tmp_path, name)
    assert kept is not None
    assert torch.equal(kept.weight, finder._maps["a"].weight)  # type: ignore[union-attr]
    assert preview.identity(one_x.vae, "QwenImage1") != name
    assert preview.recalled(tmp_path, preview.identity(one_x.vae, "QwenImage1")) is None


def test_a_map_lies_where_pictures_are_computed_wherever_the_autoencoder_lies_meanwhile(
    family: QwenImage21, tmp_path: Path
) -> None:
    """Where modules come and go, the autoencoder waits in main memory for its turn."""
    finder = Finder({"a": family}, tmp_path)
    while finder.prepare():
        pass
    elsewhere = copy.copy(family)
    elsewhere.device = torch.device("meta")
    kept = Finder({"a": elsewhere}, tmp_path).map("a")
    assert kept is not None
    assert kept.weight.device.type == "meta"


def test_one_other_weight_makes_it_another_autoencoder(family: QwenImage21) -> None:
    before = preview.identity(family.vae, "QwenImage21")
    with torch.no_grad():
        parameter = next(family.vae.parameters())
        kept = parameter.flatten()[0].item()
        parameter.flatten()[0] += 1e-3
        changed = preview.identity(family.vae, "QwenImage21")
        parameter.flatten()[0] = kept
    assert changed != before
    assert preview.identity(family.vae, "QwenImage21") == before
    assert preview.identity(family.vae, "QwenImage1") != before


@pytest.mark.parametrize("rubbish", [b"", b"no tensors here", b"\xff" * 64])
def test_a_file_that_is_no_map_is_fitted_anew(family: QwenImage21, tmp_path: Path, rubbish: bytes) -> None:
    name = preview.identity(family.vae, "QwenImage21")
    (tmp_path / f"{name}.safetensors").write_bytes(rubbish)
    assert preview.recalled(tmp_path, name) is None
    finder = Finder({"a": family}, tmp_path)
    while finder.prepare():
        pass
    assert preview.recalled(tmp_path, name) is not None


def test_a_map_under_another_ones_name_is_not_used(family: QwenImage21, tmp_path: Path) -> None:
    finder = Finder({"a": family}, tmp_path)
    while finder.prepare():
        pass
    (own,) = tmp_path.iterdir()
    own.rename(tmp_path / f"{'0' * 64}.safetensors")
    assert preview.recalled(tmp_path, "0" * 64) is None


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_keeping(
    family: QwenImage21, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    finder = Finder({"a": family}, tmp_path / "file")
    while finder.prepare():
        pass
    assert finder._maps["a"] is not None


# -- the clean latents


def test_what_a_step_foresees_is_latents_minus_noise_level_times_velocity(either: Any) -> None:
    made = plan(make_work(), Preset("tiny", STEPS, 1.0, 3.0), Native())
    prefix = either.prefill(made, either.encode(made))
    lane = either.begin(made, prefix, 0)
    before, heard = lane.latents.clone(), []
    velocity = either._velocity

    def listening(*given: Any) -> torch.Tensor:
        heard.append(velocity(*given))
        return heard[-1]

    either._velocity = listening
    try:
        either.step(made, [lane])
    finally:
        del either._velocity
    level = lane.scheduler.sigmas[0]
    assert torch.allclose(either.predicted(lane), before - level * heard[0], atol=1e-5)
    for _ in range(STEPS - 1):
        either.step(made, [lane])
    assert torch.equal(either.predicted(lane), lane.latents)


def test_nothing_is_foreseen_before_the_first_step(family: QwenImage21) -> None:
    made = plan(make_work(), Preset("tiny", STEPS, 1.0, 3.0), Native())
    lane = family.begin(made, family.prefill(made, family.encode(made)), 0)
    with pytest.raises(RuntimeError):
        family.predicted(lane)


# -- when


def ticking(crank: Crank, finder: Finder, seconds: float) -> Iterator[Event]:
    """Turn the engine, a tick every so many seconds."""
    while crank.engine.tick():
        finder.time += seconds
    yield from crank.heard


def test_the_first_step_of_a_watched_job_has_a_preview_that_comes_before_it(
    crank: Callable[..., Crank],
) -> None:
    made = crank()
    finder = told(made)
    made.engine.watch("a", on=True)
    made.start(make_work("a"))
    told_of = [event for event in ticking(made, finder, EVERY) if isinstance(event, Preview | Stepped)]
    assert [type(event) for event in told_of] == [Preview, Stepped] * STEPS
    assert [(e.index, e.step, e.steps) for e in made.of(Preview)] == [(0, n + 1, STEPS) for n in range(STEPS)]


def test_nobody_watches_nobody_is_told(crank: Callable[..., Crank]) -> None:
    made = crank()
    finder = told(made)
    made.engine.watch("b", on=True)
    made.engine.watch("a", on=True)
    made.engine.watch("a", on=False)
    made.start(make_work("a"))
    assert not [event for event in ticking(made, finder, 1.0) if isinstance(event, Preview)]


def test_a_job_has_at_most_four_previews_a_second(crank: Callable[..., Crank], profile: Profile) -> None:
    made = crank()
    finder = told(made)
    for token in ("a", "b"):
        made.engine.watch(token, on=True)
    made.start(make_work("a", count=3), make_work("b", count=3))
    moments: dict[str, list[float]] = {"a": [], "b": []}

    def hear(event: Event) -> None:
        if isinstance(event, Preview):
            moments[event.token].append(finder.time)

    made.engine.listen(hear)
    while made.engine.tick():
        finder.time += 0.01
    for seen in moments.values():
        assert seen
        assert all(later - earlier >= EVERY for earlier, later in itertools.pairwise(seen))


def test_the_parts_of_a_watched_job_are_watched(crank: Callable[..., Crank]) -> None:
    made = crank()
    finder = told(made)
    made.engine.watch("a", on=True)
    made.start(make_work("a/1"))
    assert [event.token for event in ticking(made, finder, EVERY) if isinstance(event, Preview)] == [
        "a/1"
    ] * STEPS


def test_pictures_that_advance_together_take_turns(profile: Profile, family: QwenImage21) -> None:
    made = Crank(profile, family, half=1e9)  # so large that a batch always pays
    finder = told(made)
    made.engine.watch("a", on=True)
    made.start(make_work("a", count=2))
    shown = [event.index for event in ticking(made, finder, EVERY) if isinstance(event, Preview)]
    assert shown == [0, 1] * (STEPS // 2)


def test_previews_change_no_picture(profile: Profile, either: Any) -> None:
    """X2's sharper sister: bit-equal, with and without, guidance on and off, several pictures, inputs."""
    for asked in ({}, {"negative": "blue", "count": 2}, {"inputs": 1}):
        plain, shown = Crank(profile, either), Crank(profile, either)
        finder = told(shown)
        shown.engine.watch("a", on=True)
        plain.start(make_work("a", **asked))  # type: ignore[arg-type]
        shown.start(make_work("a", **asked))  # type: ignore[arg-type]
        plain.turn()
        list(ticking(shown, finder, EVERY))
        assert shown.of(Preview)
        assert shown.of(ImageReady) == plain.of(ImageReady)


def test_what_is_shown_turns_into_the_picture(crank: Callable[..., Crank]) -> None:
    made = crank()
    finder = told(made)
    made.engine.watch("a", on=True)
    made.start(make_work("a"))
    list(ticking(made, finder, EVERY))
    first, last = pixels(made.of(Preview)[0]), pixels(made.of(Preview)[-1])
    assert first.shape == last.shape == (32, 32, 3)
    assert (first != last).any()


# -- fitting beside work


def test_while_a_map_is_missing_a_watched_job_has_it_fitted_bit_by_bit(crank: Callable[..., Crank]) -> None:
    made = crank()
    finder = Finder(made.engine._families)  # type: ignore[arg-type]
    made.engine.viewfinder = finder
    finder._now = _hurrying(finder)
    made.engine.watch("a", on=True)
    made.start(make_work("a", count=2))
    made.turn()
    assert len(made.of(ImageReady)) == 2
    assert finder._fits["tiny"][1].seen == 2 * STEPS
    assert not made.of(Preview)
    made.start(make_work("b"))
    made.turn()
    assert finder._fits["tiny"][1].seen == 2 * STEPS  # nobody watches that one


def _hurrying(finder: Finder) -> Callable[[], float]:
    """A clock on which every look takes a second."""

    def now() -> float:
        finder.time += 1.0
        return finder.time

    return now


def test_an_autoencoder_that_cannot_be_fitted_means_no_previews_and_nothing_else(
    crank: Callable[..., Crank], family: QwenImage21, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = crank()
    finder = Finder(made.engine._families)  # type: ignore[arg-type]
    made.engine.viewfinder = finder
    monkeypatch.setattr(family, "latents", lambda picture: torch.full((1, ROWS**2, 4), float("nan")))
    while finder.prepare():
        pass
    made.engine.watch("a", on=True)
    made.start(make_work("a"))
    made.turn()
    assert len(made.of(ImageReady)) == 1
    assert not made.of(Preview)


def test_a_kept_map_that_cannot_be_used_means_no_previews_and_nothing_else(
    crank: Callable[..., Crank], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = crank()
    finder = Finder(made.engine._families)  # type: ignore[arg-type]
    made.engine.viewfinder = finder

    def broken(*_: Any) -> str:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(preview, "identity", broken)
    assert finder.prepare()
    assert not finder.prepare(), "it is not tried again"
    made.engine.watch("a", on=True)
    made.start(make_work("a"))
    made.turn()
    assert len(made.of(ImageReady)) == 1
    assert not made.of(Preview)
