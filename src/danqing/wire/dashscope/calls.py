"""A call over HTTP from its first byte to its job: what the routes of this dialect share. Writes no answer.

The order of checks is the wire contract's (section 4.2): route, key, JSON, model, path, mode, permission, standing,
rate, structure, values, pictures.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from starlette.requests import ClientDisconnect, Request

from danqing.core.errors import BadOrder, KeyFault
from danqing.core.job import Job
from danqing.core.models import Model
from danqing.intake.intake import Ticket
from danqing.intake.keys import Caller
from danqing.wire import body, door
from danqing.wire.dashscope import decode, replies
from danqing.wire.desk import Desk

P = ParamSpec("P")
T = TypeVar("T")

OFF_LOOP = 256 * 1024
"""Bodies above this many bytes are parsed in a thread: at 1 GB/s a smaller one holds the loop for well under 1 ms."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that passed every check which is answered at once: who asks, of which model, for what."""

    caller: Caller
    model: Model
    reading: decode.Reading
    ticket: Ticket


def limits(desk: Desk, route: str) -> body.Limits:
    """The limits on a body of a route: the model is known only after the body was read."""
    return body.Limits(most=body.room(desk.intake.pictures(route)), seconds=desk.body_seconds)


async def known(request: Request, desk: Desk, room: body.Limits) -> Caller:
    """Who calls. Raises a KeyFault; the body is then read and dropped."""
    try:
        return await door.who(request, desk)
    except KeyFault:
        await body.discard(request, room)
        raise


def mode(request: Request) -> str:
    """How the caller wants it: "sync" or "async"."""
    return "async" if request.headers.get("x-dashscope-async", "").strip().lower() == "enable" else "sync"


def resolves(request: Request) -> bool:
    """Whether files sent ahead may be called by name."""
    return request.headers.get("x-dashscope-ossresourceresolve", "").strip().lower() == "enable"


def idempotency_key(request: Request) -> str | None:
    """The caller's key, or None without the header. Raises BadOrder for a key that is none."""
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header.strip().removeprefix('"').removesuffix('"')
    if not _KEY.fullmatch(key):
        raise BadOrder("Idempotency-Key must have 1 to 255 visible ASCII characters", field="Idempotency-Key")
    return key


async def off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work on a body of that size: in a thread if it is large."""
    if size <= OFF_LOOP:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def ask(request: Request, desk: Desk, route: str, room: body.Limits) -> Ask:
    """Everything that is asked before an order goes in. Raises any Fault but those of inputs and the queue."""
    began = desk.clock.monotonic()
    request.state.model = request.state.family = ""
    caller = await known(request, desk, room)
    data = await body.read(request, room)
    envelope = await off_loop(len(data), decode.envelope, data)
    request.state.model = envelope.model
    how = "sync" if route == decode.COMPATIBLE else mode(request)
    model = await desk.intake.may(caller, envelope.model, route, how)
    request.state.family = model.family
    body.fits(len(data), model.most_images)
    how_read = {"resolve": resolves(request), "frames": replies.wants_frames(request.headers)}
    reading = await off_loop(len(data), decode.read, envelope, model, route, **how_read)
    request_id, waits = request.state.request_id, route in decode.AT_ONCE
    ticket = Ticket(
        id=request_id if waits and not request.state.named else str(uuid.uuid4()),
        api=route,
        began=began,
        fingerprint=await off_loop(len(data), envelope.fingerprint, route),
        idempotency_key=idempotency_key(request),
        request_id=None if waits else request_id,
    )
    return Ask(caller, model, reading, ticket)


async def begun(request: Request, desk: Desk, asked: Ask) -> Job:
    """The job of a synchronous call, in the queue."""
    job = await desk.intake.submit(asked.caller, asked.reading.order, asked.model, asked.ticket)
    request.state.job = job.id
    return job


async def made(request: Request, desk: Desk, route: str, room: body.Limits) -> tuple[Job, Model]:
    """The whole of a synchronous call: the job with its pictures, and the model. Raises any Fault, and
    ClientDisconnect."""
    asked = await ask(request, desk, route, room)
    job = await begun(request, desk, asked)
    return await delivered(request, desk, asked.caller, job, began=asked.ticket.began), asked.model


async def accepted(request: Request, desk: Desk, route: str, room: body.Limits) -> Job:
    """The whole of an asynchronous call: the job that the caller comes back for. Raises any Fault that is answered at
    once; the job tells the others."""
    asked = await ask(request, desk, route, room)
    reading = asked.reading
    job = await desk.intake.accept(asked.caller, reading.order, asked.model, asked.ticket, late=reading.late)
    request.state.job = job.id
    return job


async def delivered(request: Request, desk: Desk, caller: Caller, job: Job, *, began: float) -> Job:
    """Wait for the job, or for the client to leave: then its job is dealt with and ClientDisconnect raised. The same if
    whoever answers the client is stopped: nobody gets the pictures then either."""
    waiting = asyncio.ensure_future(desk.intake.wait(caller, job, began=began))
    leaving = asyncio.ensure_future(_left(request))
    call = (caller.tenant, request.state.request_id)
    desk.calls[call] = job.id
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        raise ClientDisconnect
    finally:
        desk.calls.pop(call, None)
        leaving.cancel()
        if not waiting.done():
            waiting.cancel()
            await asyncio.shield(desk.intake.gone(caller, job))


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
