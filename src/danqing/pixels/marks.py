"""The visible mark in a corner of a picture. Knows no words of its own: the caller brings them.

The letters are white on a soft dark edge, so that they read on light and on dark ground alike. Only the rows under the
mark are touched; the rest of the picture keeps its bytes.
"""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from danqing.core.raster import Raster, Size

_HEIGHT = 1 / 28
"""Of the letters (their font size), in parts of the picture's short side."""
_SMALLEST = 12
_WIDEST = 0.6
"""The most of the picture's width that a mark takes."""
_EDGE = (0, 0, 0)
_EDGE_STRENGTH = 0.55
_LETTER = (255, 255, 255)
_LETTER_STRENGTH = 0.9


def mark(raster: Raster, words: str) -> Raster:
    """The picture with `words` at the bottom right, their height 1/28 of its short side. A picture too small to hold
    them is returned as it is. The letters at hand are Latin ones."""
    masks = _fitting(words, raster.size)
    if masks is None:
        return raster
    letters, edge = masks
    margin = max(2, min(raster.size.width, raster.size.height) // 50)
    left = raster.size.width - margin - letters.width
    top = raster.size.height - margin - letters.height
    if left < 0 or top < 0:
        return raster
    stride = raster.size.width * raster.channels
    start, end = top * stride, (top + letters.height) * stride
    mode = "RGB" if raster.channels == 3 else "RGBA"
    strip = Image.frombytes(mode, (raster.size.width, letters.height), raster.data[start:end])
    opaque = (255,) * (raster.channels - 3)
    strip.paste(_EDGE + opaque, (left, 0), edge)
    strip.paste(_LETTER + opaque, (left, 0), letters)
    return Raster(raster.size, raster.channels, raster.data[:start] + strip.tobytes() + raster.data[end:])


def _fitting(words: str, size: Size) -> tuple[Image.Image, Image.Image] | None:
    """The masks at the height the picture wants, or smaller until they fit its width; None if the smallest do not."""
    wanted = max(_SMALLEST, round(min(size.width, size.height) * _HEIGHT))
    for height in range(wanted, _SMALLEST - 1, -1):
        masks = _masks(words, height)
        if masks[0].width <= size.width * _WIDEST:
            return masks
    return None


@lru_cache(maxsize=64)
def _masks(words: str, height: int) -> tuple[Image.Image, Image.Image]:
    """How strongly each pixel takes the letters' colour and the edge's."""
    font = ImageFont.load_default(height)
    stroke = max(1, round(height / 12))
    left, top, right, bottom = font.getbbox(words, stroke_width=stroke)
    size = (int(right - left) + 1, int(bottom - top) + 1)
    letters, edge = Image.new("L", size), Image.new("L", size)
    ImageDraw.Draw(letters).text((-left, -top), words, font=font, fill=round(255 * _LETTER_STRENGTH))
    ImageDraw.Draw(edge).text(
        (-left, -top), words, font=font, fill=round(255 * _EDGE_STRENGTH), stroke_width=stroke
    )
    return letters, edge
