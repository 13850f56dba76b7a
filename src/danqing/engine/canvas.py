"""At which size a checkpoint draws what was asked, and pictures between raster and canvas. Knows no model."""

from __future__ import annotations

import functools
import math

from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.profiles.loader import Canvas, Native


def drawn_size(native: Native, asked: Size) -> Size:
    """The size to draw at for a picture of the asked size: a bucket of the nearest aspect, or every side
    rounded up to the checkpoint's multiple."""
    if native.canvas is Canvas.BUCKET:
        return nearest_bucket(native, asked)
    return Size(
        *(math.ceil(side / native.multiple) * native.multiple for side in (asked.width, asked.height))
    )


def input_size(native: Native, given: Size, drawn: Size) -> Size:
    """The size at which the checkpoint reads an input picture, keeping its own aspect: a bucket, or (the rule
    of Qwen-Image-2.1) the drawn picture's area with each side rounded to a multiple of 32."""
    if native.canvas is Canvas.BUCKET:
        return nearest_bucket(native, given)
    width = math.sqrt(drawn.area * given.ratio)
    height = width / given.ratio
    step = native.multiple
    return Size(*(max(step, round(side / step) * step) for side in (width, height)))


def nearest_bucket(native: Native, asked: Size) -> Size:
    """The bucket of the nearest aspect (by logarithm), ties by nearest area to the native one, then the
    wider."""

    def distance(bucket: Size) -> tuple[float, float, int]:
        aspect = abs(math.log(bucket.ratio / asked.ratio))
        return round(aspect, 9), abs(math.log(bucket.area / native.area)), -bucket.width

    return min(buckets(native), key=distance)


@functools.cache
def buckets(native: Native) -> tuple[Size, ...]:
    """All sizes that a bucketed checkpoint draws at, by width, then height."""
    low, high = (math.ceil(native.sides[0] / native.multiple), native.sides[1] // native.multiple)
    sides = [step * native.multiple for step in range(low, high + 1)]
    least, most = (share * native.area for share in native.spread)
    return tuple(Size(w, h) for w in sides for h in sides if least <= w * h <= most)


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
