"""The outermost layer of every request: its id, its count, its log line, and an answer whatever happens inside.

Plain ASGI, so that it sees the first byte and the last. Knows no dialect but the writer of faults it is given.
"""

from __future__ import annotations

import ipaddress
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from danqing.core.errors import Fault, Internal, NotJson, QueueFull
from danqing.wire.body import BodyCut

API = "/api/v1"
COMPATIBLE = "/compatible-mode/v1"
GONE = 499
"""In logs and figures only: the client left before its answer."""

_SLASHES = re.compile("//+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Answering = Callable[[Fault, str, str], Response]
Observer = Callable[[str, str, int, float], None]

_log = structlog.get_logger(room="http")


class Guard:
    """Wraps the application. Every answer carries `X-Request-ID`, the `request_id` of its body."""

    def __init__(self, app: ASGIApp, *, answer: Answering, observe: Observer, crowd: Crowd) -> None:
        """`answer` writes a fault for a request id and a path; `observe` takes route, method, status and seconds."""
        self._app, self._answer, self._observe, self._crowd = app, answer, observe, crowd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other scopes pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(scope, send)
        whole, scope["path"] = scope["path"], plain(scope["path"])
        scope["state"]["prefix"] = prefix(whole)
        began = time.perf_counter()
        try:
            with self._crowd.inside(scope):
                await self._app(scope, receive, call.send)
        except BodyCut:
            await self._answer(NotJson(), call.id, scope["path"])(scope, receive, call.send)
        except ClientDisconnect:
            call.status = GONE
        except QueueFull as full:
            await self._answer(full, call.id, scope["path"])(scope, receive, call.send)
        except Exception:  # noqa: BLE001  # boundary: the client gets JSON, the log gets the trace
            _log.exception("request failed", request_id=call.id, path=scope["path"])
            if not call.started:
                await self._answer(Internal(), call.id, scope["path"])(scope, receive, call.send)
        finally:
            self._note(scope, call, time.perf_counter() - began)

    def _note(self, scope: Scope, call: _Call, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", "other"))
        self._observe(route, scope["method"], call.status, seconds)
        job = {"job": scope["state"]["job"]} if "job" in scope["state"] else {}
        _log.info(
            "request",
            request_id=call.id,
            **job,
            method=scope["method"],
            route=route,
            status=call.status,
            seconds=round(seconds, 4),
        )


class _Call:
    """One request's id and how far its answer got. A client may name its request by a UUID, to watch its progress;
    `state.named` tells, as such an id may come twice."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.id = given if _UUID.fullmatch(given) else str(uuid.uuid4())
        self.started = False
        self.status = GONE
        self._send = send
        self._arrived, self._began = time.time(), time.perf_counter()
        self._timed = plain(scope["path"]).startswith((API, COMPATIBLE))
        scope["state"] = {**scope.get("state", {}), "request_id": self.id, "named": self.id == given}

    async def send(self, message: Message) -> None:
        """Send on, with the request's id among the headers, and the service's own three of time, in milliseconds."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.id
            if self._timed:
                cost = time.perf_counter() - self._began
                headers["req-arrive-time"] = str(int(self._arrived * 1000))
                headers["resp-start-time"] = str(int((self._arrived + cost) * 1000))
                headers["req-cost-time"] = str(int(cost * 1000))
        await self._send(message)


class Crowd:
    """How many requests are in progress, in all and by client address. A proxy on this machine speaks for many
    clients, so loopback addresses are counted in all only."""

    def __init__(self, most: int = 2048, most_per_address: int = 100) -> None:
        """Limits on requests in progress at the same time."""
        self._most, self._most_per_address = most, most_per_address
        self._total = 0
        self._by_address: Counter[str] = Counter()

    @property
    def size(self) -> int:
        """Requests in progress."""
        return self._total

    def inside(self, scope: Scope) -> _Place:
        """A place for the length of a request; entering raises QueueFull when there is none."""
        client = scope.get("client")
        return _Place(self, _address(client[0]) if client else None)

    def enter(self, address: str | None) -> None:
        """Count one more; raises QueueFull at a limit."""
        crowded = address is not None and self._by_address[address] >= self._most_per_address
        if self._total >= self._most or crowded:
            raise QueueFull
        self._total += 1
        if address is not None:
            self._by_address[address] += 1

    def leave(self, address: str | None) -> None:
        """Count one less."""
        self._total -= 1
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


class _Place:
    def __init__(self, crowd: Crowd, address: str | None) -> None:
        self._crowd, self._address = crowd, address

    def __enter__(self) -> None:
        self._crowd.enter(self._address)

    def __exit__(self, *_: Any) -> None:
        self._crowd.leave(self._address)


def _address(client: str) -> str | None:
    """The address to count under, or None for this machine and for what is no address."""
    try:
        found = ipaddress.ip_address(client)
    except ValueError:
        return None
    return None if found.is_loopback else str(found)


def plain(path: str) -> str:
    """The path that routes are matched against: without what stands before `/api/v1` or `/compatible-mode/v1`, so
    that a client's base URL may have any prefix, and without a slash at the end, which official clients add and no
    redirect may answer. A base URL that ends in a slash makes two of one, which count as one there."""
    meant = path[len(prefix(path)) :].rstrip("/") or "/"
    return _SLASHES.sub("/", meant) if meant.startswith((API, COMPATIBLE)) else meant


def prefix(path: str) -> str:
    """What stands before `/api/v1` or `/compatible-mode/v1` in a path; empty where neither is in it."""
    return path[: max(path.find(API + "/"), path.find(COMPATIBLE + "/"), 0)]
