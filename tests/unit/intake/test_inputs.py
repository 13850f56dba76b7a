"""Inputs on their way in: order, limits, bounds, and what ends up in the store. Real decoders, a host on loopback."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from danqing.blobs.folder import FolderBlobs
from danqing.core.blobkeys import input_key, new_nonce, result_key
from danqing.core.errors import (
    Fault,
    InputForbidden,
    InputMalformed,
    InputOutOfBounds,
    InputTooLarge,
    InputUndecodable,
    InputUnreachable,
)
from danqing.core.models import InputRule
from danqing.core.order import Inline, Remote, Source
from danqing.core.raster import Raster, Size
from danqing.intake.inputs import Inputs, check_bounds
from danqing.outbound.get import Getter
from danqing.pixels.decoders import Decoders
from tests.support import pictures
from tests.support.clock import RealClock
from tests.support.hosts import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULE = InputRule()
PNG = pictures.save(pictures.colours(), "PNG")


class Counted(FolderBlobs):
    """Counts what is written."""

    writes = 0

    async def write(self, key: str, data: bytes) -> None:
        self.writes += 1
        await super().write(key, data)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.start()
    yield host
    await host.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def decoders() -> AsyncIterator[Decoders]:
    decoders = Decoders(2)
    await decoders.start()
    yield decoders
    await decoders.close()


@pytest.fixture
def blobs(tmp_path: Path) -> Counted:
    return Counted(tmp_path / "blobs", tmp_path / "secrets")


@pytest_asyncio.fixture(loop_scope="module")
async def inputs(decoders: Decoders, host: Host, blobs: Counted) -> AsyncIterator[Inputs]:
    getter = Getter(allow=frozenset({host.place}))
    yield Inputs(decoders, getter, blobs, RealClock())
    await getter.close()


async def fault_of(inputs: Inputs, *sources: Source, rule: InputRule = RULE) -> type[Fault]:
    with pytest.raises(Fault) as caught:
        await inputs.take("t", sources, rule)
    return caught.type


async def test_an_input_is_stored_by_its_content_under_its_tenant(inputs: Inputs, blobs: Counted) -> None:
    (taken,) = await inputs.take("t", [Inline(PNG, "image/png")], RULE)
    packed = await blobs.read(input_key("t", taken.digest))
    assert packed is not None
    raster = Raster.unpack(packed)
    assert raster.data == pictures.colours().tobytes()
    assert taken.digest == raster.digest() == hashlib.sha256(packed).hexdigest()
    assert taken.size == Size(6, 4)
    assert await blobs.read(input_key("other", taken.digest)) is None


async def test_inputs_keep_their_order_wherever_they_come_from(inputs: Inputs, host: Host) -> None:
    sides = [40, 10, 30, 20]
    files = [pictures.save(Image.new("RGB", (side, 8)), "PNG") for side in sides]
    slow = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(files[0])
    sources = [
        Remote(host.raw("/slow.png", slow, files[0], pause=0.1)),
        Inline(files[1]),
        Remote(host.answer("/quick.png", files[2])),
        Inline(files[3]),
    ]
    assert [one.size.width for one in await inputs.take("t", sources, RULE)] == sides


async def test_the_same_picture_again_is_not_written_again(inputs: Inputs, blobs: Counted) -> None:
    bmp = pictures.save(pictures.colours(), "BMP")
    first = await inputs.take("t", [Inline(PNG)], RULE)
    again = await inputs.take("t", [Inline(PNG)], RULE)
    other = await inputs.take("t", [Inline(bmp)], RULE)
    assert first == again == other
    assert blobs.writes == 1
    await inputs.take("u", [Inline(PNG)], RULE)
    assert blobs.writes == 2


async def test_a_large_picture_is_kept_small_and_reported_as_it_came(inputs: Inputs, blobs: Counted) -> None:
    (taken,) = await inputs.take("t", [Inline(pictures.flat_png(4096, 2048))], RULE)
    assert taken.size == Size(4096, 2048)
    packed = await blobs.read(input_key("t", taken.digest))
    assert packed is not None
    assert Raster.peek(packed) == (Size(2896, 1448), 3)


async def test_transparency_is_kept_only_where_it_is_asked_for(inputs: Inputs, blobs: Counted) -> None:
    source = Inline(pictures.save(Image.new("RGBA", (4, 4), (1, 2, 3, 4)), "PNG"))
    for alpha, channels in ((False, 3), (True, 4)):
        (taken,) = await inputs.take("t", [source], RULE, alpha=alpha)
        packed = await blobs.read(input_key("t", taken.digest))
        assert packed is not None
        assert Raster.peek(packed)[1] == channels


@pytest.mark.parametrize("mime", ["image/jpeg", "image/x-anything", "IMAGE/PNG; charset=utf-8", ""])
async def test_the_content_decides_whatever_picture_was_declared(inputs: Inputs, mime: str) -> None:
    assert len(await inputs.take("t", [Inline(PNG, mime)], RULE)) == 1


@pytest.mark.parametrize(
    "mime", ["text/html", "application/pdf", "video/mp4", "application/octet-stream", "x"]
)
async def test_something_declared_as_no_picture_is_malformed(inputs: Inputs, mime: str) -> None:
    assert await fault_of(inputs, Inline(PNG, mime)) is InputMalformed


@pytest.mark.parametrize(("spare", "passes"), [(1, True), (0, True), (-1, False)])
@pytest.mark.parametrize("remote", [False, True])
async def test_a_file_may_be_as_large_as_its_rule_says(
    inputs: Inputs, host: Host, spare: int, passes: bool, remote: bool
) -> None:
    rule = InputRule(max_bytes=len(PNG) + spare)
    source: Source = Remote(host.answer("/size.png", PNG)) if remote else Inline(PNG)
    if passes:
        assert len(await inputs.take("t", [source], rule)) == 1
    else:
        assert await fault_of(inputs, source, rule=rule) is InputTooLarge


async def test_no_rule_lets_a_file_above_twenty_megabytes_in(inputs: Inputs) -> None:
    rule = InputRule(max_bytes=10**9)
    assert await fault_of(inputs, Inline(bytes(20 * 1024 * 1024 + 1)), rule=rule) is InputTooLarge
    assert await fault_of(inputs, Inline(bytes(20 * 1024 * 1024)), rule=rule) is InputUndecodable


@pytest.mark.parametrize(
    ("size", "passes"),
    [
        (Size(10, 10), True),
        (Size(9, 10), False),
        (Size(10, 9), False),
        (Size(40, 20), True),
        (Size(41, 40), False),
        (Size(40, 41), False),
        (Size(20, 40), True),
        (Size(40, 19), False),
        (Size(19, 40), False),
    ],
)
async def test_sides_and_their_ratio_are_checked_both_ends_included(size: Size, passes: bool) -> None:
    rule = InputRule(sides=(10, 40), ratio=(0.5, 2.0))
    if passes:
        check_bounds(size, rule)
    else:
        with pytest.raises(InputOutOfBounds):
            check_bounds(size, rule)


async def test_the_upright_original_is_what_bounds_apply_to(inputs: Inputs) -> None:
    rule = InputRule(ratio=(0.1, 1.0))
    wide = pictures.save(Image.new("RGB", (40, 20)), "PNG", exif=pictures.exif(6))
    (taken,) = await inputs.take("t", [Inline(wide)], rule)
    assert taken.size == Size(20, 40)
    assert (
        await fault_of(inputs, Inline(pictures.save(Image.new("RGB", (40, 20)), "PNG")), rule=rule)
        is InputOutOfBounds
    )


async def test_nothing_of_a_refused_input_is_stored(inputs: Inputs, blobs: Counted) -> None:
    assert await fault_of(inputs, Inline(PNG), rule=InputRule(sides=(100, 200))) is InputOutOfBounds
    assert await fault_of(inputs, Inline(b"junk")) is InputUndecodable
    assert blobs.writes == 0


async def test_faults_of_the_network_are_the_inputs_faults(inputs: Inputs, host: Host) -> None:
    assert (
        await fault_of(inputs, Remote(host.answer("/gone", b"", status="404 Not Found"))) is InputUnreachable
    )
    assert await fault_of(inputs, Remote("http://127.0.0.1/x.png")) is InputForbidden
    assert await fault_of(inputs, Remote("file:///etc/passwd")) is InputMalformed
    assert (
        await fault_of(inputs, Remote(host.answer("/page", b"<html>", Content_Type="text/html")))
        is InputUndecodable
    )


async def test_the_first_fault_in_the_order_of_the_sources_is_told(inputs: Inputs, host: Host) -> None:
    late = Remote(host.raw("/late", b"HTTP/1.1 404 Not Found\r\n", b"Content-Length: 0\r\n\r\n", pause=0.1))
    assert await fault_of(inputs, late, Inline(b"junk")) is InputUnreachable
    assert await fault_of(inputs, Inline(b"junk"), late) is InputUndecodable


async def test_no_sources_are_no_inputs(inputs: Inputs) -> None:
    assert await inputs.take("t", [], RULE) == ()


async def test_a_caller_that_goes_away_takes_its_downloads_along(inputs: Inputs, host: Host) -> None:
    url = host.raw("/stuck", b"HTTP/1.1 200 OK\r\n", hold=True)
    waiting = asyncio.ensure_future(inputs.take("t", [Remote(url), Inline(PNG)], RULE))
    while not any("/stuck" in head for head in host.heads):  # noqa: ASYNC110 - the host has no other way to tell
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(await inputs.take("t", [Inline(PNG)], RULE)) == 1


async def test_a_result_link_of_this_service_is_read_without_a_connection(
    inputs: Inputs, blobs: Counted
) -> None:
    key = result_key("job", 0, "20261121", new_nonce())
    await blobs.write(key, PNG)
    until = int(RealClock().wall()) + 60
    for base in ("http://127.0.0.1:8000", "https://pictures.example.org/prefix"):
        (taken,) = await inputs.take("t", [Remote(blobs.link(key, base=base, expires=until))], RULE)
        assert taken.size == Size(6, 4)


async def test_a_result_link_that_is_over_forged_or_dead_is_refused(inputs: Inputs, blobs: Counted) -> None:
    key = result_key("job", 0, "20261121", new_nonce())
    now = int(RealClock().wall())
    dead = blobs.link(key, base="http://127.0.0.1:8000", expires=now + 60)
    assert await fault_of(inputs, Remote(dead)) is InputUnreachable
    await blobs.write(key, PNG)
    over = blobs.link(key, base="http://127.0.0.1:8000", expires=now - 1)
    assert await fault_of(inputs, Remote(over)) is InputUnreachable
    forged = dead.replace("job-0", "job-1")
    assert await fault_of(inputs, Remote(forged)) is InputForbidden
