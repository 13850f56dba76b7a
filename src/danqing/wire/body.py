"""A request's body, read under limits of size and time. Knows no dialect and no JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, replace

from starlette.requests import ClientDisconnect, Request

from danqing.core.errors import BodyTooLarge, BodyTooSlow

MIB = 1024 * 1024
PICTURE = 14 * MIB
"""Room for one data URI: 10 MB of Base64 and the text around it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes; seconds for the whole body; and from `grace` seconds on, the least bytes per second on average."""

    most: int = 8 * PICTURE + MIB
    seconds: float = 60.0
    grace: float = 10.0
    least_rate: float = 16 * 1024


IGNORED = Limits(most=64 * 1024, seconds=5.0, grace=5.0)
"""What a request may carry as a body that is not looked at."""


def room(pictures: int) -> int:
    """The largest body, in bytes, of a call with so many input pictures: 14 MiB each and one more, at most 128."""
    return min(pictures * PICTURE + MIB, 128 * MIB)


def fits(size: int, pictures: int) -> None:
    """Raises BodyTooLarge for a body that has more bytes than its model's pictures need: the route that read it may
    serve models that take more."""
    if size > room(pictures):
        raise BodyTooLarge


class BodyCut(ClientDisconnect):
    """The body ended early: its client left, or what came was framed wrongly, which a server under us tells as if the
    client had left. So it may still be there to be told."""


async def read(request: Request, limits: Limits) -> bytes:
    """The whole body. Raises BodyTooLarge, BodyTooSlow, BodyCut."""
    return b"".join([part async for part in parts(request, limits)])


async def discard(request: Request, limits: Limits, *, seconds: float = 5.0) -> None:
    """Read a body that nobody wants, for a short time: a client that is still sending would otherwise find its
    connection reset and never see why it was refused. The bytes are not kept."""
    with suppress(BodyTooLarge, BodyTooSlow, ClientDisconnect):
        async for _ in parts(request, replace(limits, seconds=seconds, grace=seconds)):
            pass


async def parts(request: Request, limits: Limits) -> AsyncGenerator[bytes]:
    """The body as it comes, for what must not be in memory together. Raises as `read`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.most:
        raise BodyTooLarge
    began, received, more = asyncio.get_running_loop().time(), 0, True
    while more:
        allowed = min(limits.seconds, max(limits.grace, received / limits.least_rate))
        try:
            async with asyncio.timeout_at(began + allowed):
                message = await request.receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise BodyCut
        part = message.get("body", b"")
        received += len(part)
        if received > limits.most:
            raise BodyTooLarge
        more = message.get("more_body", False)
        yield part
