"""A hub of weights on loopback: the part of the Hugging Face hub's API, and of ModelScope's, that a pull uses, from
folders, with every way in which it can misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000
"""Bytes from which a file is told with its sha256, as large-file storage does."""


@dataclass
class FakeHub:
    """A hub that serves `repos` (id to folder). `cut` breaks the line of a path after so many bytes, so many times;
    `lies` are paths whose hash is told wrong; `deaf` are paths that ignore ranges; `empty` ones bring nothing and call
    that all there is."""

    repos: dict[str, Path]
    revision: str = REVISION
    cut: dict[str, tuple[int, int]] = field(default_factory=dict)
    lies: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    page: int = 3
    elsewhere: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)
    tokens: set[tuple[str, str | None]] = field(default_factory=set)
    url: str = ""

    def routes(self) -> web.Application:
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/api/models/{owner}/{name}/revision/{revision}", self._settle)
        app.router.add_get("/api/models/{owner}/{name}/tree/{revision}", self._tree)
        app.router.add_get("/{owner}/{name}/resolve/{revision}/{path:.+}", self._file)
        app.router.add_get("/store/{owner}/{name}/{path:.+}", self._stored)
        app.router.add_get("/api/v1/models/{owner}/{name}/repo/files", self._scope)
        app.router.add_get("/api/v1/models/{owner}/{name}/repo", self._scoped)
        return app

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> Any:
        self.asked[request.path] += 1
        self.tokens.add((request.path.split("/")[1], request.headers.get("Authorization")))
        return await handler(request)

    def _folder(self, request: web.Request) -> Path:
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        if name not in self.repos:
            raise web.HTTPNotFound(text='{"error": "Repository not found"}')
        return self.repos[name]

    def _files(self, folder: Path) -> list[tuple[str, bytes]]:
        found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return [
            (
                self.names.get(path.relative_to(folder).as_posix(), path.relative_to(folder).as_posix()),
                path.read_bytes(),
            )
            for path in found
        ]

    async def _settle(self, request: web.Request) -> web.Response:
        self._folder(request)
        asked = request.match_info["revision"]
        if asked not in ("main", self.revision):
            raise web.HTTPNotFound(text="{}")
        return web.json_response({"id": "x", "sha": self.revision})

    async def _tree(self, request: web.Request) -> web.Response:
        entries = [self._entry(path, data) for path, data in self._files(self._folder(request))]
        entries.insert(0, {"type": "directory", "path": "a", "size": 0, "oid": "0"})
        first = int(request.query.get("cursor", "0"))
        headers = {}
        if first + self.page < len(entries):
            following = f"{self.url}{request.path}?recursive=true&cursor={first + self.page}"
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(entries[first : first + self.page], headers=headers)

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git}
        if len(data) >= LARGE:
            entry["lfs"] = {"oid": self._sha256(path, data), "size": len(data), "pointerSize": 134}
        elif path in self.lies:
            entry["oid"] = "0" * 40
        return entry

    def _sha256(self, path: str, data: bytes) -> str:
        return "0" * 64 if path in self.lies else hashlib.sha256(data).hexdigest()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        folder, path = self._folder(request), request.match_info["path"]
        headers = {"X-Repo-Commit": self.revision}
        if self.elsewhere and (folder / path).stat().st_size >= LARGE:
            name = f"{request.match_info['owner']}/{request.match_info['name']}"
            raise web.HTTPFound(f"{self.elsewhere}/store/{name}/{path}", headers=headers)
        return await self._send(request, path, (folder / path).read_bytes(), headers)

    async def _stored(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        return await self._send(request, path, (self._folder(request) / path).read_bytes(), {})

    async def _send(
        self, request: web.Request, path: str, data: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        etag = hashlib.sha256(data).hexdigest()
        answer = web.StreamResponse(headers={**headers, "ETag": f'"{etag}"'})
        asked = request.headers.get("Range")
        first = 0
        if asked is not None and path not in self.deaf:
            self.ranges.append(asked)
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            answer.set_status(206)
            answer.headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        rest = b"" if path in self.empty else data[first:]
        answer.content_length = len(rest)
        await answer.prepare(request)
        after, times = self.cut.get(path, (0, 0))
        if times:
            self.cut[path] = (after, times - 1)
            await answer.write(rest[:after])
            await asyncio.sleep(0.05)
            if request.transport is not None:
                request.transport.abort()
            return answer
        await answer.write(rest)
        return answer

    async def _scope(self, request: web.Request) -> web.Response:
        files = [
            {
                "Path": path,
                "Name": path.split("/")[-1],
                "Size": len(data),
                "Sha256": self._sha256(path, data),
                "Type": "blob",
            }
            for path, data in self._files(self._folder(request))
        ]
        files.append({"Path": "vae", "Name": "vae", "Size": 0, "Type": "tree"})
        return web.json_response({"Code": 200, "Success": True, "Data": {"Files": files}})

    async def _scoped(self, request: web.Request) -> web.StreamResponse:
        path = request.query["FilePath"]
        return await self._send(request, path, (self._folder(request) / path).read_bytes(), {})


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub, served by a thread of its own, so that commands in other processes can ask it."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    runner = web.AppRunner(hub.routes(), access_log=None)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        hub.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        ready.set()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield hub
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
