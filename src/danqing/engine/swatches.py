"""Pictures to learn colours from: scenes of the drawn world, and fields and figures of every colour. Knows no model.

The same seed draws the same picture. Half are scenes, whose flat colours and edges are what the miniature draws; the
others have what scenes lack, and photographs are full of: gradients, and noise whose strength falls with its frequency
as it does in photographs (amplitude 1/f, Field 1987).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.judge.scenes import FIRST_TRAINING_SEED, draw_case

Plane = NDArray[np.float64]

_FIGURES = 9
"""Fewer than so many figures lie on a gradient."""


def swatch(number: int, side: int) -> Image.Image:
    """Picture `number` (from 0), an opaque RGBA square of `side` pixels."""
    rng = np.random.default_rng([number, side])
    if number % 2 == 0:
        levels = draw_case("text_to_image", FIRST_TRAINING_SEED + number, "en", size=(side, side)).truth
    else:
        field = _clouds(rng, side) if number % 4 == 1 else _figures(rng, side)
        levels = np.clip(field, 0, 255).astype(np.uint8)
    return Image.fromarray(levels).convert("RGBA")


def _clouds(rng: np.random.Generator, side: int) -> Plane:
    """Coloured noise about a colour; its channels go together more or less, as they do in pictures."""
    down, across = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    far = np.hypot(down, across)
    far[0, 0] = np.inf
    shape = (3, *far.shape)
    waves = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / far ** rng.uniform(0.8, 2.0)
    planes = np.fft.irfft2(waves, (side, side)).transpose(1, 2, 0) @ rng.normal(size=(3, 3))
    clouds: Plane = planes * (rng.uniform(20, 90) / planes.std()) + rng.uniform(20, 235, size=3)
    return clouds


def _figures(rng: np.random.Generator, side: int) -> Plane:
    """Boxes and ellipses in flat colours on a gradient."""
    down, across = np.mgrid[0:side, 0:side] / side
    slopes = rng.uniform(-90, 90, size=(2, 3))
    field: Plane = rng.uniform(0, 255, size=3) + across[..., None] * slopes[0] + down[..., None] * slopes[1]
    for _ in range(int(rng.integers(2, _FIGURES))):
        x, y = across - rng.random(), down - rng.random()
        turn, (width, height) = rng.uniform(0, np.pi), rng.uniform(0.05, 0.35, size=2)
        along = np.abs(x * np.cos(turn) + y * np.sin(turn)) / width
        away = np.abs(y * np.cos(turn) - x * np.sin(turn)) / height
        inside = np.maximum(along, away) < 1 if rng.random() < 0.5 else np.hypot(along, away) < 1
        field[inside] = rng.uniform(0, 255, size=3)
    return field
