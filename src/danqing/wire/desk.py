"""What routes are given to work with, handed in by `app.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.requests import Request

from danqing.core.checking import Tally
from danqing.core.job import Image, Job, State
from danqing.core.ports import BlobStore, Clock, JobStore
from danqing.intake.health import Probe
from danqing.intake.intake import Intake
from danqing.intake.uploads import Uploads
from danqing.lease.board import Board
from danqing.lease.outlook import Outlook
from danqing.wire.guard import Crowd
from danqing.wire.meter import Meter

DAY = 86_400
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Desk:
    """The rooms behind the routes. `public_url` is what result links begin with; None takes scheme and host of the
    request. `link_seconds` is the life of a link to a job that does not say when it expires."""

    intake: Intake
    blobs: BlobStore
    store: JobStore
    clock: Clock
    vital: Probe
    uploads: Uploads
    public_url: str | None = None
    link_seconds: int = DAY
    body_seconds: float = 60.0
    crowd: Crowd = field(default_factory=Crowd)
    board: Board = field(default_factory=Board)
    tally: Tally = field(default_factory=Tally)
    calls: dict[tuple[str, str], str] = field(default_factory=dict)
    """The job of each waiting call, by tenant and request id."""
    meter: Meter = field(default_factory=Meter)
    outlook: Outlook | None = None
    """Who foretells the ends of jobs that no worker has told of; None where nobody does."""

    def links(self, request: Request, job: Job) -> tuple[str, ...]:
        """A link to each picture of a finished job. They end together with the job, so that a repeated answer has
        the same links."""
        ends = (job.finished if job.finished is not None else self.clock.wall()) + self.link_seconds
        if job.expires is not None:
            ends = min(ends, job.expires)
        base = self.base(request)
        return tuple(self.blobs.link(image.key, base=base, expires=int(ends)) for image in job.images)

    def link(self, request: Request, image: Image) -> str:
        """A link to a picture of a job that goes on."""
        ends = self.clock.wall() + self.link_seconds
        return self.blobs.link(image.key, base=self.base(request), expires=int(ends))

    def base(self, request: Request, *, prefix: bool = False) -> str:
        """What our own addresses begin with; with the `prefix` that the request's path had, where no public URL is
        set."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return _base(request) + (quote(request.state.prefix, errors="replace") if prefix else "")

    async def left(self, job: Job) -> float | None:
        """Predicted seconds until the job's end, by the worker that has it, else by the queue; None where nobody can
        say."""
        if job.state not in (State.QUEUED, State.RUNNING):
            return None
        seen = self.board.get(job.id)
        if seen is not None and seen.left is not None and job.state is State.RUNNING:
            return seen.left
        return None if self.outlook is None else await self.outlook.left(job.id)

    def timing(self, job: Job) -> dict[str, str]:
        """How long the worker took from its claim to the last stored picture, as W3C's Server-Timing in
        milliseconds; nothing for a job that this server has forgotten."""
        seen = self.board.get(job.id)
        return {"Server-Timing": f"work;dur={seen.wall * 1000:.1f}"} if seen is not None and seen.wall else {}


def _base(request: Request) -> str:
    """Scheme and host as the client wrote them; the socket's own address where the header is no host."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        address, port = request.scope.get("server") or ("localhost", None)
        host = f"{address}:{port}" if port else str(address)
    return f"{request.scope.get('scheme', 'http')}://{host}"
