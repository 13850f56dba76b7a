"""The lease API as HTTP on a Unix socket: bytes to messages, answers and refusals to status codes. Knows no job.

    POST /claim   POST /beat   GET /input/{token}/{digest}   POST /script   PUT /image/{token}/{index}   POST /end

    200 with the answer's JSON (204 for an image) · 400 not a message · 404 no such verb · 409 pictures missing
    410 the token holds nothing · 413 too large · 422 a fault that stays: {"fault": {name, message}} · 5xx try again,
    with the same body where a fault is known

Operator commands (keys, status) come through the same socket: a table of (method, path) to callables that take and
answer JSON objects; a fault of theirs is {"error": message} with 400, or 503 for the service's own.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from danqing.core.errors import Fault, ServiceFault, Unavailable
from danqing.lease.desk import Desk
from danqing.lease.messages import (
    BadMessage,
    Beats,
    Claim,
    End,
    Ended,
    ImagesMissing,
    Script,
    TokenGone,
    Wrong,
    decode,
    encode,
)

MOST_JSON = 1024 * 1024
MOST_IMAGE = 128 * 1024 * 1024
STOP_SECONDS = 1.0

Verb = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""An operator command: the members of the request's JSON object and of its path in, a JSON object out."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LeaseServer:
    """Serves a desk, and operator commands, between `start` and `stop`."""

    def __init__(self, desk: Desk, *, operator: Mapping[tuple[str, str], Verb] | None = None) -> None:
        """`operator` maps e.g. ("DELETE", "/keys/{key_id}") to what does it."""
        self._desk = desk
        self._operator = dict(operator or {})
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Future[Any]] = set()

    async def start(self, path: Path) -> None:
        """Listen at `path`, which only this user can reach."""
        # a worker that hangs up ends its open poll; every other verb is finished whatever the caller does (`_finish`)
        runner = web.AppRunner(
            self.application(), access_log=None, handler_cancellation=True, shutdown_timeout=STOP_SECONDS
        )
        await runner.setup()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(os.fspath(path))
        os.chmod(listener.getsockname(), 0o600)
        await web.SockSite(runner, listener).start()
        self._runner = runner

    async def stop(self) -> None:
        """Hang up. Verbs in progress get a second."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)

    def application(self) -> web.Application:
        """The routes, for whichever transport."""
        app = web.Application(client_max_size=MOST_IMAGE, middlewares=[_refuse])
        app.router.add_post("/claim", self._claim)
        app.router.add_post("/beat", self._finish(self._beat))
        app.router.add_get("/input/{token}/{digest}", self._finish(self._input))
        app.router.add_post("/script", self._finish(self._script))
        app.router.add_put("/image/{token}/{index}", self._finish(self._image))
        app.router.add_post("/end", self._finish(self._end))
        for (method, route), verb in self._operator.items():
            app.router.add_route(method, route, self._finish(_command(verb)))
        return app

    async def _claim(self, request: web.Request) -> web.StreamResponse:
        return _answer(await self._desk.claim(decode(Claim, await _body(request))))

    async def _beat(self, request: web.Request) -> web.StreamResponse:
        return _answer(await self._desk.beat(decode(Beats, await _body(request))))

    async def _input(self, request: web.Request) -> web.StreamResponse:
        packed = await self._desk.input(request.match_info["token"], request.match_info["digest"])
        return web.Response(body=packed, content_type="application/octet-stream")

    async def _script(self, request: web.Request) -> web.StreamResponse:
        return _answer(await self._desk.script(decode(Script, await _body(request))))

    async def _image(self, request: web.Request) -> web.StreamResponse:
        index = request.match_info["index"]
        if not index.isdecimal() or not index.isascii():
            raise BadMessage("the index of a picture is a number")
        await self._desk.image(request.match_info["token"], int(index), await request.read())
        return web.Response(status=204)

    async def _end(self, request: web.Request) -> web.StreamResponse:
        return _answer(Ended(await self._desk.end(decode(End, await _body(request)))))

    def _finish(self, handler: Handler) -> Handler:
        """The same, not to be cut short: what it has begun to store must be settled even if the caller is gone."""

        async def whole(request: web.Request) -> web.StreamResponse:
            task = asyncio.ensure_future(handler(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return await asyncio.shield(task)

        return whole


def _command(verb: Verb) -> Handler:
    """An operator command as a handler."""

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        try:
            members = orjson.loads(body) if body else {}
        except orjson.JSONDecodeError:
            members = None
        if not isinstance(members, dict):
            return _answer({"error": "the body is not a JSON object"}, status=400)
        try:
            return _answer(await verb({**members, **request.match_info}))
        except Fault as fault:
            status = 503 if isinstance(fault, ServiceFault) else 400
            return _answer({"error": fault.message}, status=status)
        except (KeyError, TypeError, ValueError) as fault:
            return _answer({"error": f"{type(fault).__name__}: {fault}"}, status=400)

    return handler


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > MOST_JSON:
        raise web.HTTPRequestEntityTooLarge(MOST_JSON, request.content_length or 0)
    return await request.read()


def _answer(message: object, *, status: int = 200) -> web.Response:
    return web.Response(body=encode(message), status=status, content_type="application/json")


@web.middleware
async def _refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals to status codes. What is not foreseen is aiohttp's 500, which a worker tries again."""
    try:
        return await handler(request)
    except BadMessage as fault:
        return _answer({"error": str(fault)}, status=400)
    except ImagesMissing as fault:
        return _answer({"error": f"missing: {fault}"}, status=409)
    except TokenGone:
        return _answer({"error": "the token holds no job"}, status=410)
    except Fault as fault:
        return _answer({"fault": Wrong.of(fault)}, status=503 if isinstance(fault, Unavailable) else 422)
