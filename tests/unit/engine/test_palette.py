"""A picture takes the colours asked for, in their shares, and keeps its shapes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from danqing.core.events import Work
from danqing.core.raster import Raster, Size
from danqing.engine import finish
from danqing.engine.palette import Palette, recoloured
from danqing.judge.colour import lab
from danqing.judge.scenes import draw_case
from training.pictures import any_picture

SIDE = 96
PICTURES = 50


def ciede2000(one: np.ndarray, other: np.ndarray) -> float:
    """Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", 2005, for one pair."""
    (l1, a1, b1), (l2, a2, b2) = (tuple(float(x) for x in colour) for colour in (one, other))
    c7 = ((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2) ** 7
    g = 0.5 * (1 - math.sqrt(c7 / (c7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = math.degrees(math.atan2(b1, a1)) % 360, math.degrees(math.atan2(b2, a2)) % 360
    dh = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    dl, dc = l2 - l1, c2 - c1
    dh_big = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(dh) / 2)
    light, c = (l1 + l2) / 2, (c1 + c2) / 2
    h = h1 + h2 if c1 * c2 == 0 else ((h1 + h2) / 2 + (180 if abs(h1 - h2) > 180 else 0)) % 360
    t = (
        1
        - 0.17 * math.cos(math.radians(h - 30))
        + 0.24 * math.cos(math.radians(2 * h))
        + 0.32 * math.cos(math.radians(3 * h + 6))
        - 0.20 * math.cos(math.radians(4 * h - 63))
    )
    turn = (
        -math.sin(math.radians(60 * math.exp(-(((h - 275) / 25) ** 2))))
        * 2
        * math.sqrt(c**7 / (c**7 + 25**7))
    )
    sl = 1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2)
    sc, sh = 1 + 0.045 * c, 1 + 0.015 * c * t
    parts = (dl / sl, dc / sc, dh_big / sh)
    return math.sqrt(sum(part**2 for part in parts) + turn * parts[1] * parts[2])


def _random_palette(rng: np.random.Generator) -> Palette:
    """Three to seven colours that can be told apart."""
    colours: list[tuple[int, int, int]] = []
    count = int(rng.integers(3, 8))
    while len(colours) < count:
        fresh = tuple(int(x) for x in rng.integers(0, 256, 3))
        seen = lab(np.array([fresh, *colours], np.uint8))
        if all(np.linalg.norm(seen[0] - other) > 25 for other in seen[1:]):
            colours.append(fresh)  # type: ignore[arg-type]
    shares = rng.dirichlet(np.full(count, 4.0))
    return Palette(tuple(colours), tuple(float(share) for share in shares))


def _delivered(pixels: np.ndarray, palette: Palette) -> list[tuple[float, float]]:
    """For every colour asked for: how far the middle of its pixels is from it, and its share."""
    seen = lab(pixels).reshape(-1, 3)
    wanted = lab(np.array(palette.colours, np.uint8))
    nearest = np.linalg.norm(seen[:, None] - wanted[None], axis=-1).argmin(1)
    told = []
    for number, colour in enumerate(wanted):
        mine = seen[nearest == number]
        told.append(
            (ciede2000(np.median(mine, axis=0), colour) if len(mine) else 100.0, len(mine) / len(seen))
        )
    return told


def _through(pixels: np.ndarray, palette: Palette) -> np.ndarray:
    height, width = pixels.shape[:2]
    made = recoloured(Raster(Size(width, height), 3, np.ascontiguousarray(pixels).tobytes()), palette)
    return np.frombuffer(made.data, np.uint8).reshape(height, width, 3)


def test_fifty_pictures_get_their_palettes_and_shares() -> None:
    rng = np.random.default_rng(1)
    distances, errors = [], []
    for number in range(PICTURES):
        scene = number % 2
        pixels = (
            draw_case("text_to_image", number, "en", size=(SIDE, SIDE)).truth
            if scene
            else any_picture(rng, (SIDE, SIDE))
        )
        palette = _random_palette(rng)
        told = _delivered(_through(pixels, palette), palette)
        distances.append(np.mean([distance for distance, _ in told]))
        errors.append(max(abs(share - asked) for (_, share), asked in zip(told, palette.shares, strict=True)))
    assert np.mean(distances) <= 10
    assert np.mean(errors) <= 0.1
    assert np.quantile(errors, 0.9) <= 0.1, sorted(errors)[-8:]


def test_shapes_stay_where_they_are() -> None:
    pixels = np.full((64, 64, 3), 250, np.uint8)
    pixels[16:48, 16:48] = (20, 20, 20)
    made = _through(pixels, Palette.parse("#204080 25, #f0e0c0 75"))
    assert np.abs(made[32, 32].astype(int) - (0x20, 0x40, 0x80)).max() < 12
    assert np.abs(made[4, 4].astype(int) - (0xF0, 0xE0, 0xC0)).max() < 12


def test_the_engine_moves_a_picture_only_when_a_palette_was_asked_for() -> None:
    size = Size(16, 16)
    grey = Raster(size, 3, bytes([128]) * 768)
    plain = Work("t", "m", "p", None, (), 1, size, 1)
    assert finish.finished(grey, plain) is grey
    asked = replace(plain, knobs={finish.PALETTE: "#ff0000 10000, #00ff00 0, #0000ff 0"})
    moved = np.frombuffer(finish.finished(grey, asked).data, np.uint8).reshape(-1, 3)
    assert moved[:, 0].min() > 200
    assert moved[:, 1:].max() < 60


def test_transparency_stays() -> None:
    clear = np.dstack([np.full((8, 8, 3), 90, np.uint8), np.arange(64, dtype=np.uint8).reshape(8, 8)])
    made = recoloured(
        Raster(Size(8, 8), 4, clear.tobytes()), Palette.parse("#ff0000 1, #00ff00 1, #0000ff 1")
    )
    assert np.array_equal(np.frombuffer(made.data, np.uint8).reshape(8, 8, 4)[..., 3], clear[..., 3])


@pytest.mark.parametrize("text", ["", "#12345 1", "red 1", "#123456", "#123456 -1, #000000 1", "#gggggg 1"])
def test_what_is_no_palette_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Palette.parse(text)


def test_the_difference_formula_agrees_with_published_pairs() -> None:
    pairs = [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1, 2), (50, 0, 0), 2.3669),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ]
    for one, other, distance in pairs:
        assert ciede2000(np.array(one), np.array(other)) == pytest.approx(distance, abs=1e-4)
