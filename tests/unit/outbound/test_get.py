"""S2 to S4: whatever an image host does, a download is bounded, and no socket opens to where it must not."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from danqing.core.errors import Fault, InputForbidden, InputMalformed, InputTooLarge, InputUnreachable
from danqing.outbound.get import Getter, Patience
from tests.support import places
from tests.support.hosts import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

BRISK = Patience(connect=0.5, silence=0.4, total=0.9)
LIMIT = 64 * 1024


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.start()
    yield host
    await host.close()


@pytest_asyncio.fixture(loop_scope="module")
async def getter(host: Host) -> AsyncIterator[Getter]:
    getter = Getter(allow=frozenset({host.place}), patience=BRISK)
    yield getter
    await getter.close()


class Sockets:
    """Counts the sockets that were made, and makes none."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, family: int, kind: int, protocol: int) -> socket.socket:
        self.made += 1
        raise ConnectionRefusedError("counted")


async def fault_of(getter: Getter, url: str, limit: int = LIMIT, tenant: str = "t") -> type[Fault]:
    with pytest.raises(Fault) as caught:
        await getter.get(tenant, url, limit)
    return caught.type


def guarded(resolve: Any = None) -> tuple[Getter, Sockets]:
    sockets = Sockets()
    return Getter(make_socket=sockets, resolve=resolve, patience=BRISK), sockets


async def test_a_body_comes_back_whole(getter: Getter, host: Host) -> None:
    body = bytes(range(256)) * 200
    assert await getter.get("t", host.answer("/whole", body), LIMIT) == body


async def test_the_request_asks_for_plain_bytes_and_carries_no_cookies(getter: Getter, host: Host) -> None:
    url = host.answer("/plain?x=%2B&y=1", b"x", Set_Cookie="a=b")
    for _ in range(2):
        await getter.get("t", url, LIMIT)
    head = host.heads[-1].lower()
    assert head.startswith("get /plain?x=%2b&y=1 http/1.1")
    assert "accept-encoding: identity" in head
    assert "cookie" not in head


@pytest.mark.parametrize(("size", "passes"), [(LIMIT - 1, True), (LIMIT, True), (LIMIT + 1, False)])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_may_be_as_large_as_the_limit(
    getter: Getter, host: Host, size: int, passes: bool, announced: bool
) -> None:
    url = host.answer("/size", bytes(size), **({} if announced else {"content_length": ""}))
    if passes:
        assert len(await getter.get("t", url, LIMIT)) == size
    else:
        assert await fault_of(getter, url) is InputTooLarge


async def test_an_announced_size_above_the_limit_is_not_read(getter: Getter, host: Host) -> None:
    url = host.raw("/boast", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", hold=True)
    assert await fault_of(getter, url) is InputTooLarge


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_endless_body_ends_at_the_limit(getter: Getter, host: Host, chunked: bool) -> None:
    piece = bytes(16 * 1024)
    head = b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked\r\n" if chunked else b"") + b"\r\n"
    part = b"4000\r\n" + piece + b"\r\n" if chunked else piece
    before = host.sent
    assert await fault_of(getter, host.raw("/endless", head, part, forever=True)) is InputTooLarge
    assert host.sent - before < 8 * 1024 * 1024


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"HTTP/1.1 200 OK\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",),
    ],
)
async def test_a_silent_host_is_given_up(getter: Getter, host: Host, parts: tuple[bytes, ...]) -> None:
    begun = time.monotonic()
    assert await fault_of(getter, host.raw("/silent", *parts, hold=True)) is InputUnreachable
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "parts",
    [(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"), (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x")],
)
async def test_a_dripping_host_is_given_up_when_the_time_is_over(
    getter: Getter, host: Host, parts: tuple[bytes, ...]
) -> None:
    begun = time.monotonic()
    assert await fault_of(getter, host.raw("/drip", *parts, pause=0.05, forever=True)) is InputUnreachable
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 ?\r\n\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
    ],
)
async def test_an_answer_that_is_not_one_is_unreachable(getter: Getter, host: Host, answer: bytes) -> None:
    found = await fault_of(getter, host.raw("/junk", answer))
    assert found in {InputUnreachable, InputForbidden}


@pytest.mark.parametrize(
    "status", ["201 Created", "204 No Content", "206 Partial", "401 No", "404 Not Found", "500 Oops"]
)
async def test_another_status_than_ok_is_unreachable(getter: Getter, host: Host, status: str) -> None:
    assert await fault_of(getter, host.answer("/status", b"x", status=status)) is InputUnreachable


async def test_nothing_is_unpacked(getter: Getter, host: Host) -> None:
    body = await getter.get("t", host.bomb("/bomb", 50_000_000), LIMIT)
    assert body[:2] == b"\x1f\x8b"
    assert len(body) < LIMIT


async def test_a_closed_port_is_unreachable(host: Host) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{listener.getsockname()[1]}"
    getter = Getter(allow=frozenset({place}), patience=BRISK)
    assert await fault_of(getter, f"http://{place}/x") is InputUnreachable
    await getter.close()


async def test_a_certificate_nobody_signed_is_unreachable(getter: Getter, host: Host) -> None:
    url = host.answer("/tls", b"x").replace("http://", "https://")
    assert await fault_of(getter, url) is InputUnreachable


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    def nowhere(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("no such name")

    for resolve in (nowhere, lambda host, port: []):
        getter, sockets = guarded(resolve)
        assert await fault_of(getter, "http://example.com/x") is InputUnreachable
        assert sockets.made == 0
        await getter.close()


async def test_a_name_server_that_hangs_is_given_up(host: Host) -> None:
    getter, sockets = guarded(lambda host, port: time.sleep(1.5) or ["1.1.1.1"])
    begun = time.monotonic()
    assert await fault_of(getter, "http://example.com/x") is InputUnreachable
    assert time.monotonic() - begun < 1.4
    assert sockets.made == 0
    await getter.close()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_followed(getter: Getter, host: Host, status: str) -> None:
    host.answer("/there", b"here")
    for to in ("/there", host.url("/there"), "there"):
        assert await getter.get("t", host.redirect("/from", to, status), LIMIT) == b"here"


@pytest.mark.parametrize(("hops", "passes"), [(2, True), (3, True), (4, False)])
async def test_three_redirects_are_followed_and_no_more(
    getter: Getter, host: Host, hops: int, passes: bool
) -> None:
    host.answer("/hop0", b"end")
    for hop in range(1, hops + 1):
        host.redirect(f"/hop{hop}", f"/hop{hop - 1}")
    if passes:
        assert await getter.get("t", host.url(f"/hop{hops}"), LIMIT) == b"end"
    else:
        assert await fault_of(getter, host.url(f"/hop{hops}")) is InputUnreachable


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://2130706433/",
        "//127.0.0.1/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "data:image/png;base64,AAAA",
        "http://user@example.com/",
        "http://example.com:22/",
        "http:\\\\127.0.0.1\\",
    ],
)
async def test_a_redirect_to_where_nobody_may_go_is_forbidden(host: Host, to: str) -> None:
    made: list[int] = []

    def make(family: int, kind: int, protocol: int) -> socket.socket:
        made.append(1)
        return socket.socket(family, kind, protocol)

    getter = Getter(allow=frozenset({host.place}), patience=BRISK, make_socket=make)
    assert await fault_of(getter, host.redirect("/away", to)) is InputForbidden
    assert len(made) == 1
    await getter.close()


@pytest.mark.parametrize("address", places.FORBIDDEN)
async def test_a_name_that_leads_to_a_forbidden_address_opens_no_socket(address: str) -> None:
    getter, sockets = guarded(lambda host, port: [address])
    for url in ("http://example.com/x.png", "https://example.com/x.png"):
        assert await fault_of(getter, url) is InputForbidden
    assert sockets.made == 0
    await getter.close()


@pytest.mark.parametrize("host", places.NOTATIONS)
async def test_a_literal_forbidden_address_opens_no_socket(host: str) -> None:
    getter, sockets = guarded(lambda host, port: ["127.0.0.1"])
    assert await fault_of(getter, f"http://{host}/") in {InputForbidden, InputMalformed}
    assert sockets.made == 0
    await getter.close()


async def test_an_address_of_this_very_machine_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danqing.outbound.get.is_public", lambda address: True)
    getter, sockets = guarded(lambda host, port: ["127.0.0.1"])
    assert await fault_of(getter, "http://example.com/") is InputForbidden
    assert sockets.made == 0
    await getter.close()


async def test_a_name_that_changes_its_mind_a_thousand_times_never_gets_in() -> None:
    flips = random.Random(7)
    asked = itertools.count()

    def rebinding(host: str, port: int) -> Sequence[str]:
        next(asked)
        return [flips.choice(["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1"])]

    sockets = Sockets()
    getter = Getter(make_socket=sockets, resolve=rebinding)  # patient: a thousand at once take their time
    faults = await asyncio.gather(
        *(fault_of(getter, f"http://flip.example/{n}", tenant=str(n)) for n in range(1000))
    )
    assert set(faults) == {InputForbidden}
    assert (sockets.made, next(asked)) == (0, 1000)
    await getter.close()


async def test_of_several_addresses_only_the_public_ones_are_tried() -> None:
    getter, sockets = guarded(lambda host, port: ["10.0.0.1", "1.1.1.1", "::1", "127.0.0.1"])
    await fault_of(getter, "http://example.com/")
    assert sockets.made >= 1
    await getter.close()


async def test_a_trusted_place_is_trusted_by_its_name_only(host: Host) -> None:
    getter = Getter(
        allow=frozenset({f"pictures.internal:{host.port}"}),
        patience=BRISK,
        resolve=lambda name, port: ["127.0.0.1"],
    )
    host.answer("/trusted", b"yes")
    assert await getter.get("t", f"http://pictures.internal:{host.port}/trusted", LIMIT) == b"yes"
    for name in ("127.0.0.1", "other.internal"):
        assert await fault_of(getter, f"http://{name}:{host.port}/trusted") is InputForbidden
    await getter.close()


async def test_checking_a_url_touches_no_network() -> None:
    getter, sockets = guarded(lambda host, port: pytest.fail("resolved"))
    getter.check("http://example.com/x.png")
    with pytest.raises(InputForbidden):
        getter.check("http://127.0.0.1/x.png")
    with pytest.raises(InputMalformed):
        getter.check("file:///x.png")
    assert sockets.made == 0
    await getter.close()


async def test_one_tenant_has_four_downloads_at_a_time_and_all_have_sixteen() -> None:
    host = Host()
    await host.start()
    getter = Getter(allow=frozenset({host.place}))
    url = host.raw("/slow", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", b"x", pause=0.05)
    host.most_open = 0
    await asyncio.gather(*(getter.get("one", url, LIMIT) for _ in range(10)))
    assert host.most_open == 4
    host.most_open = 0
    await asyncio.gather(*(getter.get(str(n % 10), url, LIMIT) for n in range(40)))
    assert host.most_open == 16
    await getter.close()
    await host.close()


async def test_a_tenants_queue_is_forgotten_when_it_is_empty(getter: Getter, host: Host) -> None:
    for n in range(20):
        await getter.get(f"tenant {n}", host.answer("/once", b"x"), LIMIT)
    assert getter._tenants == {}
