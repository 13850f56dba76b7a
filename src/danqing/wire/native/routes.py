"""Result links, health and metrics. Links answer as an OSS bucket does, in XML; the rest is ours, in JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from danqing.core.errors import NoSuchRoute
from danqing.core.job import Job
from danqing.core.ports import LinkDead, LinkExpired, LinkForged
from danqing.intake.health import Vital
from danqing.wire import door, oss
from danqing.wire.desk import Desk
from danqing.wire.openapi import OPEN

AUDIT_SECONDS = 60.0
"""The auditor reads whole tables: scrapes within this time share its counts."""

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600, immutable",
}
"""A result is served as a picture and as nothing else, wherever it is opened."""

_TEXT = {"schema": {"type": "string"}}
_TOLD = {"content": {"application/json": {"schema": {"type": "object"}}}}
_BYTES = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": _BYTES, "description": "the picture"},
    206: {"content": _BYTES, "description": "the part of it that a Range asked for"},
    "4XX": {
        "content": {"application/xml": _TEXT, **_TOLD["content"]},
        "description": "no such link, or not any more; in JSON what is no link at all",
    },
}
_FIGURES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": _TEXT}, "description": "figures"}
}
_HEALTH: dict[int | str, dict[str, Any]] = {
    200: {**_TOLD, "description": "pictures can be made"},
    503: {**_TOLD, "description": "none can, and why"},
}
_REFUSED: dict[int | str, dict[str, Any]] = {"4XX": {**_TOLD, "description": "no key, or no such call"}}


def router(desk: Desk) -> APIRouter:
    """Our own routes over a desk."""
    routes = APIRouter(tags=["Danqing"])
    auditor = _Auditor(desk)

    @routes.head("/results/{key:path}", include_in_schema=False)
    @routes.get("/results/{key:path}", response_class=Response, responses=_PNG, openapi_extra=OPEN)
    async def result(request: Request, key: str) -> Response:  # noqa: ARG001 (the raw path is what was signed)
        """A finished picture, by its signed link."""
        return await _result(request, desk)

    @routes.get("/progress/{request_id}", responses=_REFUSED)
    async def progress(request: Request, request_id: str) -> Response:
        """How far a waiting call of the same tenant is, by the `X-Request-ID` that it was sent with. `left` is the
        predicted rest in seconds, of a job that waits as of one that runs; null while nobody can say."""
        caller = await door.who(request, desk)
        job = await desk.intake.get(caller, desk.calls.get((caller.tenant, request_id), request_id))
        if job is None:
            raise NoSuchRoute
        return _json(_progress(desk, job) | {"left": await desk.left(job)})

    @routes.head("/health", include_in_schema=False)
    @routes.get("/health", responses=_HEALTH, openapi_extra=OPEN)
    async def health() -> Response:
        """200 when a picture can be made right now, 503 with the reasons when not."""
        vital = _with_closing(desk)
        reasons = vital.reasons()
        jobs = await desk.store.figures()
        return _json(_told(vital, reasons, jobs), 503 if reasons else 200)

    @routes.get("/metrics", response_class=Response, responses=_FIGURES, openapi_extra=OPEN)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        ready = not _with_closing(desk).reasons()
        figures, audit = await desk.store.figures(), await auditor.counts()
        page = desk.meter.show(
            figures=figures,
            audit=audit,
            work=desk.board.figures(),
            refused=desk.tally.figures(),
            engines=desk.board.engines(),
            ready=ready,
        )
        return Response(page, media_type="text/plain; version=0.0.4")

    return routes


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _progress(desk: Desk, job: Job) -> dict[str, Any]:
    """The board is ahead of the store, which is told less often."""
    seen = desk.board.get(job.id)
    steps = (seen.step, seen.steps) if seen is not None and seen.steps else (job.step, job.steps)
    return {"state": job.state, "step": steps[0], "steps": steps[1]}


def _with_closing(desk: Desk) -> Vital:
    vital = desk.vital()
    if not desk.intake.closing:
        return vital
    return Vital(vital.profile, vital.workers, vital.warnings, (*vital.troubles, "the server is stopping"))


def _told(vital: Vital, reasons: tuple[str, ...], jobs: dict[str, int]) -> dict[str, Any]:
    return {
        "status": "unavailable" if reasons else "ok",
        "reasons": reasons,
        "warnings": vital.warnings,
        "profile": vital.profile,
        "workers": [{"name": w.name, "ready": w.ready, "detail": w.detail} for w in vital.workers],
        "jobs": jobs,
    }


class _Auditor:
    """The store's audit, kept for a while."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._at: float | None = None
        self._counts: dict[str, int] = {}

    async def counts(self) -> dict[str, int]:
        """Recent counts by name."""
        now = self._desk.clock.monotonic()
        if self._at is None or now - self._at >= AUDIT_SECONDS:
            self._counts, self._at = await self._desk.store.audit(), now
        return self._counts


async def _result(request: Request, desk: Desk) -> Response:
    now = desk.clock.wall()
    path = request.scope.get("raw_path", b"").decode("ascii", "replace")
    try:
        data = await desk.blobs.follow(path, request.url.query, now)
    except LinkForged:
        text = "The request signature we calculated does not match the signature you provided."
        return oss.refused(request, 403, "SignatureDoesNotMatch", text)
    except LinkExpired as expired:
        moments = {"Expires": _moment(expired.expires), "ServerTime": _moment(now)}
        return oss.refused(request, 403, "AccessDenied", "Request has expired.", **moments)
    except LinkDead:
        return oss.refused(request, 404, "NoSuchKey", "The specified key does not exist.")
    return _picture(request, data)


def _picture(request: Request, data: bytes) -> Response:
    """The picture, or, so that a download that broke off can go on, the part of it that is asked for."""
    headers = {**SAFE, "Accept-Ranges": "bytes"}
    if request.method == "HEAD":
        return Response(b"", headers=headers | {"Content-Length": str(len(data))}, media_type="image/png")
    try:
        part = oss.part(request, len(data))
    except oss.BeyondEnd:
        answer = oss.refused(request, 416, "InvalidRange", "The requested range cannot be satisfied.")
        answer.headers["Content-Range"] = f"bytes */{len(data)}"
        return answer
    if part is None:
        return Response(data, headers=headers, media_type="image/png")
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    return Response(data[part], 206, headers=headers, media_type="image/png")


def _moment(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
