"""Editing a part of a picture: while it is drawn, what is outside the part is held to the input; when it is done, the
input's own pixels are put back. Knows no model; the rule of the steps is the one of the stock inpainting pipelines.

The mask counts twice. Among the latents a cell is edited if the mask touches it at all, so that the part is never
smaller than asked; among the pixels the mask is followed exactly, and its edge is softened on its inner side only, so
that outside it every pixel is the input's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.engine.canvas import on_white, to_canvas

SEAM = 256
"""The edge is softened over the picture's shorter side divided by this, in pixels, within `WIDTHS`."""
WIDTHS = (2, 16)
_HALF = 128
_STRIP = 500_000


@dataclass(frozen=True, slots=True)
class Kept:
    """What holds a picture to its input: the input's latents (1, tokens, channels), and which of them are edited
    (1, tokens, 1), None for all."""

    latents: torch.Tensor
    edited: torch.Tensor | None

    def noised(self, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The input's latents as they are at that noise level, flow matching's straight line between the two."""
        level = sigma.to(noise)
        return level * noise + (1.0 - level) * self.latents

    def held(self, latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The latents after a step down to `sigma`, those that are not edited replaced by the input's at that level,
        with the noise that the picture began with."""
        if self.edited is None:
            return latents
        return torch.where(self.edited, latents, self.noised(noise, sigma))


def cells(mask: Raster, rows: int, columns: int) -> torch.Tensor:
    """Which cells of a grid over the whole mask it touches: (1, rows · columns, 1), row by row."""
    white = _levels(mask) > 0
    sums = np.zeros((white.shape[0] + 1, white.shape[1] + 1), dtype=np.int64)
    sums[1:, 1:] = white.cumsum(0).cumsum(1)
    tops, bottoms = _spans(rows, white.shape[0])
    lefts, rights = _spans(columns, white.shape[1])
    inside = sums[bottoms][:, rights] - sums[tops][:, rights] - sums[bottoms][:, lefts] + sums[tops][:, lefts]
    return torch.from_numpy(inside > 0).reshape(1, rows * columns, 1)


def put_back(made: Raster, given: Raster, mask: Raster) -> Raster:
    """The made picture (RGB) inside the mask, the given one, resampled to its size and on white, everywhere else."""
    size = made.size
    old = np.asarray(on_white(to_canvas(given, size)))
    new = np.frombuffer(made.data, dtype=np.uint8).reshape(old.shape)
    share = inner_edge(mask, size)
    joined = np.empty_like(old)
    step = max(1, _STRIP // size.width)
    for top in range(
        0, size.height, step
    ):  # in strips: as numbers with fractions a picture is twelve times as large
        rows = slice(top, top + step)
        before = old[rows].astype(np.float32)
        joined[rows] = np.rint(before + (new[rows] - before) * share[rows, :, None])
    return Raster(size, 3, joined.tobytes())


def inner_edge(mask: Raster, size: Size) -> NDArray[np.float32]:
    """How much of the made picture each pixel of `size` takes: 0 outside the mask, inside rising with the distance
    from there to 1. The edge of the picture is no edge of the mask; a mask too thin for the seam has a narrower one."""
    inner = _at(mask, size)
    depth = np.zeros(inner.shape, dtype=np.uint8)
    for _ in range(min(max(min(size.width, size.height) // SEAM, WIDTHS[0]), WIDTHS[1])):
        depth += inner
        inner = _eroded(inner)
    return np.asarray(depth.astype(np.float32) / max(1, int(depth.max())), dtype=np.float32)


def _at(mask: Raster, size: Size) -> NDArray[np.bool_]:
    """The mask at another size: pixels of which at least half is selected, or any part, if it is finer than that."""
    if mask.size == size:
        return _levels(mask) >= _HALF
    picture = Image.frombytes("L", (mask.size.width, mask.size.height), mask.data)
    levels = np.asarray(picture.resize((size.width, size.height), Image.Resampling.BOX))
    half = levels >= _HALF
    if half.any():
        return half
    return np.asarray(cells(mask, size.height, size.width).numpy().reshape(size.height, size.width))


def _eroded(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the pixels that have a neighbour outside; there is nothing outside beyond the picture."""
    wide = np.pad(inside, 1, constant_values=True)
    return wide[1:-1, 1:-1] & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]


def _levels(mask: Raster) -> NDArray[np.uint8]:
    return np.frombuffer(mask.data, dtype=np.uint8).reshape(mask.size.height, mask.size.width)


def _spans(parts: int, whole: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each of equal parts begins and ends, outwards to whole pixels."""
    at = np.arange(parts, dtype=np.int64)
    return at * whole // parts, -(-(at + 1) * whole // parts)
