"""From latents to a small picture without the autoencoder: a linear map, fitted to the checkpoint's own latents.

What a latent token and its eight neighbours say of the 16 × 16 pixels it stands for is read off by one matrix: 8 × 8
colours a token, of which coarser ones are averages. The neighbours are worth 3 to 4 dB (`bench/LOG.md`). Knows no
engine and no family: latents come as tokens, whatever they are packed from.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import functional

from danqing.core.raster import Raster, Size
from danqing.engine.swatches import swatch

SIDE = 256
"""The most pixels to a side of a preview."""
PIXELS = 16
"""Pixels to a side of one latent token."""
FINEST = 8
"""Colours to a side of one latent token, at the most."""
SWATCHES = 200
SWATCH_SIDE = 128

_VERSION = "1"
_RIDGE = 1e-3
"""Added to the variance of each feature, as a share of their mean: keeps features apart that always go together."""


class Map:
    """A fitted map. `weight` (3·8·8, channels, 3, 3) and `bias` (3·8·8,) give RGB in [-1, 1], in the order of torch's
    pixel shuffle; `fit` is the share of the swatches' variance that it explains (R²)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, fit: float) -> None:
        """Takes the tensors over; they stay on their device."""
        self.weight, self.bias, self.fit = weight, bias, fit
        self._coarser: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def to(self, device: torch.device) -> Map:
        """The same map, on the device where latents are."""
        return Map(self.weight.to(device), self.bias.to(device), self.fit)

    @torch.inference_mode()
    def raster(self, latents: torch.Tensor, drawn: Size) -> Raster:
        """Clean latents (1, tokens, channels) of a picture drawn at that size as a picture of at most 256 pixels a
        side. The one wait for the device is for these few kilobytes."""
        rows, columns = drawn.height // PIXELS, drawn.width // PIXELS
        longest = max(rows, columns)
        jump = -(-longest // SIDE)
        cells = next((k for k in (8, 4, 2) if longest * k <= SIDE), 1)
        grid = _grid(latents, rows, columns)[:, :, ::jump, ::jump]
        colours = functional.conv2d(_padded(grid), *self._of(cells))
        levels = functional.pixel_shuffle(colours, cells)[0].permute(1, 2, 0)
        small = ((levels * 127.5 + 127.5).clamp_(0, 255) + 0.5).to(torch.uint8).contiguous().cpu().numpy()
        return Raster(Size(small.shape[1], small.shape[0]), 3, small.tobytes())

    def _of(self, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias for so many colours to a side of a token."""
        if cells not in self._coarser:
            block = FINEST // cells
            shape = (3, cells, block, cells, block)
            weight = self.weight.view(*shape, *self.weight.shape[1:]).mean((2, 4)).flatten(0, 2)
            self._coarser[cells] = weight.contiguous(), self.bias.view(shape).mean((2, 4)).flatten()
        return self._coarser[cells]


class Fit:
    """Least squares, one swatch after the other: only sums are kept. Latents come from `Family.latents`."""

    def __init__(self) -> None:
        """Nothing is seen yet."""
        self.seen = 0
        self._squares = self._products = self._targets = torch.zeros(0)

    @property
    def enough(self) -> bool:
        """Whether every swatch was seen."""
        return self.seen >= SWATCHES

    def next(self) -> Image.Image:
        """The swatch whose latents `see` wants next."""
        return swatch(self.seen, SWATCH_SIDE)

    @torch.inference_mode()
    def see(self, picture: Image.Image, latents: torch.Tensor) -> None:
        """Take in a swatch and its latents (1, tokens, channels)."""
        side = SWATCH_SIDE // PIXELS
        around = functional.unfold(_padded(_grid(latents, side, side)), 3)[0].T.double().cpu()
        features = torch.cat([around, torch.ones(len(around), 1, dtype=torch.float64)], dim=1)
        targets = _colours(picture)
        sums = features.T @ features, features.T @ targets, (targets**2).sum(0)
        if self.seen == 0:
            self._squares, self._products, self._targets = (torch.zeros_like(one) for one in sums)
        self._squares += sums[0]
        self._products += sums[1]
        self._targets += sums[2]
        self.seen += 1

    def solved(self) -> Map:
        """The map that errs least on what was seen. Raises RuntimeError (torch's) for numbers that are not finite."""
        count = self._squares[-1, -1]
        middle, mean = self._squares[-1, :-1] / count, self._products[-1] / count
        squares = self._squares[:-1, :-1] - count * torch.outer(middle, middle)
        products = self._products[:-1] - count * torch.outer(middle, mean)
        spread = self._targets - count * mean**2
        ridge = squares.diagonal().mean() * _RIDGE
        found = torch.linalg.solve(squares + ridge * torch.eye(len(squares), dtype=squares.dtype), products)
        left = spread - 2 * (found * products).sum(0) + (found * (squares @ found)).sum(0)
        weight = found.T.reshape(found.shape[1], -1, 3, 3).float().contiguous()
        if not torch.isfinite(weight).all():
            raise RuntimeError("the map from latents to colours has no solution")
        return Map(weight, (mean - middle @ found).float(), float(1 - left.sum() / spread.sum()))


def identity(vae: Any, family: str) -> str:
    """SHA-256 of an autoencoder's settings and weights and of how a family packs its latents: what a map belongs to."""
    digest = hashlib.sha256(f"{_VERSION} {family} {type(vae).__name__} ".encode())
    digest.update(json.dumps(dict(vae.config), sort_keys=True, default=str).encode())
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def recalled(folder: Path, name: str) -> Map | None:
    """The map kept under that identity; None where there is none, or none that can be read."""
    try:
        with safe_open(folder / f"{name}.safetensors", framework="pt") as kept:
            about = kept.metadata() or {}
            weight, bias = kept.get_tensor("weight"), kept.get_tensor("bias")
            if about.get("identity") != name or weight.ndim != 4 or bias.shape != (3 * FINEST**2,):
                return None
            return Map(weight, bias, float(about["fit"]))
    except (OSError, SafetensorError, LookupError, ValueError):
        return None


def keep(folder: Path, name: str, found: Map) -> None:
    """Write a map, whole or not at all; a disk that is full is no reason to stop."""
    fresh = folder / f"{name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        about = {"identity": name, "fit": f"{found.fit:.6f}"}
        save_file({"weight": found.weight.cpu(), "bias": found.bias.cpu()}, fresh, metadata=about)
        fresh.replace(folder / f"{name}.safetensors")
    except (OSError, SafetensorError):
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _grid(latents: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Tokens (1, tokens, channels) as a plane (1, channels, rows, columns) in fp32."""
    return latents.float().transpose(1, 2).reshape(1, -1, rows, columns)


def _padded(grid: torch.Tensor) -> torch.Tensor:
    """At the edge a token stands in for its missing neighbours."""
    return functional.pad(grid, (1, 1, 1, 1), mode="replicate")


def _colours(picture: Image.Image) -> torch.Tensor:
    """What the map should say of a swatch: (tokens, 3·8·8) in [-1, 1]."""
    levels = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float64)) / 127.5 - 1
    cells = functional.avg_pool2d(levels.permute(2, 0, 1)[None], PIXELS // FINEST)
    return functional.pixel_unshuffle(cells, FINEST)[0].flatten(1).T
