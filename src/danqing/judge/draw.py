"""A scene as pixels, at any size: signed distances and flat colours, numpy only. Refuses to know what is said of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from danqing.judge.world import COLOURS, PLACES, RADIUS, Rgb, Scene, Thing

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]


def _circle(x: Plane, y: Plane) -> Plane:
    return np.asarray(np.hypot(x, y) - np.float32(0.92), dtype=np.float32)


def _square(x: Plane, y: Plane) -> Plane:
    return np.asarray(np.maximum(np.abs(x), np.abs(y)) - np.float32(0.84), dtype=np.float32)


def _diamond(x: Plane, y: Plane) -> Plane:
    sides = np.abs(x) / np.float32(0.72) + np.abs(y) / np.float32(1.04) - 1
    return np.asarray(sides * np.float32(0.59), dtype=np.float32)


def _triangle(x: Plane, y: Plane) -> Plane:
    slope = np.abs(x) * np.float32(0.8716) - (y + np.float32(1.0)) * np.float32(0.4902)
    return np.asarray(np.maximum(slope, y - np.float32(0.74)), dtype=np.float32)


def _star(x: Plane, y: Plane) -> Plane:
    turn = np.arctan2(x, -y)
    sector = np.float32(2 * math.pi / 5)
    folded = np.abs((turn + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    inner, outer = 0.46, 1.05
    tip, dent = (outer, 0.0), (inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5))
    normal = (dent[1] - tip[1], tip[0] - dent[0])
    length = math.hypot(*normal)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    edge = ((along - tip[0]) * normal[0] + (across - tip[1]) * normal[1]) / length
    return np.asarray(edge, dtype=np.float32)


def _heart(x: Plane, y: Plane) -> Plane:
    side, down = np.float32(0.82), np.float32(0.12)
    wide, high = np.abs(x), y - down
    body = (wide + np.abs(high) - side) * np.float32(0.7071)
    lobe = np.hypot(wide - side / 2, high + side / 2) - side * np.float32(0.7071)
    return np.asarray(np.minimum(body, lobe), dtype=np.float32)


DISTANCES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
}

# Horizontal bands: (where it ends as a fraction of the height, colour).
_BANDS: dict[str, tuple[tuple[float, Rgb], ...]] = {
    "white": ((1.0, (247, 247, 247)),),
    "grey": ((1.0, (158, 160, 165)),),
    "cream": ((1.0, (243, 226, 190)),),
    "beach": ((0.42, (150, 212, 240)), (0.64, (64, 160, 196)), (1.0, (230, 204, 148))),
    "night": ((0.74, (30, 38, 92)), (1.0, (86, 90, 122))),
    "grass": ((0.46, (186, 226, 246)), (1.0, (138, 200, 92))),
    "snow": ((0.5, (168, 188, 214)), (1.0, (240, 244, 250))),
    "room": ((0.62, (214, 190, 196)), (1.0, (176, 132, 96))),
}


@lru_cache(maxsize=128)
def backdrop(name: str, width: int, height: int) -> Pixels:
    """The background alone. The array is shared: do not write into it."""
    rows = (np.arange(height, dtype=np.float32) + 0.5) / height
    picture = np.empty((height, width, 3), dtype=np.float32)
    start = 0.0
    for end, colour in _BANDS[name]:
        cover = np.clip((rows - start) * height + 0.5, 0, 1)[:, None, None].astype(np.float32)
        picture[:] = np.asarray(colour, np.float32) if start == 0.0 else _mix(picture, colour, cover)
        start = end
    shared = (picture + 0.5).astype(np.uint8)
    shared.setflags(write=False)
    return shared


def _mix(under: Plane, colour: Rgb, cover: Plane) -> Plane:
    return np.asarray(under + (np.asarray(colour, np.float32) - under) * cover, dtype=np.float32)


def placement(thing: Thing, width: int, height: int) -> tuple[float, float, float]:
    """Centre and radius in pixels."""
    radius = RADIUS * min(width, height) * thing.scale
    across, down = PLACES[thing.place]
    return across * width + thing.shift[0] * radius, down * height + thing.shift[1] * radius, radius


def coverage(thing: Thing, width: int, height: int) -> tuple[slice, slice, Plane]:
    """Where a thing lies and how much of each pixel there it covers."""
    x, y, radius = placement(thing, width, height)
    reach = 1.15 * radius + 1
    left, right = max(0, int(x - reach)), min(width, int(x + reach) + 2)
    top, bottom = max(0, int(y - reach)), min(height, int(y + reach) + 2)
    across = ((np.arange(left, right, dtype=np.float32) + 0.5 - x) / radius)[None, :]
    down = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - y) / radius)[:, None]
    grid_x, grid_y = np.broadcast_arrays(across, down)
    distance = DISTANCES[thing.shape](grid_x.astype(np.float32), grid_y.astype(np.float32))
    return slice(top, bottom), slice(left, right), np.clip(0.5 - distance * radius, 0, 1).astype(np.float32)


def render(scene: Scene, width: int, height: int) -> Pixels:
    """The whole scene, uint8, height x width x 3."""
    picture = backdrop(scene.background, width, height).copy()
    for thing in scene.things:
        rows, columns, cover = coverage(thing, width, height)
        under = picture[rows, columns].astype(np.float32)
        picture[rows, columns] = (_mix(under, COLOURS[thing.colour], cover[:, :, None]) + 0.5).astype(
            np.uint8
        )
    return picture


def silhouette(thing: Thing, width: int, height: int) -> NDArray[np.bool_]:
    """The pixels a thing covers more than half."""
    mask = np.zeros((height, width), dtype=np.bool_)
    rows, columns, cover = coverage(thing, width, height)
    mask[rows, columns] = cover >= 0.5
    return mask
