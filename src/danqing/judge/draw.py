"""A scene as pixels, at any size: covers of shapes and flat colours, numpy only. Refuses to know what is said of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from danqing.judge.backdrops import Pixels, Plane, backdrop, mix
from danqing.judge.figures import figure_layers, garment_layers, goods_layers, print_box, skeleton_layers
from danqing.judge.layers import Layer
from danqing.judge.shapes import DISTANCES
from danqing.judge.signs import sign_layers
from danqing.judge.styles import restyle
from danqing.judge.world import COLOURS, PLACES, Figure, Garment, Goods, Scene, Sign, Skeleton, Thing

__all__ = ["Pixels", "coverage", "paint", "placement", "render", "render_depth", "scene_layers", "silhouette"]

_REACH = 1.15  # no shape goes further from its centre, in radii


def placement(thing: Thing, width: int, height: int) -> tuple[float, float, float]:
    """Centre and radius in pixels."""
    radius = thing.radius * min(width, height)
    across, down = PLACES[thing.place]
    return across * width + thing.shift[0] * radius, down * height + thing.shift[1] * radius, radius


def coverage(
    shape: str, at: tuple[float, float, float], width: int, height: int
) -> tuple[slice, slice, Plane]:
    """Where a shape with this centre and radius lies and how much of each pixel there it covers."""
    x, y, radius = at
    reach = _REACH * radius + 1
    left, right = max(0, int(x - reach)), min(width, int(x + reach) + 2)
    top, bottom = max(0, int(y - reach)), min(height, int(y + reach) + 2)
    across = ((np.arange(left, right, dtype=np.float32) + 0.5 - x) / radius)[None, :]
    down = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - y) / radius)[:, None]
    grid_x, grid_y = np.broadcast_arrays(across, down)
    distance = DISTANCES[shape](grid_x.astype(np.float32), grid_y.astype(np.float32))
    return slice(top, bottom), slice(left, right), np.clip(0.5 - distance * radius, 0, 1).astype(np.float32)


def silhouette(thing: Thing, width: int, height: int) -> NDArray[np.bool_]:
    """The pixels a thing covers more than half."""
    mask = np.zeros((height, width), dtype=np.bool_)
    rows, columns, cover = coverage(thing.shape, placement(thing, width, height), width, height)
    mask[rows, columns] = cover >= 0.5
    return mask


def _thing_layer(thing: Thing, at: tuple[float, float, float], width: int, height: int) -> Layer:
    cover = np.zeros((height, width), dtype=np.float32)
    rows, columns, part = coverage(thing.shape, at, width, height)
    cover[rows, columns] = part
    return Layer(f"{thing.colour} {thing.shape}", cover, COLOURS[thing.colour])


def _piece_layers(piece: object, width: int, height: int) -> list[Layer]:
    match piece:
        case Figure():
            return figure_layers(piece, width, height)
        case Garment():
            return garment_layers(piece, width, height)
        case Skeleton():
            return skeleton_layers(piece, width, height)
        case Sign():
            return sign_layers(piece, width, height)
        case Goods():
            layers = goods_layers(piece.kind, width, height)
            if piece.print:
                layers.append(_thing_layer(piece.print, print_box(piece.kind, width, height), width, height))
            return layers
    return []


def scene_layers(scene: Scene, width: int, height: int) -> list[Layer]:
    """Everything before the background, in the order it is painted."""
    layers = _piece_layers(scene.piece, width, height)
    return layers + [_thing_layer(t, placement(t, width, height), width, height) for t in scene.things]


def paint(scene: Scene, width: int, height: int) -> Pixels:
    """The scene in flat colours, whatever its style; uint8, height x width x 3."""
    picture = backdrop(scene.background, width, height).astype(np.float32)
    for layer in _piece_layers(scene.piece, width, height):
        down, across = np.flatnonzero(layer.cover.any(1)), np.flatnonzero(layer.cover.any(0))
        if down.size:
            part = slice(down[0], down[-1] + 1), slice(across[0], across[-1] + 1)
            picture[part] = mix(picture[part], layer.colour, layer.cover[part][:, :, None])
    for thing in scene.things:
        rows, columns, cover = coverage(thing.shape, placement(thing, width, height), width, height)
        picture[rows, columns] = mix(picture[rows, columns], COLOURS[thing.colour], cover[:, :, None])
    return (picture + 0.5).astype(np.uint8)


def render(scene: Scene, width: int, height: int) -> Pixels:
    """The scene in its style; uint8, height x width x 3."""
    flat = paint(scene, width, height)
    if scene.style == "flat":
        return flat
    return restyle(scene.style, flat)


def render_depth(scene: Scene, width: int, height: int) -> Pixels:
    """What is near is light: the ground rises towards the beholder, every thing is a flat layer before it."""
    far = np.linspace(24, 84, height, dtype=np.float32)[:, None, None]
    picture = np.broadcast_to(far, (height, width, 3)).copy()
    layers = scene_layers(scene, width, height)
    for number, layer in enumerate(layers):
        level = 150 + round(90 * (number + 1) / len(layers))
        picture = mix(picture, (level, level, level), layer.cover[:, :, None])
    return (picture + 0.5).astype(np.uint8)
