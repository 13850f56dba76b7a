"""The outlines of the world's shapes as signed distances in the unit square. Knows no colour and no scene.

Every function takes x to the right and y down, in radii, and is negative inside. The formulas are exact near the
outline, which is all that soft edges need.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def _plane(values: NDArray[np.floating]) -> Plane:
    return np.asarray(values, dtype=np.float32)


def _circle(x: Plane, y: Plane) -> Plane:
    return _plane(np.hypot(x, y) - 0.92)


def _square(x: Plane, y: Plane) -> Plane:
    return _plane(np.maximum(np.abs(x), np.abs(y)) - 0.84)


def _diamond(x: Plane, y: Plane) -> Plane:
    return _plane((np.abs(x) / 0.72 + np.abs(y) / 1.04 - 1) * 0.59)


def _triangle(x: Plane, y: Plane) -> Plane:
    return _plane(np.maximum(np.abs(x) * 0.8716 - (y + 1.0) * 0.4902, y - 0.74))


def _star(x: Plane, y: Plane) -> Plane:
    turn = np.arctan2(x, -y)
    sector = 2 * math.pi / 5
    folded = np.abs((turn + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    inner, outer = 0.43, 1.06
    dent = (inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5))
    normal = (dent[1], outer - dent[0])
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    return _plane(((along - outer) * normal[0] + across * normal[1]) / math.hypot(*normal))


def _heart(x: Plane, y: Plane) -> Plane:
    side, down = 0.82, 0.12
    wide, high = np.abs(x), y - down
    body = (wide + np.abs(high) - side) * 0.7071
    lobe = np.hypot(wide - side / 2, high + side / 2) - side * 0.7071
    return _plane(np.minimum(body, lobe))


def _cross(x: Plane, y: Plane) -> Plane:
    wide, high = np.abs(x), np.abs(y)
    return _plane(np.maximum(np.maximum(wide, high) - 0.96, np.minimum(wide, high) - 0.34))


def _ring(x: Plane, y: Plane) -> Plane:
    return _plane(np.abs(np.hypot(x, y) - 0.68) - 0.28)


def _moon(x: Plane, y: Plane) -> Plane:
    return _plane(np.maximum(np.hypot(x + 0.04, y) - 0.98, 0.8 - np.hypot(x - 0.48, y)))


def _arrow(x: Plane, y: Plane) -> Plane:
    shaft = np.maximum(np.abs(y) - 0.27, np.abs(x + 0.45) - 0.52)
    head = np.maximum(-x - 0.02, (x - 1.02) * 0.69 + np.abs(y) * 0.724)
    return _plane(np.minimum(shaft, head))


def _house(x: Plane, y: Plane) -> Plane:
    wide = np.abs(x)
    walls = np.maximum(wide - 0.62, np.abs(y - 0.45) - 0.46)
    roof = np.maximum(y - 0.06, wide * 0.7071 - (y + 0.94) * 0.7071)
    return _plane(np.minimum(walls, roof))


def _fish(x: Plane, y: Plane) -> Plane:
    body = (np.hypot((x + 0.24) / 0.8, y / 0.52) - 1) * 0.52
    tail = np.maximum(x - 1.0, np.maximum(-x, np.abs(y) * 0.77 - (x - 0.26) * 0.64))
    return _plane(np.minimum(body, tail))


DISTANCES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
    "arrow": _arrow,
    "house": _house,
    "fish": _fish,
}
