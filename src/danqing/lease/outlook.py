"""When a job that waits will be done: the queue played forward over the workers that are there.

The same play as in the engine (`schedule.forecast`), with what the server knows: who holds what and how far it is, who
waits in which order, and what such jobs took lately. Once a worker tells of a job itself, that is nearer the truth.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from danqing.core.job import Job
from danqing.core.order import Brief
from danqing.core.ports import Clock, JobStore
from danqing.schedule.cost import Stage
from danqing.schedule.forecast import Ahead, ends
from danqing.schedule.policy import Lane, Policy
from danqing.schedule.prices import Prices

MOST = 256
"""Waiting jobs that are played one by one; for those behind them nothing is foretold."""
EVERY = 0.5
SHARE = 0.02
"""Seconds between two plays, at least, and the part of the time that they may take."""
ROOM = 16


@dataclass(frozen=True, slots=True)
class Held:
    """A job that a worker holds: whose, of what, since when on the monotonic clock, the share that is done, and its
    priority."""

    job_id: str
    tenant: str
    brief: Brief
    worker: str
    since: float
    done: float
    priority: int = 0


class Outlook:
    """Foretells ends, and learns from what became of them."""

    def __init__(
        self,
        store: JobStore,
        clock: Clock,
        *,
        policy: Policy,
        prices: Prices,
        held: Callable[[], Sequence[Held]],
        workers: Callable[[], Sequence[str]],
    ) -> None:
        """`held` are the jobs with the workers, `workers` the names of those that are there."""
        self._store, self._clock, self._policy, self._prices = store, clock, policy, prices
        self._held, self._workers = held, workers
        self._ends: dict[str, float] = {}
        self._next = 0.0
        self._looking = asyncio.Lock()
        self._said: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.allowance = 1.0
        """Learned: how long jobs took over what was foretold of them when they were first asked about."""

    async def left(self, job_id: str) -> float | None:
        """Predicted seconds until the job's end; None where nobody can say."""
        if self._clock.monotonic() >= self._next:
            async with self._looking:
                # Else somebody else has just looked for all who waited.
                if self._clock.monotonic() >= self._next:
                    await self._look()
        end = self._ends.get(job_id)
        now = self._clock.monotonic()
        if end is None:
            return None
        left = max(0.0, end - now)
        self._said.setdefault(job_id, (now, left))
        while len(self._said) > 16 * MOST:
            self._said.popitem(last=False)
        return left * self.allowance

    def ended(self, job_id: str, brief: Brief, seconds: float) -> None:
        """A job succeeded after so many seconds of engine time."""
        self._prices.learn(brief, seconds)
        said = self._said.pop(job_id, None)
        if said is not None and said[1] > 0:
            took = (self._clock.monotonic() - said[0]) / said[1]
            self.allowance += 0.05 * (min(2.0, max(0.5, took)) - self.allowance)
            self.allowance = min(1.5, max(0.8, self.allowance))

    async def _look(self) -> None:
        queued = await self._store.queued(MOST)
        now = self._clock.monotonic()
        lines: dict[str, list[Ahead]] = {worker: [] for worker in self._workers()}
        for held in self._held():
            seconds = self._prices.seconds(held.brief)
            if seconds is not None and held.worker in lines:
                lines[held.worker].append(_ahead(held, held.job_id, held.since, seconds, done=held.done))
        load = {worker: sum(one.lane.left for one in line) for worker, line in lines.items()}
        for job in queued if lines else ():
            seconds = self._prices.seconds(job.brief)
            if seconds is not None:
                worker = min(load, key=lambda name: load[name])
                lines[worker].append(self._waiting(job, now, seconds))
                load[worker] += seconds
        self._ends = {}
        for line in lines.values():
            played = ends(line, self._policy, now, room=ROOM)
            self._ends |= {job: now + seconds for job, seconds in played.items()}
        took = self._clock.monotonic() - now
        self._next = self._clock.monotonic() + max(EVERY, took / SHARE)

    def _waiting(self, job: Job, now: float, seconds: float) -> Ahead:
        since = now - max(0.0, self._clock.wall() - job.created)
        return _ahead(job, job.id, since, seconds, done=0.0)


def _ahead(job: Held | Job, job_id: str, since: float, seconds: float, *, done: float) -> Ahead:
    lane = Lane(
        job=job_id,
        index=0,
        stage=Stage.STEP,
        step=0,
        tokens=1,
        arrived=since,
        served=since,
        left=seconds * (1 - done),
        tenant=job.tenant,
        solo=seconds,
        priority=job.priority,
    )
    return Ahead(lane, seconds / 8)
