"""At which size a checkpoint draws what was asked, and pictures between raster and canvas. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.profiles.loader import Canvas, Native


def drawn_size(native: Native, asked: Size) -> Size:
    """The size to draw at for a picture of the asked size: the bucket of the nearest aspect, or every side rounded
    up to the checkpoint's multiple."""
    if native.canvas is Canvas.BUCKET:
        return nearest_bucket(native.buckets, asked)
    up = native.multiple
    return Size(math.ceil(asked.width / up) * up, math.ceil(asked.height / up) * up)


def input_size(native: Native, given: Size, drawn: Size) -> Size:
    """The size at which the checkpoint reads an input picture. A bucketed one reads it at the drawn size, unless it was
    taught mixed sizes: then at the bucket of the input's own aspect. Else the rule of the Qwen-Image pipelines: the
    drawn picture's area (2.1) or a fixed one (1.x) in the input's own aspect, each side rounded to a multiple of 32
    (`calculate_dimensions` there)."""
    if native.canvas is Canvas.BUCKET:
        return nearest_bucket(native.buckets, given) if native.mixed_inputs else drawn
    return of_area(native.input_area or drawn.area, given.ratio)


def of_area(area: float, ratio: float) -> Size:
    """The size of about that area and that aspect (width over height) whose sides are multiples of 32."""
    width = math.sqrt(area * ratio)
    return Size(*(max(32, round(side / 32) * 32) for side in (width, width / ratio)))


def nearest_bucket(buckets: Sequence[tuple[int, int]], asked: Size) -> Size:
    """The bucket of the nearest aspect (by logarithm); of equal ones the largest, then the first listed."""

    def distance(bucket: Size) -> tuple[float, int]:
        return round(abs(math.log(bucket.ratio / asked.ratio)), 9), -bucket.area

    return min((Size(*bucket) for bucket in buckets), key=distance)


def to_canvas(raster: Raster, size: Size) -> Image.Image:
    """An RGBA picture of `size`, resized by Lanczos; RGB counts as opaque."""
    mode = "RGBA" if raster.channels == 4 else "RGB"
    picture = Image.frombytes(mode, (raster.size.width, raster.size.height), raster.data).convert("RGBA")
    if picture.size == (size.width, size.height):
        return picture
    return picture.resize((size.width, size.height), Image.Resampling.LANCZOS)


def on_white(picture: Image.Image) -> Image.Image:
    """The RGB picture that an RGBA one shows on white paper."""
    white = Image.new("RGB", picture.size, (255, 255, 255))
    white.paste(picture, mask=picture.getchannel("A"))
    return white


def from_canvas(picture: Image.Image, asked: Size, *, crop: bool) -> Raster:
    """The delivered raster: RGB on white, of exactly the asked size. `crop` cuts a surplus off the right and
    lower edge's and the left and upper edge's halves; otherwise, or where there is none to cut, Lanczos
    resizes."""
    flat = on_white(picture) if picture.mode == "RGBA" else picture
    if crop and flat.width >= asked.width and flat.height >= asked.height:
        left, top = (flat.width - asked.width) // 2, (flat.height - asked.height) // 2
        flat = flat.crop((left, top, left + asked.width, top + asked.height))
    if flat.size != (asked.width, asked.height):
        flat = flat.resize((asked.width, asked.height), Image.Resampling.LANCZOS)
    return Raster(asked, 3, flat.tobytes())
