"""A raster as a PNG file: the same bytes for the same pixels, fast enough to stay off the bill. Knows no label and no
key; the caller says which texts the file carries.

Every row is filtered with "Up" and deflated at level 1 with run-length matching. Measured on one core at 512² and
1024², RGB, processor time; sizes in KiB:

    picture            this           Pillow, level 1    Pillow, level 6
    flat, with shapes  2 ms, 3        3 ms, 6            4 ms, 2             512²
    the same, noisy    8 ms, 285      21 ms, 353         164 ms, 301
    a photograph       28 ms, 1994    117 ms, 2164       155 ms, 1990        1024²

The time Pillow loses is its search for each row's best filter, which pictures with any noise in them do not repay.
The compressor lets other threads run; call this from a thread when the event loop must go on.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from PIL import Image, ImageChops

from danqing.core.raster import Raster

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {3: 2, 4: 6}
_UP = b"\x02"
_PERCEPTUAL = b"\x00"


def encode(raster: Raster, *, text: Mapping[str, str] | None = None) -> bytes:
    """The raster as an 8-bit RGB or RGBA PNG marked as sRGB. Each `text` becomes an uncompressed iTXt chunk, in the
    order given, before the pixels; keywords are 1 to 79 characters of Latin-1, else ValueError (PNG 3rd edition,
    11.3.3)."""
    size = raster.size
    head = struct.pack(">IIBBBBB", size.width, size.height, 8, _COLOUR_TYPES[raster.channels], 0, 0, 0)
    chunks = [_chunk(b"IHDR", head), _chunk(b"sRGB", _PERCEPTUAL)]
    chunks += [_chunk(b"iTXt", _itxt(keyword, value)) for keyword, value in (text or {}).items()]
    chunks += [_chunk(b"IDAT", _deflate(_filter(raster))), _chunk(b"IEND", b"")]
    return b"".join((_SIGNATURE, *chunks))


def _filter(raster: Raster) -> bytes:
    """The rows, each as its difference to the row above and preceded by the filter's number."""
    size = (raster.size.width, raster.size.height)
    image = Image.frombuffer("RGB" if raster.channels == 3 else "RGBA", size, raster.data)
    above = Image.new(image.mode, size, 0)
    above.paste(image, (0, 1))
    rows = ImageChops.subtract_modulo(image, above).tobytes()
    stride = raster.size.width * raster.channels
    parts = [_UP] * (2 * raster.size.height)
    parts[1::2] = [rows[start : start + stride] for start in range(0, len(rows), stride)]
    return b"".join(parts)


def _deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return squeeze.compress(data) + squeeze.flush()


def _itxt(keyword: str, value: str) -> bytes:
    name = keyword.encode("latin-1")
    if not 1 <= len(name) <= 79 or b"\0" in name:
        raise ValueError("a PNG keyword has 1 to 79 characters")
    return name + b"\0\0\0\0\0" + value.encode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
