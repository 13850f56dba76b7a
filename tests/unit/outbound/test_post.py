"""Whatever an operator's own service does, a question to it is bounded, and nothing but its answer counts."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from danqing.outbound.post import Poster, Unanswered
from tests.support.hosts import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 0.5


@pytest_asyncio.fixture(loop_scope="module")
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.start()
    yield host
    await host.close()


def reads(host: Host, path: str) -> list[bytes]:
    """Let the host read the question before it answers; the questions so far."""
    act, bodies = host.acts[path], list[bytes]()

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = re.search(r"(?i)content-length: (\d+)", host.heads[-1])
        assert found is not None
        bodies.append(await reader.readexactly(int(found[1])))
        await act(reader, writer)

    host.acts[path] = whole
    return bodies


async def asked(url: str, **more: object) -> bytes:
    poster = Poster(url, **{"seconds": SECONDS, **more})  # type: ignore[arg-type]
    try:
        return await poster.post(b'{"a":1}')
    finally:
        await poster.close()


async def why(url: str, **more: object) -> str:
    with pytest.raises(Unanswered) as caught:
        await asked(url, **more)
    return str(caught.value)


async def test_a_question_gets_its_answer(host: Host) -> None:
    url = host.answer("/ok", b'{"allowed": true}')
    bodies = reads(host, "/ok")
    assert await asked(url, headers={"Authorization": "Bearer t"}) == b'{"allowed": true}'
    assert bodies == [b'{"a":1}']
    assert "Authorization: Bearer t\r\n" in host.heads[0]
    assert "Content-Type: application/json\r\n" in host.heads[0]


@pytest.mark.parametrize("status", ["500 Oh", "503 Busy", "429 Slowly"])
async def test_what_may_pass_is_tried_once_more(host: Host, status: str) -> None:
    url = host.answer("/busy", b"", status=status)
    bodies = reads(host, "/busy")
    assert await why(url) == f"status {status[:3]}"
    assert len(bodies) == 2


async def test_the_second_try_may_succeed(host: Host) -> None:
    host.raw("/once", b"")
    hangs_up = host.acts["/once"]
    url = host.answer("/once", b"fine")
    answers = host.acts["/once"]

    async def first_time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (hangs_up if len(host.heads) == 1 else answers)(reader, writer)

    host.acts["/once"] = first_time
    reads(host, "/once")
    assert await asked(url) == b"fine"


@pytest.mark.parametrize("status", ["400 No", "401 Who", "404 Where", "204 Nothing"])
async def test_another_status_is_no_answer_and_is_not_asked_for_again(host: Host, status: str) -> None:
    url = host.answer("/other", b"", status=status)
    bodies = reads(host, "/other")
    assert await why(url) == f"status {status[:3]}"
    assert len(bodies) == 1


@pytest.mark.parametrize("status", ["301 There", "302 There", "307 There", "308 There"])
async def test_a_redirect_is_not_followed(host: Host, status: str) -> None:
    host.answer("/elsewhere", b'{"allowed": true}')
    there = reads(host, "/elsewhere")
    url = host.redirect("/moved", host.url("/elsewhere"), status)
    reads(host, "/moved")
    assert await why(url) == f"status {status[:3]}"
    assert there == []


async def test_an_answer_has_a_largest_size(host: Host) -> None:
    small = host.answer("/small", b"x" * 1000)
    reads(host, "/small")
    assert len(await asked(small, most=1000)) == 1000
    assert await why(small, most=999) == "an answer of more than 999 bytes"


async def test_an_answer_without_an_end_is_cut_off(host: Host) -> None:
    url = host.raw("/forever", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, forever=True)
    reads(host, "/forever")
    assert await why(url) == "an answer of more than 65536 bytes"
    assert host.sent < 8 * 1024 * 1024


async def test_nothing_is_unpacked(host: Host) -> None:
    url = host.bomb("/bomb", 16 * 1024 * 1024)
    reads(host, "/bomb")
    assert len(await asked(url)) < 65536


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"x"),
    ],
    ids=["silent", "half a head", "half a body"],
)
async def test_all_tries_together_have_a_time_limit(host: Host, parts: tuple[bytes, ...]) -> None:
    url = host.raw("/slow", *parts, hold=True)
    reads(host, "/slow")
    begun = time.monotonic()
    assert await why(url) == "no answer within 0.5 s"
    assert time.monotonic() - begun < 4 * SECONDS


async def test_garbage_instead_of_http_is_no_answer(host: Host) -> None:
    url = host.raw("/garbage", b"\x00\xff" * 100 + b"\r\n\r\n")
    reads(host, "/garbage")
    assert await why(url)


async def test_nobody_there_is_no_answer(host: Host) -> None:
    place = host.url("/gone")
    await host.close()
    assert "Connect" in await why(place)
    await host.start()


async def test_so_many_questions_at_once(host: Host) -> None:
    url = host.raw("/turns", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", b"x", pause=0.02)
    reads(host, "/turns")
    poster = Poster(url, seconds=5.0, at_once=3)
    assert await asyncio.gather(*(poster.post(b"{}") for _ in range(12))) == [b"x"] * 12
    await poster.close()
    assert host.most_open == 3


async def test_the_reason_never_holds_what_was_sent_or_received(host: Host) -> None:
    url = host.answer("/secret", b"their secret", status="400 secret")
    reads(host, "/secret")
    poster = Poster(url, seconds=SECONDS)
    with pytest.raises(Unanswered) as caught:
        await poster.post(b"our secret")
    await poster.close()
    assert "secret" not in str(caught.value)
