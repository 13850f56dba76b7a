"""A finished picture moved to the colours, and to the shares of them, that were asked for. Knows pixels, no model.

Every pixel goes to the palette by optimal transport in CIELAB: of all ways to hand out the asked shares it is the one
that changes colours least (entropic transport, Cuturi, "Sinkhorn distances", 2013). What a pixel's lightness was within
its part of the picture is kept in a measure, so that shading stays. Where a picture is flat its colour alone cannot say
which part of it becomes what: there height decides, light colours above.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from danqing.core.raster import Raster

Reals = NDArray[np.float32]

SAMPLE = 96  # the transport is solved on a picture of this many pixels a side
SOFT = 2.0  # squared CIELAB distance over which one colour goes over into the next
COOLING = (
    256.0,
    128.0,
    64.0,
    32.0,
    16.0,
    8.0,
    4.0,
    SOFT,
)  # solved coarsely first: a sharp plan alone converges slowly
ROUNDS = 30  # of each
HEIGHT = 250.0  # what the picture's height counts, in the same unit
SHADE = 0.4  # of a pixel's own difference in lightness is kept
MOST_SHADE = 9.0


@dataclass(frozen=True, slots=True)
class Palette:
    """sRGB colours and their shares of the picture, which add up to one."""

    colours: tuple[tuple[int, int, int], ...]
    shares: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Palette:
        """From the form it travels in: `#rrggbb share` for each colour, parted by commas. ValueError if it is not."""
        pairs = [entry.split() for entry in text.split(",")]
        if not pairs or any(len(pair) != 2 or len(pair[0]) != 7 for pair in pairs):
            raise ValueError("a palette is written as '#rrggbb share, ...'")
        weights = [float(share) for _, share in pairs]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError("the shares of a palette are positive")
        colours = tuple((int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)) for c, _ in pairs)
        return cls(colours, tuple(weight / sum(weights) for weight in weights))


def recoloured(raster: Raster, palette: Palette) -> Raster:
    """The picture in the palette's colours; transparency stays. Takes about half a second a million pixels."""
    size = (raster.size.width, raster.size.height)
    picture = Image.frombytes("RGB" if raster.channels == 3 else "RGBA", size, raster.data)
    flat = picture.convert("RGB")
    wanted = _lab(Image.frombytes("RGB", (len(palette.colours), 1), bytes(sum(palette.colours, ()))))[0]
    small = _lab(flat.resize((SAMPLE, SAMPLE), Image.Resampling.NEAREST))
    potentials, means = _transport(small, wanted, np.asarray(palette.shares, np.float32))
    strips = []
    step = max(1, 500_000 // size[0])
    for top in range(
        0, size[1], step
    ):  # a strip at a time: the plan of a whole picture would not fit beside it
        strip = _lab(flat.crop((0, top, size[0], min(size[1], top + step))))
        heights = ((np.arange(top, top + strip.shape[0]) + 0.5) / size[1]).astype(np.float32)
        plan = _plan(_costs(strip, wanted, heights), potentials, SOFT)
        strips.append(_rgb(_moved(strip, plan, wanted, means)))
    moved = Image.fromarray(np.concatenate(strips), "RGB")
    if raster.channels == 4:
        moved.putalpha(picture.getchannel("A"))
    return Raster(raster.size, raster.channels, moved.tobytes())


def _costs(lab: Reals, wanted: Reals, heights: Reals) -> Reals:
    """Squared distance of every pixel to every colour, and a little for being at another height than the colour's
    rank in lightness: rows x columns x colours."""
    distance = ((lab[:, :, None] - wanted) ** 2).sum(-1)
    ranks = np.argsort(np.argsort(-wanted[:, 0])) / max(1, len(wanted) - 1)
    aside = (heights[:, None, None] - ranks.astype(np.float32)) ** 2
    return np.asarray(distance + HEIGHT * aside, dtype=np.float32)


def _plan(costs: Reals, potentials: Reals, soft: float) -> Reals:
    """How much of each pixel goes to each colour."""
    scores = (potentials - costs) / np.float32(soft)
    scores -= scores.max(-1, keepdims=True)
    weights = np.exp(scores)
    return np.asarray(weights / weights.sum(-1, keepdims=True), dtype=np.float32)


def _transport(lab: Reals, wanted: Reals, shares: Reals) -> tuple[Reals, Reals]:
    """The potentials with which every colour gets its share, and the mean of what goes to each."""
    heights = ((np.arange(lab.shape[0]) + 0.5) / lab.shape[0]).astype(np.float32)
    costs = _costs(lab, wanted, heights)
    potentials = np.zeros(len(wanted), dtype=np.float32)
    for soft in COOLING:
        for _ in range(ROUNDS):
            got = _plan(costs, potentials, soft).mean((0, 1))
            potentials = potentials + np.float32(soft) * np.log((shares + 1e-6) / (got + 1e-6))
    plan = _plan(costs, potentials, SOFT)
    weights = plan.reshape(-1, len(wanted))
    means = weights.T @ lab.reshape(-1, 3) / np.maximum(weights.sum(0)[:, None], 1e-6)
    return potentials, np.asarray(means, dtype=np.float32)


def _moved(lab: Reals, plan: Reals, wanted: Reals, means: Reals) -> Reals:
    moved = plan @ wanted
    shade = SHADE * (lab[..., 0] - (plan @ means)[..., 0])
    moved[..., 0] += np.clip(shade, -MOST_SHADE, MOST_SHADE)
    return np.asarray(moved, dtype=np.float32)


@lru_cache(maxsize=1)
def _transforms() -> tuple[ImageCms.ImageCmsTransform, ImageCms.ImageCmsTransform]:
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    there = ImageCms.buildTransform(rgb, lab, "RGB", "LAB")
    back = ImageCms.buildTransform(lab, rgb, "LAB", "RGB")
    return there, back


def _lab(picture: Image.Image) -> Reals:
    """CIELAB (D50), rows x columns x 3, in its usual units."""
    there, _ = _transforms()
    turned = ImageCms.applyTransform(picture, there)
    assert turned is not None
    raw = np.asarray(turned)
    light = raw[..., 0].astype(np.float32) * (100 / 255)
    hue = raw[..., 1:].astype(np.int8).astype(np.float32)
    return np.concatenate([light[..., None], hue], axis=-1)


def _rgb(lab: Reals) -> NDArray[np.uint8]:
    _, back = _transforms()
    light = np.clip(lab[..., :1] * 2.55 + 0.5, 0, 255).astype(np.uint8)
    hue = np.clip(np.round(lab[..., 1:]), -128, 127).astype(np.int8).view(np.uint8)
    packed = np.ascontiguousarray(np.concatenate([light, hue], axis=-1))
    turned = ImageCms.applyTransform(
        Image.frombytes("LAB", (lab.shape[1], lab.shape[0]), packed.tobytes()), back
    )
    assert turned is not None
    return np.asarray(turned)
