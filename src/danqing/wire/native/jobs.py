"""Where a job is, as it stands and as it goes on: a JSON object, and a stream of events. Knows no worker.

A job goes by its own id, which is an asynchronous call's `task_id`, or, while a synchronous call waits for it, by the
`X-Request-ID` that the call was sent with. An id that is unknown, somebody else's or expired is a 404 like any other.

The stream tells what changed since it last told something, so a listener that comes late begins with what is, and one
that reads slowly is told the newest and costs no memory: nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from danqing.core.errors import NoSuchRoute, Unavailable
from danqing.core.job import Job, State, final
from danqing.intake.keys import Caller
from danqing.lease.board import Progress, Tale
from danqing.lease.messages import Shown
from danqing.wire import door
from danqing.wire.desk import Desk
from danqing.wire.native.schema import Failure, Standing
from danqing.wire.stream import Stream

QUEUE_SECONDS = 1.0
"""How often the place of a job that waits is looked up for a listener."""
QUIET_SECONDS = 10.0
"""After so long without an event a comment shows that the stream is alive."""

LONGEST_SECONDS = 86_400.0
"""After a day nobody is told any more."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Proxies are not to keep events back."""
_BEAT = b":\n\n"
_TEXT = {"schema": {"type": "string"}}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": _TEXT},
        "description": "`queued`, `started`, `step`, `preview`, `image` and `end`, each with a JSON object",
    },
    "4XX": {"model": Failure, "description": "no key, or no such job"},
    "5XX": {"model": Failure, "description": "the service failed"},
}
_STANDING: dict[int | str, dict[str, Any]] = {
    200: {"model": Standing, "description": "the job as it stands"},
    "4XX": _EVENTS["4XX"],
    "5XX": _EVENTS["5XX"],
}


def router(desk: Desk) -> APIRouter:
    """The two routes over a desk."""
    routes = APIRouter(prefix="/danqing/v1/jobs", tags=["Danqing"])

    @routes.get("/{job_id}", responses=_STANDING)
    async def standing(request: Request, job_id: str) -> Response:
        """A job of the same tenant as it stands."""
        caller, job = await _found(request, desk, job_id)
        now = await _now(request, desk, caller, job)
        return Response(orjson.dumps(now.object()), media_type="application/json")

    @routes.get("/{job_id}/events", response_class=Response, responses=_EVENTS)
    async def events(request: Request, job_id: str) -> Response:
        """What happens to a job of the same tenant until it ends, beginning with how it stands, as an event stream."""
        caller, job = await _found(request, desk, job_id)
        return Stream(_told(request, desk, caller, job), _HEADERS)

    return routes


async def _found(request: Request, desk: Desk, job_id: str) -> tuple[Caller, Job]:
    """The caller and the job. Raises the KeyFaults, and NoSuchRoute for an id of no job of the caller's tenant."""
    caller = await door.who(request, desk)
    job = await desk.intake.get(caller, desk.calls.get((caller.tenant, job_id), job_id))
    if job is None:
        raise NoSuchRoute
    request.state.job = job.id
    return caller, job


@dataclass(frozen=True, slots=True)
class Now:
    """A job as it stands. `links` are those of its pictures that are stored, by place; `eta` the predicted seconds
    until it is done, None where nobody can say; `position` its place among all that wait, None once it does not."""

    job: Job
    state: State
    progress: Progress
    links: Mapping[int, str]
    eta: float | None = None
    position: int | None = None

    @property
    def begun(self) -> bool:
        """Whether its steps are known."""
        return self.state is State.RUNNING and self.progress.steps > 0

    def object(self) -> dict[str, Any]:
        """As JSON has it."""
        told: dict[str, Any] = {"id": self.job.id, "state": self.state, "position": self.position}
        told |= {"step": self.progress.step, "steps": self.progress.steps, "eta": self.eta}
        told["images"] = [{"index": place, "url": link} for place, link in sorted(self.links.items())]
        return told | self.fault() | self.quality()

    def quality(self) -> dict[str, Any]:
        """How its pictures were made, once they are."""
        made = self.job.said.quality
        return {} if made is None else {"quality": asdict(made)}

    def fault(self) -> dict[str, str]:
        """Why the job failed, if it did."""
        fault = self.job.fault
        return {} if fault is None else {"code": type(fault).__name__, "message": fault.message}


async def _now(request: Request, desk: Desk, caller: Caller, job: Job) -> Now:
    """How the job stands, `job` being its row as it was read last. While a worker holds it the board knows more than
    the row; else the row is read."""
    seen = desk.board.get(job.id)
    if seen is not None and seen.outcome is None and not final(job.state):
        links = {place: desk.link(request, one) for place, one in desk.board.pictures(job.id).items()}
        return Now(job, State.RUNNING, seen, links, await desk.left(replace(job, state=State.RUNNING)))
    job = await desk.store.get(caller.tenant, job.id) or job
    known = seen or Progress(job.step, job.steps)
    if final(job.state):
        return Now(job, job.state, known, _delivered(request, desk, job))
    if job.state is State.RUNNING:
        return Now(job, job.state, known, {}, await desk.left(job))
    position = await desk.store.position(caller.tenant, job.id)
    return Now(job, job.state, Progress(), {}, await desk.left(job), position)


def _delivered(request: Request, desk: Desk, job: Job) -> dict[int, str]:
    """Links to the pictures of a job that has ended, by place: those that were lost have none."""
    places = [place for place in range(len(job.images) + len(job.lost)) if place not in job.lost]
    return dict(zip(places, desk.links(request, job), strict=True))


async def _told(request: Request, desk: Desk, caller: Caller, job: Job) -> AsyncGenerator[bytes]:
    """The events until the job ends, the client leaves or the service stops."""
    teller = Teller()
    with desk.board.watch(job.id) as tale:
        ends = [
            asyncio.ensure_future(desk.store.wait(caller.tenant, job.id, LONGEST_SECONDS)),
            asyncio.ensure_future(_left(request)),
            asyncio.ensure_future(desk.intake.closed()),
        ]
        try:
            quiet = 0.0
            while True:
                seen = tale.turns
                if ends[0].done():
                    job = ends[0].result() or job
                now = await _now(request, desk, caller, job)
                frames = list(teller.so_far(now, tale))  # as of this moment, however slowly they are read
                for frame in frames:
                    quiet = 0.0
                    yield frame
                if final(now.state) or any(end.done() for end in ends):
                    return
                patience = QUIET_SECONDS if now.state is State.RUNNING else QUEUE_SECONDS
                if not await _more(tale, seen, ends, patience):
                    quiet += patience
                if quiet >= QUIET_SECONDS:
                    quiet = 0.0
                    yield _BEAT
        except Unavailable:  # the store is closed: the service stops, and the stream with it
            return
        finally:
            for end in ends:
                end.cancel()


async def _more(tale: Tale, seen: int, ends: Sequence[asyncio.Future[Any]], seconds: float) -> bool:
    """Wait until there is more to tell; False if nothing came of it."""
    more = asyncio.ensure_future(tale.more(seen))
    done, _ = await asyncio.wait({more, *ends}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    more.cancel()
    return bool(done)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _about(eta: float | None) -> int | None:
    """An end as far as it is worth telling anew: to a tenth of what is left, and not below a second."""
    return None if eta is None else round(math.log(max(eta, 1.0)) / math.log(1.1))


@dataclass(slots=True)
class Teller:
    """What one stream has told last, and the frames of what is new since."""

    _told: dict[str, object] = field(default_factory=dict)
    _links: dict[int, str] = field(default_factory=dict)
    _previews: dict[int, Shown] = field(default_factory=dict)
    _number: int = 0

    def so_far(self, now: Now, tale: Tale) -> Iterator[bytes]:
        """The frames that bring the listener up to date; the last one of a stream is `end`."""
        if now.state in (State.ACCEPTED, State.QUEUED):
            self._told.pop("started", None)
            told = {"position": now.position, "eta": now.eta}
            yield from self._new("queued", told, key=(now.position, _about(now.eta)))
        elif now.state is State.RUNNING:
            self._told.pop("queued", None)
            yield from self._new("started", {})
        if now.begun:
            step = {"step": now.progress.step, "steps": now.progress.steps}
            yield from self._new("step", {**step, "eta": now.eta}, key=(*step.values(), _about(now.eta)))
        yield from self._pictures(now, tale)
        if final(now.state):
            images = [self._link(place, link) for place, link in sorted(now.links.items())]
            yield self._frame("end", {"state": now.state, "images": images, **now.fault(), **now.quality()})

    def _pictures(self, now: Now, tale: Tale) -> Iterator[bytes]:
        for place, shown in sorted(tale.glimpses.items() if now.state is State.RUNNING else ()):
            if self._previews.get(place) is not shown:
                self._previews[place] = shown
                told = {"index": place, "step": shown.step, "steps": shown.steps, "jpeg": shown.jpeg}
                yield self._frame("preview", told)
        for place, link in sorted(now.links.items()):
            if self._path(link) != self._path(self._links.get(place, "")):
                self._links[place] = link
                yield self._frame("image", self._link(place, link))

    @staticmethod
    def _path(link: str) -> str:
        """A link without its signature, which is new whenever it is made."""
        return link.partition("?")[0]

    @staticmethod
    def _link(place: int, link: str) -> dict[str, Any]:
        return {"index": place, "url": link}

    def _new(self, name: str, told: Mapping[str, Any], *, key: object = None) -> Iterator[bytes]:
        """The event, if it differs from the last of its name, or if its `key` does."""
        key = told if key is None else key
        if name not in self._told or self._told[name] != key:
            self._told[name] = key
            yield self._frame(name, told)

    def _frame(self, name: str, told: Mapping[str, Any]) -> bytes:
        self._number += 1
        return f"id:{self._number}\nevent:{name}\ndata:".encode() + orjson.dumps(told) + b"\n\n"
