"""An event stream as an HTTP answer. Knows no event."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

EVENTS = "text/event-stream;charset=UTF-8"


class Stream(Response):
    """An event stream: its head at once, then each frame as it comes. Whoever writes the frames watches the client."""

    def __init__(self, frames: AsyncGenerator[bytes], headers: Mapping[str, str]) -> None:
        """Nothing is sent yet."""
        super().__init__(status_code=200, headers=dict(headers), media_type=EVENTS)
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._frames) as frames:
            async for part in frames:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
