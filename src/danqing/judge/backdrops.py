"""What is behind the things: bands and a few rectangles, at any size. Knows colours, not things."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from danqing.judge.colour import apart, lab
from danqing.judge.world import BACKGROUNDS, COLOURS, Rgb

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]

# Left, top, right, bottom as fractions, painted in this order.
Rectangle = tuple[float, float, float, float, Rgb]
_WHOLE = (0.0, 0.0, 1.0, 1.0)
BACKDROPS: dict[str, tuple[Rectangle, ...]] = {
    "white": ((*_WHOLE, (247, 247, 247)),),
    "grey": ((*_WHOLE, (158, 160, 165)),),
    "cream": ((*_WHOLE, (243, 226, 190)),),
    "beach": (
        (*_WHOLE, (150, 212, 240)),
        (0.0, 0.42, 1.0, 1.0, (64, 160, 196)),
        (0.0, 0.64, 1.0, 1.0, (230, 204, 148)),
    ),
    "night": ((*_WHOLE, (30, 38, 92)), (0.0, 0.74, 1.0, 1.0, (86, 90, 122))),
    "grass": ((*_WHOLE, (186, 226, 246)), (0.0, 0.46, 1.0, 1.0, (138, 200, 92))),
    "snow": ((*_WHOLE, (168, 188, 214)), (0.0, 0.5, 1.0, 1.0, (240, 244, 250))),
    "room": ((*_WHOLE, (214, 190, 196)), (0.0, 0.62, 1.0, 1.0, (176, 132, 96))),
    "classroom": (
        (*_WHOLE, (228, 220, 200)),
        (0.0, 0.8, 1.0, 1.0, (168, 122, 84)),
        (0.1, 0.1, 0.9, 0.66, (142, 98, 60)),
        (0.13, 0.13, 0.87, 0.63, (48, 88, 76)),
    ),
}
LEAST_CONTRAST = 32.0  # in CIELAB, between a thing and anything behind it


@lru_cache(maxsize=256)
def backdrop(name: str, width: int, height: int) -> Pixels:
    """The background alone. The array is shared: do not write into it."""
    picture = np.zeros((height, width, 3), dtype=np.float32)
    for left, top, right, bottom, colour in BACKDROPS[name]:
        cover = _span(top, bottom, height)[:, None] * _span(left, right, width)[None]
        picture = mix(picture, colour, cover[:, :, None])
    shared = (picture + 0.5).astype(np.uint8)
    shared.setflags(write=False)
    return shared


def _span(start: float, end: float, pixels: int) -> Plane:
    """How much of each pixel lies between two fractions of the side."""
    edge = np.arange(pixels, dtype=np.float32)
    share = np.minimum(edge + 1, end * pixels) - np.maximum(edge, start * pixels)
    return np.asarray(np.clip(share, 0, 1), dtype=np.float32)


def mix(under: Plane, colour: Rgb, cover: Plane) -> Plane:
    """A colour over what is there."""
    return np.asarray(under + (np.asarray(colour, np.float32) - under) * cover, dtype=np.float32)


def _contrast(colour: Rgb, background: str) -> float:
    behind = lab(np.array([rectangle[4] for rectangle in BACKDROPS[background]], np.uint8))
    return float(apart(lab(np.array(colour, np.uint8)), behind).min())


SHOWS: dict[str, frozenset[str]] = {
    background: frozenset(
        name for name, colour in COLOURS.items() if _contrast(colour, background) >= LEAST_CONTRAST
    )
    for background in BACKGROUNDS
}
"""The colours that can be told from every part of a background."""
