"""A centrepiece as flat layers, and the signed distances they are cut from. Refuses to know what is cut.

Lengths are in units of the picture's shorter side, from its middle: x to the right, y down. So one drawing fits
every size and aspect.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from danqing.judge.world import Rgb

Plane = NDArray[np.float32]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One flat colour and how much of each pixel it covers, 0 to 1. Later layers lie over earlier ones."""

    name: str
    cover: Plane
    colour: Rgb


class Sheet:
    """The grid a centrepiece is drawn on; its methods give signed distances, negative inside."""

    def __init__(self, width: int, height: int, *, flip: bool = False, scale: float = 1.0) -> None:
        self.side = min(width, height) * scale
        x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / self.side
        y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / self.side
        self.columns = (-x if flip else x).astype(np.float32)
        self.rows = y.astype(np.float32)
        self.x, self.y = np.meshgrid(self.columns, self.rows)

    def cover(self, distance: Plane) -> Plane:
        """A signed distance as coverage, with an edge one pixel soft."""
        return np.asarray(np.clip(0.5 - distance * self.side, 0, 1), dtype=np.float32)

    def disc(self, centre: Point, radius: float) -> Plane:
        """A circle."""
        return np.asarray(_length(self.x - centre[0], self.y - centre[1]) - radius, dtype=np.float32)

    def ellipse(self, centre: Point, wide: float, high: float) -> Plane:
        """An upright ellipse of these radii; the distance is exact at the edge only."""
        x, y = self.x - centre[0], self.y - centre[1]
        size = _length(x / wide, y / high)
        slope = _length(x / wide**2, y / high**2)
        return np.asarray(size * (size - 1) / np.maximum(slope, 1e-6), dtype=np.float32)

    def box(self, centre: Point, wide: float, high: float, corner: float = 0.0) -> Plane:
        """An upright box of these half sides, its corners rounded."""
        x = np.abs(self.x - centre[0]) - (wide - corner)
        y = np.abs(self.y - centre[1]) - (high - corner)
        outside = _length(np.maximum(x, 0), np.maximum(y, 0))
        return np.asarray(outside + np.minimum(np.maximum(x, y), 0) - corner, dtype=np.float32)

    def capsule(self, start: Point, end: Point, radius: float) -> Plane:
        """A thick line with round ends."""
        return _segment(self.x, self.y, start, end) - np.float32(radius)

    def path(self, points: Sequence[Point], radius: float) -> Plane:
        """A thick line through some points."""
        return union(*(self.capsule(start, end, radius) for start, end in itertools.pairwise(points)))

    def beyond(self, start: Point, towards: Point) -> Plane:
        """The half of the plane from a point on, in the direction of another."""
        across, down = towards[0] - start[0], towards[1] - start[1]
        along = (self.x - start[0]) * across + (self.y - start[1]) * down
        return np.asarray(-along / math.hypot(across, down), dtype=np.float32)

    def polygon(self, points: Sequence[Point], corner: float = 0.0) -> Plane:
        """A closed polygon, grown by the radius of its rounded corners."""
        nearest = np.full_like(self.x, np.inf)
        inside = np.zeros(self.x.shape, dtype=np.bool_)
        for start, end in zip(points, (*points[1:], points[0]), strict=True):
            nearest = np.minimum(nearest, _segment(self.x, self.y, start, end))
            if start[1] != end[1]:
                between = (self.y >= min(start[1], end[1])) & (self.y < max(start[1], end[1]))
                along = (self.y - start[1]) / (end[1] - start[1])
                inside ^= between & (self.x < start[0] + along * (end[0] - start[0]))
        return np.asarray(np.where(inside, -nearest, nearest) - corner, dtype=np.float32)

    def strokes(self, strokes: Iterable[Sequence[Point]], radius: float) -> Plane:
        """The coverage, not the distance, of many thick lines: each touches its own neighbourhood only."""
        cover = np.zeros(self.x.shape, dtype=np.float32)
        reach = radius + 1.5 / self.side
        for stroke in strokes:
            for start, end in itertools.pairwise(stroke):
                columns = _window(self.columns, start[0], end[0], reach)
                rows = _window(self.rows, start[1], end[1], reach)
                distance = _segment(self.x[rows, columns], self.y[rows, columns], start, end) - radius
                cover[rows, columns] = np.maximum(cover[rows, columns], self.cover(distance))
        return cover


def union(*distances: Plane) -> Plane:
    """What any of them covers."""
    nearest = distances[0]
    for distance in distances[1:]:
        nearest = np.minimum(nearest, distance)
    return nearest


def overlap(one: Plane, other: Plane) -> Plane:
    """What both cover."""
    return np.asarray(np.maximum(one, other), dtype=np.float32)


def without(whole: Plane, hole: Plane) -> Plane:
    """The one less the other."""
    return np.asarray(np.maximum(whole, -hole), dtype=np.float32)


def shade(colour: Rgb, part: float) -> Rgb:
    """A colour made darker: this part of it is left."""
    red, green, blue = (round(channel * part) for channel in colour)
    return red, green, blue


def cut(path: Sequence[Point], part: float) -> tuple[list[Point], list[Point]]:
    """A path in two, at a part of its length."""
    lengths = [math.dist(start, end) for start, end in itertools.pairwise(path)]
    left = part * sum(lengths)
    for number, length in enumerate(lengths):
        if left <= length:
            (x, y), (to_x, to_y) = path[number], path[number + 1]
            where = (x + (to_x - x) * left / length, y + (to_y - y) * left / length)
            return [*path[: number + 1], where], [where, *path[number + 1 :]]
        left -= length
    return list(path), [path[-1], path[-1]]


def _length(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y)  # several times as fast as hypot, and nothing here is near overflow


def _segment(x: Plane, y: Plane, start: Point, end: Point) -> Plane:
    across, down = end[0] - start[0], end[1] - start[1]
    length = across**2 + down**2
    if length == 0:
        return np.asarray(_length(x - start[0], y - start[1]), dtype=np.float32)
    along = np.clip(((x - start[0]) * across + (y - start[1]) * down) / length, 0, 1)
    aside, below = x - start[0] - along * across, y - start[1] - along * down
    return _length(aside.astype(np.float32), below.astype(np.float32))


def _window(axis: Plane, one: float, other: float, reach: float) -> slice:
    first, last = np.searchsorted(axis, (min(one, other) - reach, max(one, other) + reach))
    return slice(int(first), int(last))
