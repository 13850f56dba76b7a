"""Pictures that are nobody's scene, so that the autoencoder learns edges, textures and letters of every kind.

Dead leaves (overlapping shapes whose sizes follow a power law) have the statistics of photographs: Lee, Mumford and
Huang, "Occlusion models for natural images", 2001. Knows pixels only: no words, no judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Pixels = NDArray[np.uint8]
Rng = np.random.Generator
Colour = tuple[int, int, int]

FINER = 2  # drawn at this multiple and averaged down, for soft edges
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def _palette(rng: Rng) -> Callable[[], Colour]:
    """Colours of one picture go together: a centre, a spread, and sometimes anything."""
    centre, spread = rng.uniform(0, 255, 3), rng.uniform(20, 110)

    def draw() -> Colour:
        loose = rng.random() < 0.3
        colour = rng.uniform(0, 255, 3) if loose else np.clip(rng.normal(centre, spread), 0, 255)
        return int(colour[0]), int(colour[1]), int(colour[2])

    return draw


def _blob(rng: Rng, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """The corners of an irregular polygon, or of something round."""
    corners = int(rng.choice([3, 4, 4, 5, 6, 8, 24]))
    angles = (
        np.sort(rng.uniform(0, 2 * math.pi, corners)) if corners < 24 else np.linspace(0, 2 * math.pi, 24)
    )
    stretch = rng.uniform(0.5, 1)
    return [(x + radius * math.cos(a), y + radius * stretch * math.sin(a)) for a in angles]


def leaves(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Shapes over shapes until nothing of the ground is left."""
    width, height = (side * FINER for side in size)
    picture, colour = Image.new("RGB", (width, height)), _palette(rng)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, width, height), fill=colour())
    least, most = 0.02 * min(width, height), 0.45 * min(width, height)
    for _ in range(int(rng.integers(8, 90))):
        radius = (least**-2 + rng.random() * (most**-2 - least**-2)) ** -0.5 * rng.choice([1, 1, 3])
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        pen.polygon(_blob(rng, x, y, min(radius, most)), fill=colour())
    return picture.resize(size, Image.Resampling.BOX)


def strokes(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Lines, arcs and letters on a plain or shaded ground."""
    width, height = (side * FINER for side in size)
    picture = gradient(rng, (width, height)) if rng.random() < 0.4 else Image.new("RGB", (width, height))
    pen, colour = ImageDraw.Draw(picture), _palette(rng)
    if picture.getpixel((0, 0)) == (0, 0, 0):
        pen.rectangle((0, 0, width, height), fill=colour() if rng.random() < 0.6 else (250, 250, 250))
    for _ in range(int(rng.integers(1, 8))):
        thick = int(rng.integers(1, 7)) * FINER
        spots = [(rng.uniform(0, width), rng.uniform(0, height)) for _ in range(int(rng.integers(2, 5)))]
        if rng.random() < 0.7:
            pen.line(spots, fill=colour(), width=thick, joint="curve")
        else:
            (a, b), (c, d) = spots[0], spots[1]
            pen.ellipse((min(a, c), min(b, d), max(a, c), max(b, d)), outline=colour(), width=thick)
    for _ in range(int(rng.integers(0, 4))):
        word = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 7))))
        font = ImageFont.load_default(int(rng.uniform(9, 44)) * FINER)
        where = (rng.uniform(-0.1, 0.8) * width, rng.uniform(-0.1, 0.9) * height)
        pen.text(where, word, fill=colour(), font=font)
    return picture.resize(size, Image.Resampling.BOX)


def gradient(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Light falling off in one direction."""
    width, height = size
    angle = rng.uniform(0, 2 * math.pi)
    across, down = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
    along = (0.5 + 0.36 * (across * math.cos(angle) + down * math.sin(angle)))[..., None]
    first, second = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    return Image.fromarray(np.clip(first + (second - first) * along, 0, 255).astype(np.uint8))


def clouds(rng: Rng, size: tuple[int, int], roughness: float) -> NDArray[np.float32]:
    """Noise whose amplitude falls as 1 / f ** roughness; mean 0, deviation 1; height x width x 3."""
    width, height = size
    far = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    far[0, 0] = np.inf
    weight = far**-roughness
    planes = [
        np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * weight, (height, width)) for _ in "rgb"
    ]
    stack = np.stack(planes, axis=-1)
    grey = stack[..., :1]
    mixed = grey + rng.uniform(0, 0.5) * (stack - grey)
    return np.asarray((mixed - mixed.mean()) / (mixed.std() + 1e-6), dtype=np.float32)


def photograph_like(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Dead leaves with texture, falling light and a lens a little out of focus."""
    ground = np.asarray(leaves(rng, size), dtype=np.float32)
    texture = clouds(rng, size, float(rng.uniform(0.6, 1.4))) * rng.uniform(4, 22)
    light = np.asarray(gradient(rng, size).convert("L"), dtype=np.float32)[..., None] / 255 * 0.7 + 0.6
    picture = Image.fromarray(np.clip((ground + texture) * light, 0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2))))


def cloudy(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Smoke, water, skin: no edges at all."""
    base = np.asarray(gradient(rng, size), dtype=np.float32)
    return Image.fromarray(
        np.clip(base + clouds(rng, size, float(rng.uniform(0.9, 2))) * rng.uniform(8, 50), 0, 255).astype(
            np.uint8
        )
    )


KINDS: tuple[tuple[float, Callable[[Rng, tuple[int, int]], Image.Image]], ...] = (
    (0.35, leaves),
    (0.3, strokes),
    (0.2, photograph_like),
    (0.15, cloudy),
)


def any_picture(rng: Rng, size: tuple[int, int]) -> Pixels:
    """One picture of any kind; `size` is (width, height), the array height x width x 3."""
    shares = np.array([share for share, _ in KINDS])
    _, kind = KINDS[int(rng.choice(len(KINDS), p=shares / shares.sum()))]
    return np.asarray(kind(rng, size), dtype=np.uint8)
