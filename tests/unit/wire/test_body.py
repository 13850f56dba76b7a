"""Bodies at limit −1, limit and limit +1, and those that come too slowly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from danqing.core.errors import BodyTooLarge, BodyTooSlow
from danqing.wire.body import MIB, Limits, discard, fits, read, room


def request(*parts: bytes | None, ends: bool = True, **headers: str) -> Request:
    """A request whose body comes in these parts; None is a client that leaves, no end is one that stalls."""
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"}
        if part is None
        else {"type": "http.request", "body": part, "more_body": not ends or index < len(parts) - 1}
        for index, part in enumerate(parts)
    ]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    head = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": head}, receive)


@pytest.mark.parametrize(("size", "passes"), [(99, True), (100, True), (101, False)])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_has_at_most_its_limit(size: int, passes: bool, declared: bool) -> None:
    headers = {"content_length": str(size)} if declared else {}
    asked = request(b"x" * 50, b"x" * (size - 50), **headers)
    if passes:
        assert await read(asked, Limits(most=100)) == b"x" * size
        return
    with pytest.raises(BodyTooLarge):
        await read(asked, Limits(most=100))


async def test_an_absurd_length_is_refused_before_a_byte() -> None:
    with pytest.raises(BodyTooLarge):
        await read(request(content_length="9" * 5000), Limits(most=100))


async def test_a_stalled_body_is_given_up_after_the_grace() -> None:
    with pytest.raises(BodyTooSlow):
        await read(request(b"x", ends=False), Limits(grace=0.01, least_rate=1e9))


async def test_a_body_within_its_rate_has_until_the_total() -> None:
    with pytest.raises(BodyTooSlow):
        await read(request(b"x" * 1000, ends=False), Limits(grace=0.001, least_rate=1, seconds=0.02))


async def test_a_client_that_leaves_ends_the_reading() -> None:
    with pytest.raises(ClientDisconnect):
        await read(request(b"x", None), Limits())


@pytest.mark.parametrize("parts", [(b"x" * 10, b"y"), (b"x" * 1000,), (b"x", None)])
async def test_what_nobody_wants_is_dropped_without_an_error(parts: tuple[bytes | None, ...]) -> None:
    await discard(request(*parts), Limits(most=100))


async def test_dropping_ends_even_if_the_body_does_not() -> None:
    await discard(request(b"x", ends=False), Limits(), seconds=0.01)


@pytest.mark.parametrize(
    ("pictures", "most"), [(0, MIB), (1, 15 * MIB), (3, 43 * MIB), (9, 127 * MIB), (10, 128 * MIB)]
)
def test_each_picture_has_14_mib_and_no_body_more_than_128(pictures: int, most: int) -> None:
    assert room(pictures) == most


def test_a_body_of_more_than_its_model_s_pictures_need_is_too_large() -> None:
    fits(15 * MIB, 1)
    with pytest.raises(BodyTooLarge):
        fits(15 * MIB + 1, 1)
