"""The outermost layer: which path is meant, and how many calls are in progress."""

from __future__ import annotations

import time

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from danqing.core.errors import QueueFull
from danqing.wire.guard import Crowd, Guard, plain

E1 = "/api/v1/services/aigc/multimodal-generation/generation"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        (E1, E1),
        (E1 + "/", E1),
        (E1 + "//", E1),
        ("/any/prefix" + E1, E1),
        (E1.replace("/api/v1/", "/api/v1//"), E1),
        ("/compatible-mode/v1//images//generations", "/compatible-mode/v1/images/generations"),
        ("/results//a.png", "/results//a.png"),
        ("/any/compatible-mode/v1/images/generations/", "/compatible-mode/v1/images/generations"),
        ("/api/v1/", "/api/v1"),
        ("/", "/"),
        ("", "/"),
        ("/results/a/b.png", "/results/a/b.png"),
        ("/my/api/v1", "/my/api/v1"),
    ],
)
def test_prefixes_and_slashes_at_the_end_do_not_count(path: str, meant: str) -> None:
    assert plain(path) == meant


def test_calls_are_counted_in_all_and_by_address() -> None:
    crowd = Crowd(most=3, most_per_address=2)
    crowd.enter("a")
    crowd.enter("a")
    with pytest.raises(QueueFull):
        crowd.enter("a")
    crowd.enter("b")
    with pytest.raises(QueueFull):
        crowd.enter("c")
    crowd.leave("a")
    crowd.enter("c")
    assert crowd.size == 3


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("::1", 1), ("testclient", 1), None])
def test_this_machine_has_no_limit_of_its_own(client: tuple[str, int] | None) -> None:
    crowd = Crowd(most=5, most_per_address=1)
    places = [crowd.inside({"client": client}) for _ in range(5)]
    for place in places:
        place.__enter__()
    assert crowd.size == 5


def test_a_place_is_given_back_whatever_happens() -> None:
    crowd = Crowd(most=1, most_per_address=1)
    with pytest.raises(RuntimeError), crowd.inside({"client": ("203.0.113.9", 1)}):
        raise RuntimeError
    with crowd.inside({"client": ("203.0.113.9", 1)}):
        assert crowd.size == 1
    assert crowd.size == 0


async def answered(path: str) -> httpx.Headers:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        until = time.perf_counter() + 0.02
        while time.perf_counter() < until:
            pass
        await Response("{}")(scope, receive, send)

    guard = Guard(slow, answer=lambda *_: Response(), observe=lambda *_: None, crowd=Crowd())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://test") as client:
        return (await client.get(path)).headers


async def test_answers_of_the_dialect_tell_when_they_were_asked_for_and_what_they_took() -> None:
    before = int(time.time() * 1000)
    headers = await answered("/any/prefix" + E1)
    arrived, began, cost = (
        int(headers[name]) for name in ("req-arrive-time", "resp-start-time", "req-cost-time")
    )
    assert before <= arrived < began <= int(time.time() * 1000) + 1
    assert 20 <= cost <= began - arrived + 1


async def test_other_answers_do_not() -> None:
    assert not {"req-arrive-time", "req-cost-time"} & set(await answered("/health"))
