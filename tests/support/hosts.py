"""A hostile image host on loopback: every way in which the other side of a download can misbehave."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from contextlib import suppress

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Host:
    """An HTTP host whose paths each do what they are told. `served` counts requests, `sent` the bytes written."""

    def __init__(self) -> None:
        self.acts: dict[str, Act] = {}
        self.heads: list[str] = []
        self.sent = 0
        self.open = 0
        self.most_open = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def place(self) -> str:
        """Host and port, as a URL spells them."""
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        """The URL of a path here."""
        return f"http://{self.place}{path}"

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop; whoever still talks is cut off."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                await self.acts[head.split(" ")[1]](reader, writer)
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send, and count what was sent."""
        writer.write(data)
        self.sent += len(data)
        await writer.drain()

    def answer(self, path: str, body: bytes, *, status: str = "200 OK", **headers: str) -> str:
        """Answer `path` in the ordinary way; the URL. Header names are given with underscores."""
        lines = {"content_length": str(len(body)), **headers}
        head = f"HTTP/1.1 {status}\r\n" + "".join(
            f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items() if value
        )

        async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.write(writer, head.encode("latin-1") + b"\r\n" + body)

        self.acts[path] = act
        return self.url(path)

    def raw(
        self, path: str, *parts: bytes, pause: float = 0, hold: bool = False, forever: bool = False
    ) -> str:
        """Send these bytes as they are, pausing between them, then hang up, hold the line, or repeat the last part
        without an end; the URL."""

        async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for number, part in enumerate(parts):
                await asyncio.sleep(pause if number else 0)
                await self.write(writer, part)
            while forever:
                await asyncio.sleep(pause)
                await self.write(writer, parts[-1])
            if hold:
                await asyncio.sleep(60)

        self.acts[path] = act
        return self.url(path)

    def redirect(self, path: str, to: str, status: str = "302 Found") -> str:
        """Send whoever asks for `path` somewhere else; the URL."""
        return self.answer(path, b"", status=status, Location=to)

    def bomb(self, path: str, size: int) -> str:
        """A body that says it is gzip and unpacks to `size` zeros; the URL."""
        return self.answer(path, gzip.compress(bytes(size), 9), Content_Encoding="gzip")
