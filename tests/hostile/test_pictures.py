"""S5, P10: pictures made to break a decoder are refused within two seconds and cost the server nothing; odd but valid
ones are read."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio
from PIL import Image

from danqing.core.errors import InputOutOfBounds, InputUndecodable
from danqing.core.models import InputRule
from danqing.pixels.decoders import Decoded, Decoders
from tests.support import pictures
from tests.support.pictures import chunk, raw_png, raw_tiff, save

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULE = InputRule()
SECONDS = 2.0
IMAGE = pictures.colours(64, 48)
PNG, JPEG, GIF = save(IMAGE, "PNG"), save(IMAGE, "JPEG"), save(IMAGE.quantize(64), "GIF")
FILES = {
    "png": PNG,
    "jpeg": JPEG,
    "progressive": save(IMAGE, "JPEG", progressive=True),
    "gif": GIF,
    "webp": save(IMAGE, "WEBP"),
    "lossless": save(IMAGE, "WEBP", lossless=True),
    "bmp": save(IMAGE, "BMP"),
    "tiff": save(IMAGE, "TIFF"),
    "deflated": save(IMAGE, "TIFF", compression="tiff_adobe_deflate"),
}


def webp_canvas(width: int, height: int) -> bytes:
    """An extended WebP that announces a canvas and holds nothing."""
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
    body += struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_head(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def deflate_bomb(size: int) -> bytes:
    squeeze = zlib.compressobj(9)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(size >> 20)) + squeeze.flush()


def tiff_of(width: int, height: int, *more: tuple[int, int, int, int], compression: int = 1) -> bytes:
    tags = {
        tag[0]: tag
        for tag in (
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 1, 8),
            (259, 3, 1, compression),
            (262, 3, 1, 1),
            (273, 4, 1, 8),
            (277, 3, 1, 1),
            (278, 4, 1, height),
            (279, 4, 1, 64),
            *more,
        )
    }
    return raw_tiff(list(tags.values()), bytes(64))


TOO_LARGE = {
    "png of 2^31 squared": raw_png(2**31 - 1, 2**31 - 1, 8, 6, b""),
    "png of 64 megapixels and a column": raw_png(8001, 8000, 1, 0, b""),
    "png of one endless row": raw_png(1_000_000, 1, 1, 0, b""),
    "gif of 65535 squared": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
    "bmp of 30000 squared": bmp_head(30_000, 30_000),
    "bmp upside down": bmp_head(30_000, -30_000),
    "tiff of 60000 squared": tiff_of(60_000, 60_000),
    "webp of 16384 squared": webp_canvas(16_384, 16_384),
    "webp of 2^24 squared": webp_canvas(2**24, 2**24),
    "bmp of negative width": bmp_head(-5, 5),
    "jpeg of 65535 squared": JPEG.replace(struct.pack(">HH", 48, 64), b"\xff\xff\xff\xff", 1),
}

BROKEN = {
    "nothing": b"",
    "a byte": b"\x89",
    "zeros": bytes(100_000),
    "png without pixels": raw_png(64, 64, 8, 2, b""),
    "png of too few rows": raw_png(4000, 4000, 8, 2, bytes(100)),
    "png of another filter": raw_png(1, 1, 8, 0, b"\x09\x00"),
    "png of colour type 7": raw_png(8, 8, 8, 7, bytes(100)),
    "png of no size": raw_png(0, 0, 8, 2, b""),
    "png with a bad checksum": PNG[:40] + bytes([PNG[40] ^ 1]) + PNG[41:],
    "png with a chunk of 2 GB": PNG[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + PNG[33:],
    "png with a text bomb": raw_png(
        1, 1, 8, 0, b"\0\0", before=chunk(b"zTXt", b"a\0\0" + deflate_bomb(1 << 27))
    ),
    "png with a profile bomb": raw_png(
        1, 1, 8, 0, b"\0\0", before=chunk(b"iCCP", b"a\0\0" + deflate_bomb(1 << 27))
    ),
    "png with a million texts": raw_png(
        1, 1, 8, 0, b"\0\0", before=chunk(b"zTXt", b"a\0\0" + deflate_bomb(1 << 22)) * 40
    ),
    "gif without a frame": b"GIF89a\x40\0\x40\0\0\0\0;",
    "gif of junk codes": b"GIF89a\x40\0\x40\0\0\0\0,\0\0\0\0\x40\0\x40\0\0\x08" + b"\xff" * 200_000,
    "bmp of no size": bmp_head(0, 0),
    "tiff without a directory": b"II*\0\xff\xff\xff\x7f",
    "tiff of a strip outside": tiff_of(8, 8, (273, 4, 1, 2**31)),
    "tiff of a tag of 4 GB": tiff_of(8, 8, (65_000, 4, 2**30, 8)) + bytes(8),
    "tiff of junk in deflate": tiff_of(8, 8, compression=8),
    "tiff of junk in lzw": tiff_of(64, 64, compression=5),
    "tiff of junk in fax": tiff_of(2000, 2000, (258, 3, 1, 1), compression=4),
    "tiff of an unknown compression": tiff_of(8, 8, compression=65_000),
    "jpeg of endless scans": pictures.scans(400),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\nshowpage\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://169.254.169.254/"/></svg>',
    "svg with entities": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>',
    "pdf": save(IMAGE, "PDF"),
    "html": b"<!doctype html><img src=x onerror=alert(1)>",
    "zip": b"PK\3\4" + bytes(100),
    "mvg": b"push graphic-context\nimage over 0,0 0,0 'http://127.0.0.1/'\npop graphic-context",
    "script": b"#!/bin/sh\nid\n",
    "ico around a png": b"\0\0\1\0\1\0\x40\x30\0\0\1\0\x20\0" + struct.pack("<II", len(PNG), 22) + PNG,
    "numbers": b"P6\n64 48\n255\n" + IMAGE.tobytes(),
}

SLOW = {
    "jpeg without an end": b"\xff\xd8" + b"\xff" * 20_000_000,
    "jpeg of marks only": b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5_000_000,
    "jpeg of zeros": b"\xff\xd8\xff" + bytes(20_000_000),
    "png of empty chunks": PNG[:33] + chunk(b"prVt", b"") * 1_600_000 + PNG[33:],
    "png of tiny pixel chunks": PNG[:33] + chunk(b"IDAT", b"") * 1_600_000 + PNG[33:],
    "gif of comments": GIF[:13] + b"!\xfe\x01a\0" * 4_000_000 + GIF[13:],
    "gif of one endless comment": GIF[:13] + b"!\xfe" + b"\x01a" * 9_000_000 + b"\0" + GIF[13:],
    "tiff of a hundred thousand tags": raw_tiff([(300 + n % 60_000, 4, 1, 7) for n in range(65_000)]),
    "bmp of short runs": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 2048, 2048, 1, 8, 1, 0, 0, 0, 256, 0)
    + bytes(1024)
    + b"\1\0" * 10_000_000,
    "webp of chunks": b"RIFF" + struct.pack("<I", 19_999_992) + b"WEBP" + (b"XXXX" + bytes(4)) * 2_499_998,
}

ODD = {
    "a png with a page behind it": PNG + b"<html><script>alert(1)</script>",
    "a png with an archive behind it": PNG + b"PK\3\4" + bytes(1000),
    "a gif that is also a script": GIF + b"=1;alert(1)//",
    "a jpeg with a program in its comment": save(IMAGE, "JPEG", comment=b"<?php system($_GET[0]); ?>" * 100),
    "a jpeg with another one behind it": JPEG + JPEG,
    "a tiff whose directories go round": pictures.gray_tiff(8, 8, 8, bytes(64), following=72),
    "a tiff whose exif goes round": tiff_of(8, 8, (34_665, 4, 1, 72)),
    "a tiff whose pages go round": tiff_of(8, 8, (330, 4, 1, 72)),
    "a png of more rows than it says": raw_png(4, 4, 8, 0, bytes(5 * 4) + bytes(1 << 24)),
    "a gif of ten thousand frames": GIF[:-1] + GIF[GIF.index(b",\0\0\0\0") : -1] * 10_000 + b";",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def decoders() -> AsyncIterator[Decoders]:
    pool = Decoders(2)
    await pool.start()
    yield pool
    await pool.close()


def spent(pool: Decoders) -> float:
    """Seconds of processor time that the decoders have used: the wall's depend on what else the machine does."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids)


async def swift(pool: Decoders, data: bytes) -> Decoded:
    """Decode, and be done with it in time; a decoder that had to be killed shows in its process id."""
    before, begun = (sorted(pool.pids), spent(pool)), time.monotonic()
    try:
        return await pool.decode(data, RULE)
    finally:
        assert sorted(pool.pids) == before[0]
        assert spent(pool) - before[1] < SECONDS
        assert time.monotonic() - begun < 5 * SECONDS


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_a_picture_that_says_it_is_enormous_is_refused_unread(decoders: Decoders, name: str) -> None:
    with pytest.raises(InputOutOfBounds):
        await swift(decoders, TOO_LARGE[name])


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_or_foreign_file_is_refused(decoders: Decoders, name: str) -> None:
    with pytest.raises(InputUndecodable):
        await swift(decoders, BROKEN[name])


@pytest.mark.parametrize("name", SLOW)
async def test_a_file_made_to_be_read_slowly_is_given_up(decoders: Decoders, name: str) -> None:
    with pytest.raises(InputUndecodable):
        await swift(decoders, SLOW[name])


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", FILES)
async def test_half_a_picture_is_no_picture(decoders: Decoders, name: str, part: float) -> None:
    data = FILES[name]
    with pytest.raises(InputUndecodable):
        await swift(decoders, data[: int(len(data) * part)])


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_but_valid_picture_is_read(decoders: Decoders, name: str) -> None:
    assert (await swift(decoders, ODD[name])).size.width in {4, 8, 64}


async def test_an_animation_of_ten_thousand_frames_is_its_first(decoders: Decoders) -> None:
    frames = [Image.new("RGB", (8, 8), (n % 256, 0, 0)) for n in range(1000)]
    data = save(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert (await swift(decoders, data)).raster.data[:3] == b"\0\0\0"


async def test_hostile_pictures_leave_no_trace_in_the_server_and_kill_no_decoder(decoders: Decoders) -> None:
    bad = [*TOO_LARGE.values(), *(data for data in BROKEN.values() if len(data) < 100_000)]
    before_pids = sorted(decoders.pids)

    async def storm() -> None:
        await asyncio.gather(*(decoders.decode(data, RULE) for data in bad), return_exceptions=True)

    await storm()
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(4):
        await storm()
    assert process.memory_info().rss - before < 32 * 1024 * 1024
    good = await asyncio.gather(*(decoders.decode(data, RULE) for data in FILES.values()))
    assert all(isinstance(one, Decoded) for one in good)
    assert sorted(decoders.pids) == before_pids
