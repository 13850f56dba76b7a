"""P10: mutated pictures. Whatever the mutation, the answer is a raster or a refusal, in time, and decoders live."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from danqing.core.errors import InputOutOfBounds, InputUndecodable
from danqing.core.models import InputRule
from danqing.pixels.decode import KEEP_AREA
from danqing.pixels.decoders import Bounds, Decoders
from tests.support import pictures
from tests.support.pictures import exif, linear_profile, save

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULE = InputRule()
MUTANTS = 3000
NUMBERS = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\1\0\0\0",
)


def seeds() -> list[bytes]:
    image = pictures.colours(48, 32)
    extra = {"exif": exif(6), "icc_profile": linear_profile()}
    return [
        save(image, "PNG", **extra),
        save(image.quantize(16), "PNG", transparency=3),
        save(image, "JPEG", **extra),
        save(image, "JPEG", progressive=True),
        save(image.convert("CMYK"), "JPEG"),
        save(image, "WEBP", **extra),
        save(image.convert("RGBA"), "WEBP", lossless=True),
        save(image.quantize(16), "GIF", save_all=True, append_images=[image.quantize(16).rotate(180)] * 3),
        save(image, "BMP"),
        save(image.quantize(16), "BMP"),
        *(
            save(image, "TIFF", compression=c)
            for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ),
        save(image.convert("F"), "TIFF"),
        save(image.convert("1"), "TIFF", compression="group4"),
        pictures.gray_tiff(3, 1, 16, b"\0\0\0\x80\xff\xff"),
    ]


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One to four small accidents; most of them near the head, where the numbers are."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(min(len(changed), dice.choice((40, 200, len(changed)))))
        match dice.randrange(6):
            case 0:
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                number = dice.choice(NUMBERS)
                changed[at : at + len(number)] = number
            case 2:
                changed[at:at] = dice.randbytes(dice.randrange(1, 9))
            case 3:
                del changed[at : at + dice.randrange(1, 9)]
            case 4:
                length = dice.randrange(1, 64)
                changed[at:at] = changed[dice.randrange(len(changed)) :][:length]
            case _:
                changed[at] = dice.randrange(256)
        if not changed:
            return b""
    return bytes(changed)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def decoders() -> AsyncIterator[Decoders]:
    pool = Decoders(2, bounds=Bounds(pictures=2 * MUTANTS))
    await pool.start()
    yield pool
    await pool.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_mutant_is_read_or_refused(decoders: Decoders, seed: int) -> None:
    dice = random.Random(seed)
    parents = seeds()
    counts = {"read": 0, "refused": 0}

    async def send(data: bytes) -> None:
        begun = time.monotonic()
        try:
            decoded = await decoders.decode(data, RULE)
        except (InputUndecodable, InputOutOfBounds):
            counts["refused"] += 1
        else:
            counts["read"] += 1
            assert 0 < decoded.size.area <= KEEP_AREA
        assert time.monotonic() - begun < 10

    before = sorted(decoders.pids)
    for _ in range(MUTANTS // 2 // 20):
        await asyncio.gather(*(send(mutate(dice.choice(parents), dice)) for _ in range(20)))
    assert sum(counts.values()) == MUTANTS // 2
    assert min(counts.values()) > MUTANTS // 20
    assert sorted(decoders.pids) == before
