"""The few interfaces that keep rooms apart. `app.py` hands the implementations in; nobody else names them.

Every store method that serves a caller takes the tenant first, and answers a foreign, expired or unknown id alike.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from danqing.core.errors import Fault
from danqing.core.events import Event, Work
from danqing.core.job import Arrival, Beat, Closing, Draft, Image, Job, News, Page, Said, Search
from danqing.core.keys import Account, ApiKey
from danqing.core.order import Brief
from danqing.core.uploads import Kept, Upload


class Clock(Protocol):
    """Time. Leases use `monotonic`; wall time is only for link expiry, the 24-hour life and display."""

    def monotonic(self) -> float:
        """Seconds that never go back while this machine is up."""
        ...

    def wall(self) -> float:
        """Unix seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Submitted:
    """A stored job, and whether an idempotency key led to one that was there before."""

    job: Job
    replayed: bool = False


class JobStore(Protocol):
    """Jobs, leases, charges and keys. The row is the only truth; every method is one synced transaction unless said."""

    async def submit(self, tenant: str, draft: Draft) -> Submitted:
        """Store a job with its hold of `brief.count` pictures, or find the one of its idempotency key: queued, or
        accepted if an order comes with it, or failed (and without a hold) if a fault does.
        Raises QuotaExhausted, QueueFull, SameKeyOtherOrder, Unavailable (disk full, store closed)."""
        ...

    async def replay(self, tenant: str, key: str, fingerprint: str) -> Job | None:
        """The job that this idempotency key stands for, or None if it is free: asked before inputs are fetched,
        so that a replay does not need them again. Raises SameKeyOtherOrder."""
        ...

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """The job, or None for unknown, foreign and expired ids alike."""
        ...

    async def wait(self, tenant: str, job_id: str, seconds: float) -> Job | None:
        """The job as soon as its state is final, or as it stands when the time is up."""
        ...

    async def position(self, tenant: str, job_id: str) -> int | None:
        """The job's place among all that wait, 1 for the next; None for one that does not wait."""
        ...

    async def find(self, tenant: str, search: Search, *, skip: int, limit: int) -> Page:
        """A page of the tenant's jobs within their life. Takes as long among a hundred thousand as among a thousand."""
        ...

    async def arrivals(self, limit: int) -> Sequence[Arrival]:
        """Accepted jobs in the order in which they came."""
        ...

    async def queued(self, limit: int) -> Sequence[Job]:
        """The first jobs that wait for a worker, in the order in which they will be claimed; one whose priority takes
        it before them from behind the last of these is not among them."""
        ...

    async def ready(self, job_id: str, brief: Brief) -> Closing:
        """Move an accepted job to the queue with its definite brief; stale if it is accepted no more."""
        ...

    async def refuse(self, job_id: str, fault: Fault) -> Closing:
        """End an accepted job with `fault` and release its hold; stale if it is accepted no more. After InputRefused
        the job names its inputs no more."""
        ...

    async def withdraw(self, tenant: str, job_id: str) -> bool:
        """Cancel a job that no worker has begun, and say whether this call did."""
        ...

    async def cancel(self, tenant: str, job_id: str) -> Job | None:
        """Move an accepted, queued or running job to cancelled and release its hold; a final job is returned as is."""
        ...

    async def news(self, worker: str, *, room: int, seconds: float) -> News:
        """A worker's long poll: up to `room` leases, and the tokens of this worker's jobs that were cancelled or
        lapsed; returns as soon as there is any, else empty when the time is up. May commit unsynced."""
        ...

    async def beat(self, worker: str, beats: Sequence[Beat]) -> tuple[str, ...]:
        """Extend the leases; answers the tokens that no longer hold a job. May commit unsynced."""
        ...

    async def succeed(
        self,
        token: str,
        images: Sequence[Image],
        lost: Mapping[int, Fault] | None = None,
        said: Said | None = None,
    ) -> Closing:
        """End the job with its pictures and its charge row, hold to used, in one transaction guarded by the token.
        `lost` says which places have no picture, and why: they are not charged. `said` is kept with the job."""
        ...

    async def fail(self, token: str, fault: Fault) -> Closing:
        """The attempt failed: release the hold and end the job with `fault`. After InputRefused the job names its
        inputs no more."""
        ...

    async def release(self, token: str, *, crashed: bool = False) -> Closing:
        """Give the job back to the queue (a clean shutdown counts no attempt; a crash counts one)."""
        ...

    async def leased(self, token: str) -> Job | None:
        """The running job that this token holds, or None if it holds none."""
        ...

    async def add_key(self, key: ApiKey) -> None:
        """Store a key's record; creates the tenant's account if there is none."""
        ...

    async def key(self, key_id: str) -> ApiKey | None:
        """The key's record, revoked and expired ones included."""
        ...

    async def keys(self) -> Sequence[ApiKey]:
        """All keys, oldest first."""
        ...

    async def has_workspace(self, tenant: str, workspace: str) -> bool:
        """Whether a key of the tenant that is not revoked carries this workspace."""
        ...

    async def revoke_key(self, key_id: str) -> bool:
        """Revoke; False if there is no such key."""
        ...

    async def account(self, tenant: str) -> Account | None:
        """The tenant's balance."""
        ...

    async def set_quota(self, tenant: str, quota: int | None) -> None:
        """Set or lift the quota of pictures."""
        ...

    async def keep_upload(self, upload: Upload, most: int) -> Kept:
        """Give an upload its name, if that is free or has the same bytes, and if the tenant's uploads together stay
        within `most` bytes."""
        ...

    async def upload(self, tenant: str, key: str) -> Upload | None:
        """The upload of that name, or None for unknown, foreign and expired ones alike."""
        ...

    async def uploaded(self, tenant: str) -> int:
        """The bytes of all uploads of the tenant."""
        ...

    async def sweep(self) -> Iterable[str]:
        """Delete what is past its life (jobs 24 h after their end, uploads when they expire) and end what is past its
        deadline; answers the blob keys that nothing names any more and that the caller must now remove."""
        ...

    async def unnamed(self, keys: Sequence[str]) -> Sequence[str]:
        """Those of the blob keys that no job or upload within its life names: what a lost attempt, a crash or a
        refusal left behind."""
        ...

    async def audit(self) -> dict[str, int]:
        """The auditor's counts by name (`reliability`: all must be 0), for gauges and tests."""
        ...

    async def figures(self) -> dict[str, int]:
        """Jobs by state and the like, for metrics and health."""
        ...


@dataclass(frozen=True, slots=True)
class Poured:
    """Bytes that were written as they came: how many, and their SHA-256."""

    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Seal:
    """Proof that this service wrote a text: the public id of the signing key, and the code."""

    key_id: str
    code: bytes


class BlobStore(Protocol):
    """Bytes under keys of one canonical grammar, links to them that expire, and seals of the same keys."""

    async def write(self, key: str, data: bytes) -> None:
        """Durable when it returns: file synced, name synced. Raises Unavailable when the disk is full."""
        ...

    async def pour(self, key: str, parts: AsyncIterator[bytes]) -> Poured:
        """As `write`, of bytes that are never in memory together; whatever ends the iterator early leaves nothing."""
        ...

    async def read(self, key: str) -> bytes | None:
        """The bytes, or None if there is no such object."""
        ...

    async def has(self, key: str) -> bool:
        """Whether there is such an object."""
        ...

    async def remove(self, keys: Iterable[str]) -> None:
        """Forget the objects; unknown keys are ignored."""
        ...

    async def stale(self, seconds: float) -> Sequence[str]:
        """Keys of objects older than that."""
        ...

    def link(self, key: str, *, base: str, expires: int) -> str:
        """An absolute URL under `base` that serves the object without a key until `expires` (Unix seconds)."""
        ...

    def seal(self, text: str) -> Seal:
        """Sign a text with the newest key."""
        ...

    def knows(self, key_id: str) -> bool:
        """Whether there is a signing key of this id."""
        ...

    def sealed(self, text: str, seal: Seal) -> bool:
        """Whether this service signed that text so."""
        ...

    async def follow(self, path: str, query: str, now: float) -> bytes:
        """The object behind a signed path and query. Raises LinkForged, LinkExpired or LinkDead, the first two
        before storage is touched."""
        ...


class LinkForged(Exception):
    """The path or query is not one this service signed."""


class LinkExpired(Exception):
    """The link's time is over; `expires` in Unix seconds."""

    def __init__(self, expires: int) -> None:
        """Keep the moment for the answer."""
        super().__init__(str(expires))
        self.expires = expires


class LinkDead(Exception):
    """The signature is good and the object is gone."""


class Engine(Protocol):
    """Makes pictures. Runs in its own thread; methods return at once and may be called from any thread."""

    def start(self, work: Work) -> None:
        """Take in a work; everything about it arrives as events."""
        ...

    def cancel(self, token: str) -> None:
        """Drop a work within one denoising step; unknown tokens are ignored."""
        ...

    def watch(self, token: str, *, on: bool) -> None:
        """Somebody looks at a work, or at works whose tokens continue this one with a slash, and is told previews of
        it; or nobody does any more. The token need not be known yet."""
        ...

    def listen(self, hear: Callable[[Event], None]) -> None:
        """Register the one listener; it is called from the engine's thread and must not block."""
        ...

    def figures(self) -> Mapping[str, float]:
        """What the engine counts of itself, for an operator: a name and a number each, as of now. Counts grow for as
        long as the engine lives."""
        ...

    def close(self) -> None:
        """Stop the thread; works in progress are dropped without an event."""
        ...
