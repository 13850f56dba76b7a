"""Questions to a service that the operator named: JSON there, JSON back. Knows no picture and no prompt.

The address is the operator's own, in the settings, so private ones are as good as public ones; callers cannot choose
it. The other side is still not trusted with more than its answer: redirects are not followed, nothing is unpacked, an
answer has a largest size, all tries together have a time limit, and only so many questions are under way at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
from yarl import URL

MOST_ANSWER = 64 * 1024
TRIES = 2
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "Danqing"}


class Unanswered(Exception):
    """No usable answer: nobody there, too slow, another status than 200, too long. The message says which, and
    nothing of what was sent or received."""


class Poster:
    """Asks one address, at most `at_once` questions at a time."""

    def __init__(
        self,
        url: str,
        *,
        seconds: float,
        at_once: int = 4,
        most: int = MOST_ANSWER,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`seconds` are for one question with all its tries, without the wait for its turn; `most` bytes an answer.
        Connects with the first question."""
        self._url = URL(url)
        self._seconds, self._most = seconds, most
        self._headers = {**_HEADERS, **(headers or {})}
        self._turn = asyncio.Semaphore(at_once)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes) -> bytes:
        """The body of the answer. What may pass a moment later is tried once more. Raises Unanswered."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._tried(body)
            except TimeoutError as late:
                raise Unanswered(f"no answer within {self._seconds:g} s") from late

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _tried(self, body: bytes) -> bytes:
        for left in reversed(range(TRIES)):
            try:
                async with self._open().post(self._url, data=body, allow_redirects=False) as answer:
                    if answer.status == 200:
                        return await self._body(answer)
                    if not left or answer.status not in _AGAIN:
                        raise Unanswered(f"status {answer.status}")
            except (aiohttp.ClientError, OSError, ValueError) as problem:
                if not left:
                    raise Unanswered(type(problem).__name__) from problem
        raise Unanswered("never tried")

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        data = bytearray()
        async for part in answer.content.iter_any():
            data += part
            if len(data) > self._most:
                raise Unanswered(f"an answer of more than {self._most} bytes")
        return bytes(data)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                # one question a connection: an idle one may be gone just when it is needed
                connector=aiohttp.TCPConnector(force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session
