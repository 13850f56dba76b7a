"""P10: no picture hurts anything but itself. Real decoder processes, some of which are made to misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from PIL import Image

from danqing.core.errors import Fault, InputOutOfBounds, InputUndecodable, Unavailable
from danqing.core.models import InputRule
from danqing.core.raster import Raster, Size
from danqing.pixels import decoders as room
from danqing.pixels.decoders import Bounds, Decoded, Decoders
from tests.support import pictures

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULE = InputRule()
GOOD = pictures.save(pictures.colours(), "PNG")
BAD = b"\x89PNG\r\n\x1a\nnot a picture"

MISBEHAVING = """
import sys; sys.path.insert(0, sys.argv[1])
import os, signal, socket, subprocess, time
from danqing.pixels import decode, decoder
from danqing.core.errors import InputUndecodable
real = decode.decode
def tries(act):
    try:
        act()
    except (OSError, ImportError):
        raise InputUndecodable
def misbehave(data, formats, *, alpha, within):
    match data:
        case b"abort": os.abort()
        case b"hang": time.sleep(1000)
        case b"spin":
            while True: pass
        case b"nonsense": os.write(1, b"?" * 1000); time.sleep(1000)
        case b"huge": os.write(1, b"\\0" + b"\\xff" * 40); time.sleep(1000)
        case b"lie":
            os.write(1, decoder.messages.answer(b"x" * 50, decode.Size(1, 1), "PNG") + b"x" * 50)
            time.sleep(1000)
        case b"read a file": tries(lambda: open("/etc/passwd", "rb"))
        case b"write a file": tries(lambda: open(sys.argv[1] + "/never-written", "wb"))
        case b"make a socket": tries(lambda: socket.socket())
        case b"load a library": tries(lambda: __import__("_sqlite3"))
        case b"start a program": tries(lambda: subprocess.run(["/bin/true"]))
        case b"copy a descriptor": tries(lambda: os.dup(0))
        case b"see the environment":
            if set(os.environ) - {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LC_CTYPE"}: os.abort()
    return real(data if data[:1] == b"\\x89" else GOOD, formats, alpha=alpha, within=within)
GOOD = bytes.fromhex(sys.argv[2])
decode.decode = misbehave
decoder.run(*sys.argv[3:])
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def decoders() -> AsyncIterator[Decoders]:
    pool = Decoders(2)
    await pool.start()
    yield pool
    await pool.close()


def misbehaving(count: int, bounds: Bounds) -> Decoders:
    root = str(Path(room.__file__).parents[2])
    program = (sys.executable, "-I", "-c", MISBEHAVING, root, GOOD.hex())
    return Decoders(count, bounds=bounds, program=program)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def wild() -> AsyncIterator[Decoders]:
    pool = misbehaving(2, Bounds(wall=2.0))
    await pool.start()
    yield pool
    await pool.close()


async def outcome(pool: Decoders, data: bytes) -> Decoded | type[Fault]:
    try:
        return await pool.decode(data, RULE)
    except Fault as fault:
        return type(fault)


async def test_a_picture_comes_back_with_its_size_and_format(decoders: Decoders) -> None:
    decoded = await decoders.decode(GOOD, RULE)
    assert decoded.raster == Raster(Size(6, 4), 3, pictures.colours().tobytes())
    assert (decoded.size, decoded.original, decoded.format) == (Size(6, 4), Size(6, 4), "PNG")


async def test_transparency_comes_back_when_asked_for(decoders: Decoders) -> None:
    data = pictures.save(Image.new("RGBA", (2, 2), (1, 2, 3, 4)), "PNG")
    assert (await decoders.decode(data, RULE, alpha=True)).raster.channels == 4
    assert (await decoders.decode(data, RULE)).raster.channels == 3


async def test_more_pictures_than_decoders_wait_their_turn(decoders: Decoders) -> None:
    sizes = [(side, side + 1) for side in range(8, 40)]
    files = [pictures.save(Image.new("RGB", size), "PNG") for size in sizes]
    decoded = await asyncio.gather(*(decoders.decode(data, RULE) for data in files))
    assert [(one.size.width, one.size.height) for one in decoded] == sizes


async def test_a_refused_picture_costs_no_process(decoders: Decoders) -> None:
    before = decoders.pids
    assert await outcome(decoders, BAD) is InputUndecodable
    assert await outcome(decoders, pictures.raw_png(9000, 9000, 8, 2, b"")) is InputOutOfBounds
    assert await outcome(decoders, b"") is InputUndecodable
    assert sorted(decoders.pids) == sorted(before)


async def test_the_rule_decides_which_formats_are_read(decoders: Decoders) -> None:
    with pytest.raises(InputUndecodable):
        await decoders.decode(GOOD, InputRule(formats=frozenset({"JPEG", "WEBP"})))


async def both(pool: Decoders) -> set[int]:
    """The processes of a pool of two, once each that ended has its successor."""
    async with asyncio.timeout(30):
        while len(pool.pids) < 2:  # noqa: ASYNC110 - nothing but the state tells of a successor
            await asyncio.sleep(0.01)
    return set(pool.pids)


@pytest.mark.parametrize("deed", ["abort", "nonsense", "huge", "lie"])
async def test_a_decoder_that_dies_or_lies_costs_its_picture_only(wild: Decoders, deed: str) -> None:
    before = await both(wild)
    hurt, fine = await asyncio.gather(outcome(wild, deed.encode()), outcome(wild, GOOD))
    assert hurt is InputUndecodable
    assert isinstance(fine, Decoded)
    for _ in range(4):
        assert isinstance(await outcome(wild, GOOD), Decoded)
    assert len(await both(wild) & before) == 1


async def test_a_decoder_that_hangs_costs_its_picture_after_the_time_limit(wild: Decoders) -> None:
    begun = time.monotonic()
    hurt, *fine = await asyncio.gather(outcome(wild, b"hang"), *(outcome(wild, GOOD) for _ in range(6)))
    assert hurt is InputUndecodable
    assert all(isinstance(one, Decoded) for one in fine)
    assert 1.9 < time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "deed",
    [
        "read a file",
        "write a file",
        "make a socket",
        "load a library",
        "start a program",
        "copy a descriptor",
    ],
)
async def test_a_decoder_can_open_nothing(wild: Decoders, deed: str) -> None:
    assert await outcome(wild, deed.encode()) is InputUndecodable


async def test_a_decoder_sees_nothing_of_the_servers_environment(wild: Decoders) -> None:
    assert isinstance(await outcome(wild, b"see the environment"), Decoded)


async def test_processor_time_is_limited_per_picture_not_per_process() -> None:
    pool = misbehaving(1, Bounds(cpu=0, wall=30))
    await pool.start()
    try:
        before = pool.pids
        for _ in range(3):
            assert isinstance(await outcome(pool, GOOD), Decoded)
        assert pool.pids == before
        begun = time.monotonic()
        assert await outcome(pool, b"spin") is InputUndecodable
        assert time.monotonic() - begun < 20
        assert isinstance(await outcome(pool, GOOD), Decoded)
    finally:
        await pool.close()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps no limit on address space")
async def test_a_picture_that_needs_too_much_memory_is_refused_and_its_decoder_lives(
    decoders: Decoders,
) -> None:
    large = pictures.save(Image.new("RGB", (6000, 6000)), "PNG", compress_level=1)
    assert isinstance(await outcome(decoders, large), Decoded)
    pool = Decoders(1, bounds=Bounds(memory=160 * 1024 * 1024))
    await pool.start()
    try:
        before = pool.pids
        assert await outcome(pool, large) is InputUndecodable
        assert isinstance(await outcome(pool, GOOD), Decoded)
        assert pool.pids == before
    finally:
        await pool.close()


async def test_a_decoder_is_replaced_after_its_number_of_pictures() -> None:
    pool = Decoders(1, bounds=Bounds(pictures=3))
    await pool.start()
    try:
        seen = [pool.pids]
        for _ in range(9):
            await pool.decode(GOOD, RULE)
            seen.append(pool.pids)
        assert len(set(seen[:3])) == 1
        assert len({pid for pids in seen for pid in pids}) == 3
    finally:
        await pool.close()


async def test_a_decoder_killed_while_idle_is_replaced_and_no_picture_is_blamed() -> None:
    pool = Decoders(1)
    await pool.start()
    try:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        while pool.pids:  # noqa: ASYNC110 - nothing but the state tells of a process's end
            await asyncio.sleep(0.01)
        assert isinstance(await outcome(pool, GOOD), Decoded)
        assert pid not in pool.pids
    finally:
        await pool.close()


async def test_a_caller_that_goes_away_leaves_the_decoder_as_it_was(decoders: Decoders) -> None:
    before = sorted(decoders.pids)
    for _ in range(4):
        waiting = asyncio.ensure_future(decoders.decode(pictures.flat_png(2000, 2000), RULE))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
    assert isinstance(await outcome(decoders, GOOD), Decoded)
    assert sorted(decoders.pids) == before


async def test_closing_ends_the_processes_and_whoever_waits() -> None:
    pool = misbehaving(1, Bounds())
    await pool.start()
    pids = pool.pids
    waiting = [asyncio.ensure_future(outcome(pool, data)) for data in (b"hang", GOOD, GOOD)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await pool.close()
    assert await asyncio.gather(*waiting) == [Unavailable] * 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_decoders_that_do_not_start_say_so() -> None:
    pool = Decoders(2, program=(sys.executable, "-c", "raise SystemExit(1)"))
    with pytest.raises(Unavailable):
        await pool.start()
    assert pool.pids == ()


async def test_an_idle_decoder_is_small_whatever_it_has_seen(decoders: Decoders) -> None:
    await decoders.decode(pictures.flat_png(4000, 4000), RULE)
    assert all(psutil.Process(pid).memory_info().rss < 60 * 1024 * 1024 for pid in decoders.pids)
