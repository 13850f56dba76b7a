"""Any order of submits, claims, lapses, ends, sweeps and restarts, against a model of a few lines that is kept here.

The model is written from the rules (reliability, section 4), not from the store: who may be claimed, what a token can
still do, what is held and what is used, what is gone.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from danqing.core.errors import EngineFailed, QuotaExhausted, SameKeyOtherOrder
from danqing.core.job import Beat, Closing
from danqing.core.ports import JobStore
from tests.contract.stores import Implementation
from tests.support.clock import VirtualClock
from tests.support.jobs import draft, pictures

T = TypeVar("T")
DAY = 24 * 3600.0
QUOTA = 12
OPEN = {"queued", "running"}


@dataclass
class Model:
    """One job as the rules have it."""

    id: str
    tenant: str
    count: int
    rank: float
    created: float
    queue_seconds: float
    deadline: float
    priority: int
    key: str | None
    fingerprint: str
    state: str = "queued"
    attempt: int = 0
    crashes: int = 0
    token: str = ""
    worker: str = ""
    run: int = 0
    until: float = 0.0
    finished: float = 0.0

    def __post_init__(self) -> None:
        self.place, self.turn = self.rank, self.created


@dataclass
class World:
    """Everything the model knows."""

    jobs: list[Model] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)
    told: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[tuple[str, str, str]] = field(default_factory=list)
    """(worker, token, job id) of every claim there ever was."""
    run: int = 0

    def held(self, tenant: str) -> int:
        return sum(job.count for job in self.jobs if job.tenant == tenant and job.state in OPEN)

    def holder(self, token: str) -> Model | None:
        return next((job for job in self.jobs if job.token == token and job.state == "running"), None)

    def of_token(self, token: str) -> Model | None:
        return next((job for job in self.jobs if job.token == token), None)

    def crashes_now(self, job: Model) -> int:
        return job.crashes + int(job.run == self.run)

    def worn(self, job: Model, now: float) -> bool:
        lapsed = job.state == "running" and job.until <= now
        return lapsed and (job.attempt >= 3 or self.crashes_now(job) >= 2)

    def claimable(self, now: float) -> list[Model]:
        free = [
            job
            for job in self.jobs
            if job.deadline > now
            and (
                job.state == "queued"
                or (job.state == "running" and job.until <= now and not self.worn(job, now))
            )
        ]
        return sorted(free, key=lambda job: (job.rank, job.turn, self.jobs.index(job)))

    def next(self, now: float) -> Model | None:
        """The job that is claimed next; it exchanges its turn with the one of its tenant's that stands first."""
        free = self.claimable(now)
        if not free:
            return None
        own = [
            job for job in free if job.tenant == free[0].tenant and (job.state == "queued" or job is free[0])
        ]
        best = min(own, key=lambda job: (-job.priority, job.place, job.created))
        for name in ("rank", "turn"):
            theirs, mine = getattr(free[0], name), getattr(best, name)
            setattr(best, name, theirs)
            setattr(free[0], name, mine if best is not free[0] else theirs)
        return best


class StoreMachine(RuleBasedStateMachine):
    """Drives one store; `implementation` is set by the test."""

    implementation: Implementation

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = VirtualClock()
        self.world = World()
        self.boot = 0
        self.numbers = iter(range(10**6))
        self.opened: Any = None

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)

    def open(self) -> None:
        self.opened = self.implementation.open(Path(self.folder.name), self.clock, boot=str(self.boot))
        self.store: JobStore = self.do(self.opened.__aenter__())

    def close(self) -> None:
        self.do(self.opened.__aexit__(None, None, None))

    def teardown(self) -> None:
        self.close()
        self.loop.close()
        self.folder.cleanup()

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def end(self, job: Model, state: str) -> None:
        if job.state == "running":
            self.world.told.append((job.worker, job.token))
        job.state, job.finished = state, self.clock.wall()

    @initialize()
    def begin(self) -> None:
        self.open()
        for tenant in ("ann", "bob"):
            self.do(self.store.set_quota(tenant, QUOTA))
            self.world.used[tenant] = 0

    @rule(
        tenant=st.sampled_from(["ann", "bob"]),
        count=st.integers(1, 3),
        turn=st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0, 0, 1, -1])),
        queue_seconds=st.sampled_from([45.0, 3600.0]),
        named=st.sampled_from([(None, ""), (None, ""), ("k", "f"), ("k", "g"), ("l", "f")]),
    )
    def submit(
        self,
        tenant: str,
        count: int,
        turn: tuple[float, int],
        queue_seconds: float,
        named: tuple[str | None, str],
    ) -> None:
        self.clock.advance(0.25)  # or equal times would hide in which order jobs are claimed
        (key, fingerprint), (rank, priority) = named, turn
        job_id = f"job-{next(self.numbers)}"
        order = draft(
            job_id,
            count=count,
            rank=rank,
            priority=priority,
            queue_seconds=queue_seconds,
            idempotency_key=key,
            fingerprint=fingerprint,
        )
        mine = [job for job in self.world.jobs if job.tenant == tenant]
        twin = next((job for job in mine if key is not None and job.key == key and not self.over(job)), None)
        if twin is not None:
            if twin.fingerprint != fingerprint:
                with pytest.raises(SameKeyOtherOrder):
                    self.do(self.store.submit(tenant, order))
            else:
                submitted = self.do(self.store.submit(tenant, order))
                assert (submitted.replayed, submitted.job.id) == (True, twin.id)
            return
        since = self.clock.wall() - 3600
        poison = [
            job for job in mine if job.crashes >= 2 and job.state == "failed" and job.finished > since
        ]  # fmt: skip
        if fingerprint and any(job.fingerprint == fingerprint for job in poison):
            with pytest.raises(EngineFailed):
                self.do(self.store.submit(tenant, order))
            return
        if self.world.held(tenant) + self.world.used[tenant] + count > QUOTA:
            with pytest.raises(QuotaExhausted):
                self.do(self.store.submit(tenant, order))
            return
        assert not self.do(self.store.submit(tenant, order)).replayed
        for job in mine:
            if key is not None and job.key == key:
                job.key = None
        self.world.jobs.append(
            Model(
                id=job_id,
                tenant=tenant,
                count=count,
                rank=rank,
                priority=priority,
                created=self.clock.wall(),
                queue_seconds=queue_seconds,
                deadline=self.now + queue_seconds,
                key=key,
                fingerprint=fingerprint,
            )
        )

    def over(self, job: Model) -> bool:
        return job.state not in OPEN and job.finished + DAY <= self.clock.wall()

    @rule(worker=st.sampled_from(["w1", "w2"]), room=st.integers(0, 2))
    def claim_some(self, worker: str, room: int) -> None:
        self.claim(worker, room)

    def claim(self, worker: str, room: int) -> None:
        news = self.do(self.store.news(worker, room=room, seconds=0))
        for lease in news.leases:
            job = self.world.next(self.now)
            assert job is not None
            assert (lease.job_id, lease.priority) == (job.id, job.priority)
            if job.state == "running":
                self.world.told.append((job.worker, job.token))
                job.crashes = self.world.crashes_now(job)
            job.state, job.worker, job.token, job.run = "running", worker, lease.token, self.world.run
            job.attempt += 1
            assert lease.attempt == job.attempt
            job.until, job.deadline = self.now + 30, self.now + lease.run_seconds
            self.world.tokens.append((worker, lease.token, job.id))
        assert len(news.leases) == room or not self.world.claimable(self.now)
        assert sorted(news.cancelled) == sorted(token for who, token in self.world.told if who == worker)
        self.world.told = [pair for pair in self.world.told if pair[0] != worker]

    @rule()
    def claim_one(self) -> None:
        """Most of the life of a job begins with a claim, so there is a second way to draw one."""
        self.claim("w1", 1)

    @precondition(lambda self: self.world.tokens)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        worker, token, _ = data.draw(st.sampled_from(self.world.tokens[-3:]))
        gone = self.do(self.store.beat(worker, [Beat(token, 1, 8)]))
        job = self.world.holder(token)
        assert gone == (() if job else (token,))
        if job:
            job.until, job.run = self.now + 30, self.world.run

    @precondition(lambda self: self.world.tokens)
    @rule(data=st.data(), how=st.sampled_from(["succeed", "fail", "release", "crash"]))
    def close_job(self, data: st.DataObject, how: str) -> None:
        _, token, job_id = data.draw(st.sampled_from(self.world.tokens[-3:]))
        job = self.world.holder(token)
        count = job.count if job else 1
        if how == "succeed":
            closing = self.do(self.store.succeed(token, pictures(job_id, count)))
        elif how == "fail":
            closing = self.do(self.store.fail(token, EngineFailed()))
        else:
            closing = self.do(self.store.release(token, crashed=how == "crash"))
        if job is None:
            known = self.world.of_token(token)
            again = {"succeed": {"succeeded"}, "fail": {"failed"}}.get(how, {"queued", "failed"})
            assert closing is (Closing.DONE if known and known.state in again else Closing.STALE)
            return
        assert closing is Closing.DONE
        self.closed(job, how)

    def closed(self, job: Model, how: str) -> None:
        job.crashes += int(how == "crash")
        if how == "succeed":
            self.world.used[job.tenant] += job.count
        worn = how == "crash" and (job.attempt >= 3 or job.crashes >= 2)
        if how in ("succeed", "fail") or worn:
            job.state, job.finished = ("succeeded" if how == "succeed" else "failed"), self.clock.wall()
        else:
            job.state, job.deadline = "queued", self.now + job.queue_seconds
            job.attempt -= int(how == "release")

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), tenant=st.sampled_from(["ann", "bob"]))
    def cancel(self, data: st.DataObject, tenant: str) -> None:
        job = data.draw(st.sampled_from(self.world.jobs))
        answer = self.do(self.store.cancel(tenant, job.id))
        if tenant != job.tenant or self.over(job):
            assert answer is None
            return
        if job.state in OPEN:
            self.end(job, "cancelled")
        assert answer is not None
        assert answer.state.value == job.state

    @rule(seconds=st.sampled_from([1.0, 15.0, 30.0, 45.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: sum(job.state not in OPEN for job in self.world.jobs) > 2)
    @rule()
    def pass_a_day(self) -> None:
        self.clock.advance(DAY)

    @rule()
    def sweep(self) -> None:
        keys = list(self.do(self.store.sweep()))
        for job in self.world.jobs:
            if job.state in OPEN and job.deadline <= self.now:
                self.end(job, "failed")
        for job in self.world.jobs:
            if self.world.worn(job, self.now):
                job.crashes = self.world.crashes_now(job)
                self.end(job, "failed")
        gone = [job for job in self.world.jobs if self.over(job)]
        self.world.jobs = [job for job in self.world.jobs if not self.over(job)]
        expected = [image.key for j in gone if j.state == "succeeded" for image in pictures(j.id, j.count)]
        assert sorted(keys) == sorted(expected)
        assert (self.do(self.store.audit()))["open_past_deadline"] == 0

    @rule(machine=st.booleans())
    def restart(self, machine: bool) -> None:
        self.close()
        self.world.run += 1
        self.world.told.clear()
        if machine:
            self.boot += 1
            for job in self.world.jobs:
                if job.state == "queued":
                    job.deadline = self.now + job.queue_seconds
                elif job.state == "running":
                    job.until, job.deadline = self.now, self.now + 600
        self.open()

    @invariant()
    def jobs_are_as_expected(self) -> None:
        for job in self.world.jobs:
            seen = self.do(self.store.get(job.tenant, job.id))
            if self.over(job):
                assert seen is None
                continue
            assert seen is not None
            assert (seen.state.value, seen.attempt) == (job.state, job.attempt)
            assert len(seen.images) == (job.count if job.state == "succeeded" else 0)

    @invariant()
    def money_is_right(self) -> None:
        for tenant, used in self.world.used.items():
            account = self.do(self.store.account(tenant))
            assert account is not None
            assert (account.held, account.used) == (self.world.held(tenant), used)
        counts = self.do(self.store.audit())
        counts.pop("open_past_deadline")
        assert not any(counts.values()), counts


def test_p2_p3_p4_p5_p8_hold_whatever_happens_in_whatever_order(implementation: Implementation) -> None:
    machine = type("Machine", (StoreMachine,), {"implementation": implementation})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
