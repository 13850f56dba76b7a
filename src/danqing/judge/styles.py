"""A picture made other: redrawn in a style, or spoilt so that somebody has to mend it. Knows pixels, not scenes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from danqing.judge.backdrops import Pixels

Rng = np.random.Generator
Reals = NDArray[np.float32]

PAPER = 250.0
INK = 40.0
BLOCKS = 16  # of the pixel style, along the shorter side
EDGE = 14  # two neighbours that differ by more are parted by a line
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # luma of ITU-R BT.601


def _outline(flat: Pixels) -> Pixels:
    """Ink lines on paper wherever colours meet."""
    height, width = flat.shape[:2]
    signed = flat.astype(np.int16)
    line = np.zeros((height, width), dtype=np.bool_)
    across = np.abs(signed[:, 1:] - signed[:, :-1]).max(-1) > EDGE
    down = np.abs(signed[1:] - signed[:-1]).max(-1) > EDGE
    line[:, 1:] |= across
    line[:, :-1] |= across
    line[1:] |= down
    line[:-1] |= down
    thick = max(1, round(min(width, height) / 128))
    soft = blur(line.astype(np.float32)[..., None], thick)
    ink = np.clip(2.2 * soft, 0, 1)
    return np.repeat(PAPER + (INK - PAPER) * ink, 3, axis=-1).astype(np.uint8)


def _pixel(flat: Pixels) -> Pixels:
    """Blocks of their mean colour."""
    height, width = flat.shape[:2]
    side = max(1, min(width, height) // BLOCKS)
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)
    sums = np.add.reduceat(np.add.reduceat(flat.astype(np.float32), rows, axis=0), columns, axis=1)
    counts = np.diff(np.append(rows, height))[:, None] * np.diff(np.append(columns, width))[None]
    means = sums / counts[..., None]
    return (np.repeat(np.repeat(means, side, 0)[:height], side, 1)[:, :width] + 0.5).astype(np.uint8)


def _night(flat: Pixels) -> Pixels:
    """As by moonlight: dark and blue."""
    tint = np.array([0.38, 0.44, 0.66], dtype=np.float32)
    return (flat * tint + np.array([4, 8, 26], dtype=np.float32)).astype(np.uint8)


_STYLES: dict[str, Callable[[Pixels], Pixels]] = {"outline": _outline, "pixel": _pixel, "night": _night}


def restyle(style: str, flat: Pixels) -> Pixels:
    """The flat picture in another style of the world."""
    return _STYLES[style](flat)


def blur(picture: Reals, radius: int) -> Reals:
    """A box blur, edges repeated; height x width x channels."""
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (radius, radius)
        wide = np.pad(picture, pad, mode="edge")
        length = picture.shape[axis]
        parts = [np.take(wide, range(step, step + length), axis=axis) for step in range(2 * radius + 1)]
        picture = np.asarray(sum(parts) / len(parts), dtype=np.float32)
    return picture


def _old(clean: Pixels, rng: Rng) -> Pixels:
    """Faded, grainy, scratched: an old print."""
    height, width = clean.shape[:2]
    picture = clean.astype(np.float32) * 0.82 + np.array([34, 28, 14], dtype=np.float32)
    picture += rng.normal(0, 11, (height, width, 1)).astype(np.float32)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(int(rng.integers(3, 8))):
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, np.pi)
        aside = (columns - x) * np.sin(angle) - (rows - y) * np.cos(angle)
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        thick, reach = rng.uniform(0.5, 1.3) * height / 128, rng.uniform(0.2, 0.7) * width
        scratch = np.clip(thick + 0.5 - np.abs(aside), 0, 1) * (np.abs(along) < reach)
        picture += (float(rng.choice([245, 245, 60])) - picture) * scratch[..., None] * 0.85
    spoilt: Pixels = np.clip(picture, 0, 255).astype(np.uint8)
    return spoilt


def _grey(clean: Pixels, rng: Rng) -> Pixels:  # noqa: ARG001 - one signature for all
    """Black and white."""
    grey: Pixels = np.asarray(clean @ _GREY, dtype=np.uint8)[..., None]
    return np.asarray(np.repeat(grey, 3, axis=-1))


def _small(clean: Pixels, rng: Rng) -> Pixels:
    """Blown up from a quarter of its size."""
    radius = max(1, round(min(clean.shape[:2]) / 128 * float(rng.uniform(2.2, 3.4))))
    return (blur(blur(clean.astype(np.float32), radius), radius) + 0.5).astype(np.uint8)


def _sketch(clean: Pixels, rng: Rng) -> Pixels:  # noqa: ARG001 - one signature for all
    """Only its lines."""
    return _outline(clean)


SPOILT: dict[str, Callable[[Pixels, Rng], Pixels]] = {
    "old": _old,
    "grey": _grey,
    "small": _small,
    "sketch": _sketch,
}


def spoil(how: str, clean: Pixels, rng: Rng) -> Pixels:
    """The clean picture as it comes in to be mended."""
    return SPOILT[how](clean, rng)
