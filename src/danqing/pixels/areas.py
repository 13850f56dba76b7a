"""Which part of a picture is meant: masks read, boxes drawn as masks, pictures cut out, canvases grown.

Works on rasters of our own, never on untrusted bytes, and blocks while it does. Knows no order and no protocol.
A mask is a raster of one channel: 255 where the picture may change, 0 where it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

from PIL import Image, ImageDraw, ImageFilter

from danqing.core.order import Box, Margins
from danqing.core.raster import Raster, Size
from danqing.core.sizes import MOST

WHITE = 128
"""The least grey that counts as white: files meant to be black and white have grey edges."""

_COARSE = 256
"""Longer side of the small picture in which the surroundings of a grown canvas are guessed."""
_SOFT = 0.006
"""By how much of that side they are blurred: lines go on straight, grain does not become stripes."""


def mask_of(raster: Raster) -> Raster | None:
    """The mask that a picture of black and white is; what is transparent counts as black. None where it selects
    nothing."""
    picture = _picture(raster)
    grey = picture.convert("L")
    if picture.mode == "RGBA":
        grey = Image.composite(grey, Image.new("L", grey.size, 0), picture.getchannel("A"))
    mask = grey.point(_steep)
    return None if mask.getbbox() is None else _raster(mask)


def scaled(boxes: Sequence[Box], came: Size, kept: Size) -> tuple[Box, ...] | None:
    """The boxes, in pixels of a picture as it came, clipped to it and in pixels of the raster kept of it: outwards to
    whole ones. None where one of them has nothing of the picture in it."""
    found: list[Box] = []
    for box in boxes:
        left, top = max(0, box[0]), max(0, box[1])
        right, bottom = min(came.width, box[2]), min(came.height, box[3])
        if left >= right or top >= bottom:
            return None
        found.append(
            (
                left * kept.width // came.width,
                top * kept.height // came.height,
                ceil(right * kept.width / came.width),
                ceil(bottom * kept.height / came.height),
            )
        )
    return tuple(found)


def boxed(size: Size, boxes: Sequence[Box]) -> Raster:
    """The mask that selects what is in any of the boxes."""
    mask = Image.new("L", (size.width, size.height), 0)
    for left, top, right, bottom in boxes:
        ImageDraw.Draw(mask).rectangle((left, top, right - 1, bottom - 1), fill=255)
    return _raster(mask)


def bounds(boxes: Sequence[Box]) -> Box:
    """The smallest box around all of them."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def cut(raster: Raster, box: Box) -> Raster:
    """What the box holds."""
    return _raster(_picture(raster).crop(box))


def grown_size(size: Size, margins: Margins) -> Size:
    """The canvas of a picture of that size; each margin is rounded to whole pixels."""
    above, below, left, right = _pixels(size, margins)
    return Size(size.width + left + right, size.height + above + below)


def grown(raster: Raster, margins: Margins) -> tuple[Raster, Raster]:
    """The picture on its canvas, and the mask that selects what was added. What was added holds a guess from the
    picture's edges, without any detail. A canvas above `MOST` pixels is shrunk to that."""
    picture = _picture(raster)
    canvas = grown_size(raster.size, margins)
    if canvas.area > MOST:
        shrink = sqrt(MOST / canvas.area)
        picture = picture.resize(
            (max(1, int(picture.width * shrink)), max(1, int(picture.height * shrink))),
            Image.Resampling.LANCZOS,
        )
        canvas = grown_size(Size(*picture.size), margins)
    above, _, left, _ = _pixels(Size(*picture.size), margins)
    filled = _surroundings(picture, margins).resize((canvas.width, canvas.height), Image.Resampling.BICUBIC)
    filled.paste(picture, (left, above))
    mask = Image.new("L", filled.size, 255)
    mask.paste(0, (left, above, left + picture.width, above + picture.height))
    return _raster(filled), _raster(mask)


def _surroundings(picture: Image.Image, margins: Margins) -> Image.Image:
    """A small, soft picture of the canvas: the edges drawn outwards, then blurred."""
    ratio = _COARSE / max(picture.size)
    size = Size(*(max(1, round(side * ratio)) for side in picture.size))
    small = picture.resize((size.width, size.height), Image.Resampling.BOX)
    above, below, left, right = _pixels(size, margins)
    wide = _wider(small, left, right)
    turned = _wider(wide.transpose(Image.Transpose.TRANSPOSE), above, below)
    return turned.transpose(Image.Transpose.TRANSPOSE).filter(ImageFilter.GaussianBlur(_COARSE * _SOFT))


def _wider(picture: Image.Image, left: int, right: int) -> Image.Image:
    """The picture with its outermost columns drawn outwards."""
    width, height = picture.size
    wide = Image.new(picture.mode, (left + width + right, height))
    for column, at, reach in ((0, 0, left), (width - 1, left + width, right)):
        if reach:
            wide.paste(picture.crop((column, 0, column + 1, height)).resize((reach, height)), (at, 0))
    wide.paste(picture, (left, 0))
    return wide


def _pixels(size: Size, margins: Margins) -> tuple[int, int, int, int]:
    above, below, left, right = margins
    return (
        round(above * size.height),
        round(below * size.height),
        round(left * size.width),
        round(right * size.width),
    )


def _steep(level: int) -> int:
    return 255 if level >= WHITE else 0


def _picture(raster: Raster) -> Image.Image:
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[raster.channels]
    return Image.frombytes(mode, (raster.size.width, raster.size.height), raster.data)


def _raster(picture: Image.Image) -> Raster:
    return Raster(Size(*picture.size), len(picture.getbands()), picture.tobytes())
