"""The promise made for an order, and the only ways its state may change. Knows no table and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from danqing.core.errors import Fault
from danqing.core.order import Brief, Order
from danqing.core.raster import Size


class State(StrEnum):
    """Where a job stands. `accepted`: stored before its inputs were fetched (asynchronous calls)."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


MOVES: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.QUEUED, State.FAILED, State.CANCELLED}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.FAILED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.QUEUED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}  # an empty set marks a final state


def final(state: State) -> bool:
    """Whether a job in this state never changes again."""
    return not MOVES[state]


@dataclass(frozen=True, slots=True)
class Draft:
    """A job about to be stored. Durations are in seconds from now: the store's clock makes times of them."""

    id: str
    api: str
    brief: Brief
    rank: float | None = 0.0
    """Place in the queue; lower goes first, ties by creation. None: where its tenant's share of the queue puts it."""
    priority: int = 0
    """Of its tenant's jobs in the queue those of a higher one go first, in the places that the tenant has."""
    weight: float = 1.0
    """How much it asks for, in any one unit, beside the others in the queue."""
    cost: float = 0.0
    """Predicted seconds of engine time, for display and fairness."""
    queue_seconds: float = 3600.0
    run_seconds: float = 600.0
    idempotency_key: str | None = None
    fingerprint: str = ""
    """SHA-256 of the canonical request, compared when an idempotency key comes back."""
    request_id: str | None = None
    """Of the request that asked, where the caller comes back for the answer; None for one that waits for it."""
    key_id: str = ""
    order: Order | None = None
    """What is still to be made definite: the job is stored as accepted, `brief` being what is known so far."""
    fault: Fault | None = None
    """Why it was refused already: the job is stored as failed and holds nothing."""


@dataclass(frozen=True, slots=True)
class Image:
    """One finished picture: its key in the blob store, its size, and the SHA-256 of its file."""

    key: str
    size: Size
    digest: str


class Contract(StrEnum):
    """What a picture is beside the one that the checkpoint's own pipeline makes of the same order and seed."""

    EXACT = "exact"
    """That one, up to the rounding of sums taken in another order: no step is skipped and none is approximated. Fewer
    steps are a preset, which has a name."""
    NARROWED = "narrowed"
    """Near that one: somewhere in the transformer numbers have fewer bits than the checkpoint is computed in otherwise,
    because the profile's loading says so."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How pictures were made: under which contract, by which checkpoint and preset of the profile, in how many steps
    each."""

    contract: Contract
    checkpoint: str
    preset: str
    steps: int


@dataclass(frozen=True, slots=True)
class Said:
    """What the worker has to say beside the pictures. `prompt` is the text they were drawn from, where the caller's own
    was rewritten; `texts` are (place, text), in order: each stands before the picture of that place, or, where the
    place is the number of pictures, after the last. `quality` is how they were made; None where nobody said."""

    prompt: str | None = None
    texts: tuple[tuple[int, str], ...] = ()
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store knows it. Times are wall-clock Unix seconds; `expires` is when its data is deleted."""

    id: str
    tenant: str
    api: str
    brief: Brief
    state: State
    attempt: int
    created: float
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    step: int = 0
    steps: int = 0
    images: tuple[Image, ...] = ()
    fault: Fault | None = None
    idempotency_key: str | None = None
    request_id: str | None = None
    """Set on jobs whose caller comes back for them."""
    key_id: str = ""
    lost: Mapping[int, Fault] = field(default_factory=lambda: MappingProxyType({}))
    """Pictures that a succeeded job could not deliver, by place; `images` are the others, in order."""
    said: Said = Said()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """An accepted job on its way to the queue. Its order is None where another version of the program stored it and
    this one cannot read it."""

    job_id: str
    tenant: str
    order: Order | None


@dataclass(frozen=True, slots=True)
class Search:
    """Which of a tenant's jobs to list: those whose callers come back for them, created from `since` to `until` (wall
    times, both included), narrowed by what is not None."""

    since: float
    until: float
    model: str | None = None
    states: tuple[State, ...] | None = None
    job_id: str | None = None
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, newest first, and how long the whole list is."""

    jobs: tuple[Job, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Lease:
    """One claim of a job by one worker. `token` is the fencing token: 128 random bits in hex, new at every claim."""

    token: str
    job_id: str
    tenant: str
    brief: Brief
    attempt: int
    cost: float
    run_seconds: float
    """Seconds left until the server gives the attempt up."""
    watched: bool = False
    """Whether somebody waits for previews already."""
    priority: int = 0
    """Higher goes before lower among the jobs of one tenant."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's sign of life for one lease: how many denoising steps of how many are done."""

    token: str
    step: int
    steps: int


class Closing(StrEnum):
    """What became of an attempt to end a job with a token."""

    DONE = "done"
    """The row moved, or had already moved with this very token (a lost answer)."""
    STALE = "stale"
    """Somebody else holds or ended the job: drop the work."""


@dataclass(frozen=True, slots=True)
class News:
    """What one long poll of a worker brings: jobs to make, and tokens whose jobs were cancelled or taken away."""

    leases: tuple[Lease, ...] = ()
    cancelled: tuple[str, ...] = ()
