"""DashScope over HTTP: which path, which headers, in which order things are asked. The only file here that knows HTTP.

The order of checks is the wire contract's (section 4.2): route, key, JSON, model, path, mode, permission, standing,
rate, structure, values, pictures.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import orjson
from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from danqing.core.errors import BadOrder, Fault, KeyFault
from danqing.core.job import Job
from danqing.intake.intake import Ticket
from danqing.intake.keys import Caller
from danqing.wire import body
from danqing.wire.dashscope import decode, encode
from danqing.wire.dashscope.schema import Failure, Generation, Success
from danqing.wire.desk import Desk, bearer
from danqing.wire.guard import API
from danqing.wire.openapi import json_body

P = ParamSpec("P")
T = TypeVar("T")

GENERATION = "dashscope/multimodal-generation"
"""The catalogue's key of the synchronous route."""

OFF_LOOP = 256 * 1024
"""Bodies above this many bytes are parsed in a thread: at 1 GB/s a smaller one holds the loop for well under 1 ms."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def router(desk: Desk) -> APIRouter:
    """The routes of this dialect over a desk."""
    routes = APIRouter(prefix=f"{API}/services/aigc", tags=["DashScope"])
    limits = body.Limits(most=body.room(desk.intake.pictures(GENERATION)), seconds=desk.body_seconds)

    @routes.post(
        "/multimodal-generation/generation", openapi_extra=json_body(Generation), responses=_responses()
    )
    async def generate(request: Request) -> Response:
        """Make pictures, or edit the given ones, and answer when they are ready."""
        began = desk.clock.monotonic()
        caller = await _known(request, desk, limits)
        data = await body.read(request, limits)
        envelope = await _off_loop(len(data), decode.envelope, data)
        model = await desk.intake.may(caller, envelope.model, GENERATION, _mode(request))
        body.fits(len(data), model.most_images)
        order = await _off_loop(len(data), decode.order, envelope, model)
        ticket = Ticket(
            id=str(uuid.uuid4()) if request.state.named else request.state.request_id,
            api=GENERATION,
            began=began,
            fingerprint=await _off_loop(len(data), envelope.fingerprint),
            idempotency_key=_idempotency_key(request),
        )
        job = await desk.intake.submit(caller, order, model, ticket)
        request.state.job = job.id
        job = await _delivered(request, desk, caller, job, began=began)
        answer = encode.success(job, model.family, desk.links(request, job), request.state.request_id)
        return _written(answer, **desk.timing(job))

    return routes


def refuse(problem: Fault, request_id: str) -> Response:
    """The answer to a fault."""
    return _written(encode.fault(problem, request_id))


def _written(answer: encode.Answer, **headers: str) -> Response:
    data = orjson.dumps(answer.body)
    headers = {**answer.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Response(data, answer.status, headers=headers, media_type="application/json")


def _responses() -> dict[int | str, dict[str, Any]]:
    return {
        200: {"model": Success, "description": "links to the pictures"},
        "4XX": {"model": Failure, "description": "the request was refused"},
        "5XX": {"model": Failure, "description": "the service failed; nothing is charged"},
    }


async def _known(request: Request, desk: Desk, limits: body.Limits) -> Caller:
    try:
        return await desk.intake.who(bearer(request.headers.get("authorization")))
    except KeyFault:
        await body.discard(request, limits)
        raise


def _mode(request: Request) -> str:
    return "async" if request.headers.get("x-dashscope-async", "").strip().lower() == "enable" else "sync"


def _idempotency_key(request: Request) -> str | None:
    """The caller's key within this route, or None without the header. Raises BadOrder for a key that is none."""
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header.strip().removeprefix('"').removesuffix('"')
    if not _KEY.fullmatch(key):
        raise BadOrder("Idempotency-Key must have 1 to 255 visible ASCII characters", field="Idempotency-Key")
    return f"{GENERATION} {key}"


async def _off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    if size <= OFF_LOOP:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def _delivered(request: Request, desk: Desk, caller: Caller, job: Job, *, began: float) -> Job:
    """Wait for the job, or for the client to leave: then its job is dealt with and ClientDisconnect raised."""
    waiting = asyncio.ensure_future(desk.intake.wait(caller, job, began=began))
    leaving = asyncio.ensure_future(_left(request))
    call = (caller.tenant, request.state.request_id)
    desk.calls[call] = job.id
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        await desk.intake.gone(caller, job)
        raise ClientDisconnect
    finally:
        desk.calls.pop(call, None)
        waiting.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
