"""Pictures made by program: files of every format and mode whose pixels are known, and files made to break a decoder.

Nothing is downloaded and nothing is read from disk.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image

ORIENTATION = 0x0112
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is stored under each EXIF orientation: the inverse of what a reader does."""


def colours(width: int = 6, height: int = 4) -> Image.Image:
    """An RGB picture in which every pixel has a colour of its own and no symmetry holds."""
    data = bytes(
        value
        for y in range(height)
        for x in range(width)
        for value in ((x * 37 + 5) % 256, (y * 61 + 9) % 256, (x * 13 + y * 29) % 256)
    )
    return Image.frombytes("RGB", (width, height), data)


def blocks() -> Image.Image:
    """Four flat blocks of 32 × 16, which survive JPEG."""
    image = Image.new("RGB", (64, 32))
    for place, colour in (((0, 0), (200, 30, 40)), ((32, 0), (30, 190, 60)), ((0, 16), (40, 60, 210))):
        image.paste(colour, (*place, place[0] + 32, place[1] + 16))
    image.paste((240, 220, 30), (32, 16, 64, 32))
    return image


def save(image: Image.Image, name: str, **options: Any) -> bytes:
    """The file of `image` in a format of Pillow's."""
    buffer = BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF that holds nothing but an orientation."""
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, *, before: bytes = b"") -> bytes:
    """A PNG whose rows, filter bytes included, are given; `before` are whole chunks ahead of the pixels."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + pixels + chunk(b"IEND", b"")


def flat_png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel: any size in a small file."""
    squeeze = zlib.compressobj(1)
    rows = bytes((width + 7) // 8 + 1) * 64
    parts = [squeeze.compress(rows) for _ in range(height // 64)]
    parts.append(squeeze.compress(rows[: len(rows) // 64 * (height % 64)]))
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = b"".join(parts) + squeeze.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def raw_tiff(tags: list[tuple[int, int, int, int]], pixels: bytes = b"", *, following: int = 0) -> bytes:
    """A little-endian TIFF: `pixels` at byte 8, then one directory of (tag, type, count, value) whose successor lies
    at byte `following`."""
    at = 8 + len(pixels) + len(pixels) % 2
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHI", tag, kind, count)
        + struct.pack("<I" if kind == 4 else "<HH", *((value,) if kind == 4 else (value, 0)))
        for tag, kind, count, value in sorted(tags)
    )
    head = b"II*\0" + struct.pack("<I", at)
    return head + pixels.ljust(at - 8, b"\0") + directory + struct.pack("<I", following)


def gray_tiff(width: int, height: int, bits: int, pixels: bytes, *, following: int = 0) -> bytes:
    """A gray, uncompressed TIFF of one strip."""
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, len(pixels)),
    ]
    return raw_tiff(tags, pixels, following=following)


def linear_profile(space: bytes = b"RGB ") -> bytes:
    """An ICC v2 profile with the primaries of sRGB and no gamma: 128 means half the light, which is 188 in sRGB."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    words = b"desc\0\0\0\0" + struct.pack(">I", 7) + b"linear\0" + bytes(78)
    tags = {
        b"desc": words,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
        b"kTRC": curve,
    }
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += padded
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"none", 0x0210_0000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += number(0.9642) + number(1.0) + number(0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def scans(count: int) -> bytes:
    """A progressive JPEG of 2,048² whose scans repeat: each costs a pass over the pixels."""
    data = save(Image.new("L", (2048, 2048), 128), "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    following = data.index(b"\xff\xda", start + 2) if data.count(b"\xff\xda") > 1 else len(data) - 2
    return data[:start] + data[start:following] * count + data[following:]
