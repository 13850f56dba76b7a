"""The worker's side of the six verbs, over a Unix socket. Retries what may pass later; knows no engine.

One deadline a call: it covers all tries. Pauses between tries are exponential with full jitter. Every verb may be
repeated: the token makes `end` and `image` safe, and a lease whose answer was lost is missing in the next claim's
`holding`, upon which the server takes it back.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson

from danqing.core.errors import Fault, Internal
from danqing.core.job import Closing, Lease, News
from danqing.core.ports import Clock
from danqing.core.raster import Raster
from danqing.core.writing import Panel
from danqing.lease.deadline import Deadline, jitter
from danqing.lease.messages import (
    LONGEST_POLL,
    BadMessage,
    Beats,
    Claim,
    End,
    Ended,
    Gone,
    Hello,
    ImagesMissing,
    Pulse,
    Script,
    TokenGone,
    Wrong,
    decode,
    encode,
)

T = TypeVar("T")

CALL_SECONDS = 60.0
"""How long an input, a picture or an end is tried."""
BEAT_SECONDS = 4.0
POLL_SLACK = 10.0


class ServerAway(Exception):
    """Nobody answers, or the server cannot do it at the moment. `fault` is what it said, if it said something."""

    def __init__(self, message: str, fault: Fault | None = None) -> None:
        """Keep the reason."""
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Dropped:
    """News: this token's job was cancelled or taken away."""

    token: str


class LeaseClient:
    """Talks to the lease server at `path`. `pause` waits between tries (tests hand in their own)."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        dice: random.Random | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Connects with the first call."""
        self._path, self._clock, self._pause = path, clock, pause
        self._dice = dice if dice is not None else random.Random()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def news(
        self, hello: Hello, *, room: Callable[[], int], holding: Callable[[], tuple[str, ...]]
    ) -> AsyncIterator[Lease | Dropped]:
        """Leases and losses, one long poll after the other, for as long as one listens. A server that is away is
        waited for."""
        tries = 0
        while True:
            try:
                news = await self.claim(Claim(hello, room(), LONGEST_POLL, holding()))
            except ServerAway:
                await self._pause(jitter(tries, self._dice))
                tries += 1
                continue
            tries = 0
            for token in news.cancelled:
                yield Dropped(token)
            for lease in news.leases:
                yield lease

    async def claim(self, ask: Claim) -> News:
        """One poll, tried once. Raises ServerAway, BadMessage."""
        body = await self._call("POST", "/claim", data=encode(ask), seconds=ask.seconds + POLL_SLACK)
        return decode(News, body)

    async def farewell(self, hello: Hello) -> None:
        """The last poll, tried once: leases that were on their way here when the polling ended go back to the queue.
        Raises ServerAway."""
        await self.claim(Claim(hello, 0, 0.0))

    async def beat(
        self, worker: str, beats: tuple[Pulse, ...], figures: Mapping[str, float] | None = None
    ) -> Gone:
        """Tokens that hold nothing any more, and those that are watched; `figures` are what the engine counts of
        itself. Tried for 4 s: the next beat says it anew. Raises ServerAway."""
        ask = encode(Beats(worker, beats, figures or {}))
        body = await self._tried(
            BEAT_SECONDS, lambda left: self._call("POST", "/beat", data=ask, seconds=left)
        )
        return decode(Gone, body)

    async def input(self, token: str, digest: str) -> Raster:
        """An input of the token's job. Raises TokenGone, ServerAway; Internal if it is gone or arrived damaged."""
        path = f"/input/{token}/{digest}"
        packed = await self._tried(CALL_SECONDS, lambda left: self._call("GET", path, seconds=left))
        try:
            raster = Raster.unpack(packed)
        except ValueError as fault:
            raise Internal("an input arrived damaged") from fault
        if await asyncio.to_thread(raster.digest) != digest:
            raise Internal("an input arrived damaged")
        return raster

    async def script(self, token: str, panels: tuple[Panel, ...]) -> tuple[Panel, ...]:
        """Tell what the pictures are going to be; answers what they have to be, which is what the job's first attempt
        told. Raises TokenGone, ServerAway, BadMessage."""
        ask = encode(Script(token, panels))
        body = await self._tried(
            CALL_SECONDS, lambda left: self._call("POST", "/script", data=ask, seconds=left)
        )
        return decode(Script, body).panels

    async def image(self, token: str, index: int, raster: Raster) -> None:
        """Have a picture stored. Raises TokenGone, ServerAway, BadMessage."""
        path, packed = f"/image/{token}/{index}", raster.pack()
        # a fresh stream a try; a bare bytes object of this size would be written in one go
        await self._tried(
            CALL_SECONDS, lambda left: self._call("PUT", path, data=io.BytesIO(packed), seconds=left)
        )

    async def end(self, end: End, *, seconds: float = CALL_SECONDS) -> Closing:
        """End the attempt. Raises ImagesMissing, ServerAway, BadMessage."""
        ask = encode(end)
        body = await self._tried(seconds, lambda left: self._call("POST", "/end", data=ask, seconds=left))
        return decode(Ended, body).closing

    async def _tried(self, seconds: float, call: Callable[[float], Awaitable[T]]) -> T:
        """The first answer within `seconds`; else the last failure."""
        deadline = Deadline.after(self._clock, seconds)
        tries = 0
        while True:
            try:
                return await call(max(deadline.left(), 0.1))
            except ServerAway:
                pause = jitter(tries, self._dice)
                if pause >= deadline.left():
                    raise
                await self._pause(pause)
                tries += 1

    async def _call(self, method: str, path: str, *, seconds: float, data: Any = None) -> bytes:
        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with self._open().request(method, path, data=data, timeout=timeout) as answer:
                return _checked(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise ServerAway(f"{method} {path.split('/')[1]}: {type(fault).__name__}") from fault

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.UnixConnector(str(self._path), limit=0)
            self._session = aiohttp.ClientSession("http://lease", connector=connector, trust_env=False)
        return self._session


def _checked(status: int, body: bytes) -> bytes:
    """The body of a good answer; the others as what they mean."""
    if status < 300:
        return body
    if status == 410:
        raise TokenGone
    if status == 409:
        raise ImagesMissing(body.decode(errors="replace"))
    if status == 422:
        raise _fault(body) or Internal()
    if status < 500:
        raise BadMessage(f"{status}: {body[:200].decode(errors='replace')}")
    raise ServerAway(f"the server answered {status}", _fault(body))


def _fault(body: bytes) -> Fault | None:
    """The fault in the body of a 5xx, if there is one."""
    try:
        wrong = orjson.loads(body)["fault"]
        return Wrong(wrong["name"], wrong["message"]).fault()
    except (ValueError, KeyError, TypeError):
        return None
