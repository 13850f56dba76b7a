"""The life of a job as transactions: submit, claim, beat, close, cancel, sweep. Plain and blocking, on a connection
inside the caller's transaction; knows no thread, no clock and no database product.

Each function answers an `Outcome`: a value for the caller, and what the rest of the process should hear once the
transaction is committed.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, RowMapping

from danqing.core.blobkeys import input_key
from danqing.core.errors import (
    EngineFailed,
    Fault,
    InputRefused,
    OutOfTime,
    QueueFull,
    QuotaExhausted,
    SameKeyOtherOrder,
)
from danqing.core.job import Beat, Closing, Draft, Image, Job, Lease, Said, State
from danqing.core.order import Brief
from danqing.core.ports import Submitted
from danqing.store import rows, statements, uploads

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of the store; durations in seconds."""

    lease_seconds: float = 30.0
    attempts: int = 3
    crashes: int = 2
    life_seconds: float = 24 * 3600.0
    """How long an ended job, its pictures' links and its idempotency key are kept."""
    queue_limit: int = 1000
    """Open jobs in all."""
    tenant_limit: int = 1000
    """Open jobs of one tenant."""
    quarantine_seconds: float = 3600.0
    """How long a request that crashed its workers to the limit is refused when it comes again."""
    most_of_one: int = 12
    """Jobs of one tenant that a worker holds at once: of its 16 places some are left to others."""
    sweep_rows: int = 200
    """At most so many rows a transaction, so that a sweep does not keep submits waiting."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where a transaction runs: both clocks, the id of this server run, and the rules."""

    now: float
    wall: float
    run: str
    rules: Rules


@dataclass(frozen=True, slots=True)
class Result:
    """What a success brings, as `Job` has it."""

    images: tuple[Image, ...]
    lost: Mapping[int, Fault]
    said: Said


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What a transaction did. `ended` are job ids; `dropped` are (worker, token) pairs that lost their job."""

    value: T
    ended: tuple[str, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    queued: bool = False


@dataclass(slots=True)
class _News:
    """Collects the parts of an outcome over several jobs."""

    ended: list[str] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)

    def outcome(self, value: T) -> Outcome[T]:
        return Outcome(value, ended=tuple(self.ended), dropped=tuple(self.dropped))


# submit


def submit(conn: Connection, tenant: str, draft: Draft, at: Moment) -> Outcome[Submitted]:
    """Look the idempotency key up, hold the pictures, insert the job. One that was refused already holds nothing."""
    known = _replayed(conn, tenant, draft, at)
    if known is not None:
        return Outcome(Submitted(known, replayed=True))
    _refuse_quarantined(conn, tenant, draft, at)
    _refuse_crowd(conn, tenant, at.rules)
    if draft.fault is None:
        _hold(conn, tenant, draft.brief.count)
    rank = _rank(conn, tenant, draft)
    row = _new_row(tenant, draft, at) | {"rank": rank, "place": rank, "turn": at.wall}
    conn.execute(*statements.add_job(row))
    _name_inputs(conn, tenant, draft.id, draft.brief)
    _let_go(conn, draft.id, draft.fault)
    job = Job(
        id=draft.id,
        tenant=tenant,
        api=draft.api,
        brief=draft.brief,
        state=State(row["state"]),
        attempt=0,
        created=at.wall,
        finished=row["finished"],
        expires=row["expires"],
        fault=draft.fault,
        idempotency_key=draft.idempotency_key,
        request_id=draft.request_id,
        key_id=draft.key_id,
        priority=draft.priority,
    )
    return Outcome(Submitted(job), queued=job.state is State.QUEUED)


def _name_inputs(conn: Connection, tenant: str, job_id: str, brief: Brief) -> None:
    for digest in brief.rasters:
        conn.execute(*statements.add_input({"job_id": job_id, "key": input_key(tenant, digest)}))


def _replayed(conn: Connection, tenant: str, draft: Draft, at: Moment) -> Job | None:
    if draft.idempotency_key is None:
        return None
    row = conn.execute(*statements.find_key(tenant, draft.idempotency_key)).mappings().first()
    if row is None:
        return None
    if answers(row, draft.fingerprint, at.wall):
        return rows.read_job(row)
    conn.execute(*statements.free_key(row["id"]))
    return None


def answers(row: RowMapping, fingerprint: str, wall: float) -> bool:
    """Whether the job of an idempotency key answers a request that came with it; False once its life is over.
    Raises SameKeyOtherOrder."""
    if row["expires"] is not None and row["expires"] <= wall:
        return False
    if row["req_hash"] != fingerprint:
        raise SameKeyOtherOrder
    return True


def _refuse_crowd(conn: Connection, tenant: str, rules: Rules) -> None:
    everybody = conn.execute(*statements.count_open()).scalar_one()
    if everybody >= rules.queue_limit:
        raise QueueFull
    # All jobs together are fewer than one tenant may have, or its own must be counted.
    if everybody >= rules.tenant_limit:
        own = conn.execute(*statements.count_open_of(tenant)).scalar_one()
        if own >= rules.tenant_limit:
            raise QueueFull


def _refuse_quarantined(conn: Connection, tenant: str, draft: Draft, at: Moment) -> None:
    if not draft.fingerprint:
        return
    since = at.wall - at.rules.quarantine_seconds
    found = conn.execute(*statements.find_crashed(tenant, draft.fingerprint, at.rules.crashes, since))
    if found.first() is not None:
        raise EngineFailed


def _hold(conn: Connection, tenant: str, pictures: int) -> None:
    if conn.execute(*statements.hold(tenant, pictures)).rowcount:
        return
    if not open_account(conn, tenant):
        raise QuotaExhausted
    conn.execute(*statements.hold(tenant, pictures))


def open_account(conn: Connection, tenant: str) -> bool:
    """Create the tenant's account; False if there is one."""
    if conn.execute(*statements.find_account(tenant)).first() is not None:
        return False
    conn.execute(*statements.add_account(tenant))
    return True


def _rank(conn: Connection, tenant: str, draft: Draft) -> float:
    """Where the job stands in the queue. Start-time fair queueing (Goyal, Vin and Cheng, 1996): a tenant's jobs follow
    each other at the distance of what they ask for, and whoever has none begins where the queue begins, so that those
    who wait take turns."""
    if draft.rank is not None:
        return draft.rank
    front: float = conn.execute(*statements.front()).scalar_one() or 0.0
    back = conn.execute(*statements.back(tenant)).scalar_one()
    return front if back is None else max(front, back + draft.weight)


def _new_row(tenant: str, draft: Draft, at: Moment) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": draft.id,
        "tenant": tenant,
        "api": draft.api,
        "model": draft.brief.model,
        "idem_key": draft.idempotency_key,
        "req_hash": draft.fingerprint,
        "brief": rows.brief_text(draft.brief),
        "state": "queued" if draft.order is None else "accepted",
        "body_ref": None if draft.order is None else rows.order_text(draft.order),
        "deadline": at.now + draft.queue_seconds,
        "queue_seconds": draft.queue_seconds,
        "run_seconds": draft.run_seconds,
        "cost": draft.cost,
        "priority": draft.priority,
        "hold_images": draft.brief.count,
        "created": at.wall,
        "request_id": draft.request_id,
        "key_id": draft.key_id,
        **dict.fromkeys(("finished", "expires", "error_code", "error_msg")),
    }
    return row if draft.fault is None else {**row, **_fault_values(draft.fault, at)}


# an accepted job goes on


def ready(conn: Connection, job_id: str, brief: Brief, at: Moment) -> Outcome[Closing]:
    """Into the queue, its inputs named."""
    row = conn.execute(*statements.find_accepted(job_id)).mappings().first()
    if row is None:
        return Outcome(Closing.STALE)
    values = {"state": "queued", "brief": rows.brief_text(brief), "body_ref": None}
    conn.execute(*statements.move(job_id, {**values, "deadline": at.now + row["queue_seconds"]}))
    conn.execute(*statements.purge_inputs([job_id]))
    _name_inputs(conn, row["tenant"], job_id, brief)
    return Outcome(Closing.DONE, queued=True)


def refuse(conn: Connection, job_id: str, fault: Fault, at: Moment) -> Outcome[Closing]:
    """It cannot be made: its end."""
    news = _News()
    row = conn.execute(*statements.find_accepted(job_id)).mappings().first()
    if row is None or not _end(conn, row, _fault_values(fault, at), news):
        return Outcome(Closing.STALE)
    _let_go(conn, job_id, fault)
    return news.outcome(Closing.DONE)


# claim and beat


def claim(conn: Connection, worker: str, room: int, at: Moment) -> Outcome[tuple[Lease, ...]]:
    """Up to `room` leases. A job taken over from a silent worker costs that worker its token."""
    news = _News()
    leases: list[Lease] = []
    limits = {"attempts": at.rules.attempts, "crashes": at.rules.crashes}
    held = Counter(row["tenant"] for row in conn.execute(*statements.find_worker(worker)).mappings())
    while len(leases) < room:
        full = [tenant for tenant, jobs in held.items() if jobs >= at.rules.most_of_one]
        found = (
            statements.next_of_others(at.now, at.run, **limits, without=full)
            if full
            else statements.next_job(at.now, at.run, **limits)
        )
        row = conn.execute(*found).mappings().first()
        if row is None:
            break
        turn = {"rank": row["rank"], "turn": row["turn"]}
        row = _own_first(conn, row, at)
        taken_over = row["state"] == "running"
        if taken_over:
            news.dropped.append((row["lease_worker"], row["lease_token"]))
        lease = rows.read_lease(row, secrets.token_hex(16), row["attempt"] + 1)
        leases.append(lease)
        held[lease.tenant] += 1
        values = {
            "attempt": lease.attempt,
            "crash_count": row["crashes_now"] if taken_over else row["crash_count"],
            "lease_token": lease.token,
            "lease_until": at.now + at.rules.lease_seconds,
            "lease_worker": worker,
            "lease_run": at.run,
            "deadline": at.now + lease.run_seconds,
            **turn,
            "started": at.wall if row["started"] is None else row["started"],
            "step": 0,
            "step_total": 0,
        }
        conn.execute(*statements.claim(lease.job_id, values))
    return news.outcome(tuple(leases))


def _own_first(conn: Connection, found: RowMapping, at: Moment) -> RowMapping:
    """Whom the tenant of the job found sends in its stead: that which goes first among its own. The two exchange
    their turns (the caller gives the one that goes its new one), so that the tenant has the same turns as before, and
    nobody else waits longer by one."""
    own = conn.execute(*statements.first_own(found["tenant"], at.now)).mappings().first()
    if own is None or _among_own(own) >= _among_own(found):
        return found
    conn.execute(*statements.move(found["id"], {"rank": own["rank"], "turn": own["turn"]}))
    return own


def _among_own(row: RowMapping) -> tuple[float, ...]:
    """The order of a tenant's own jobs. Their turns have no part in it: they are exchanged."""
    return -row["priority"], row["place"], row["created"]


def in_turn(found: Sequence[RowMapping]) -> list[RowMapping]:
    """Jobs found by rank in the order in which they will be claimed: each tenant's own order in the places that the
    tenant has."""
    lines: dict[str, deque[RowMapping]] = {}
    for row in sorted(found, key=_among_own):
        lines.setdefault(row["tenant"], deque()).append(row)
    return [lines[row["tenant"]].popleft() for row in found]


def beat(conn: Connection, worker: str, beats: Sequence[Beat], at: Moment) -> Outcome[tuple[str, ...]]:
    """Extend the leases; the value is the tokens that hold nothing."""
    gone = []
    until = at.now + at.rules.lease_seconds
    for one in beats:
        values = {"step": one.step, "step_total": one.steps, "lease_until": until, "lease_run": at.run}
        if not conn.execute(*statements.beat(worker, one.token, values)).rowcount:
            gone.append(one.token)
    return Outcome(tuple(gone))


# the worker ends an attempt


def succeed(conn: Connection, token: str, result: Result, at: Moment) -> Outcome[Closing]:
    """State, result, charge, hold to used."""
    row = conn.execute(*statements.find_held(token)).mappings().first()
    if row is None:
        return _repeated(conn, token, "succeeded")
    values = {
        **_end_values("succeeded", at),
        "result": rows.images_text(result.images),
        "out_hash": rows.images_hash(result.images),
        "lost": rows.lost_text(result.lost),
        "said": rows.said_text(result.said),
    }
    conn.execute(*statements.close(token, values))
    charge = {
        "job_id": row["id"],
        "tenant": row["tenant"],
        "model": row["model"],
        "images": len(result.images),
        "amount": len(result.images),
        "created": at.wall,
    }
    conn.execute(*statements.add_charge(charge))
    conn.execute(*statements.spend(row["tenant"], row["hold_images"], len(result.images)))
    return Outcome(Closing.DONE, ended=(row["id"],))


def fail(conn: Connection, token: str, fault: Fault, at: Moment) -> Outcome[Closing]:
    """The hold goes back, the fault is kept."""
    row = conn.execute(*statements.find_held(token)).mappings().first()
    if row is None:
        return _repeated(conn, token, "failed")
    conn.execute(*statements.close(token, _fault_values(fault, at)))
    conn.execute(*statements.unhold(row["tenant"], row["hold_images"]))
    _let_go(conn, row["id"], fault)
    return Outcome(Closing.DONE, ended=(row["id"],))


def _let_go(conn: Connection, job_id: str, fault: Fault | None) -> None:
    """A job whose inputs may not be kept names them no more."""
    if isinstance(fault, InputRefused):
        conn.execute(*statements.purge_inputs([job_id]))


def release(conn: Connection, token: str, at: Moment, *, crashed: bool) -> Outcome[Closing]:
    """Back to the queue. A crash counts, and the last one allowed ends the job."""
    row = conn.execute(*statements.find_held(token)).mappings().first()
    if row is None:
        return _repeated(conn, token, "queued", "failed")
    crashes = row["crash_count"] + int(crashed)
    if crashed and (row["attempt"] >= at.rules.attempts or crashes >= at.rules.crashes):
        conn.execute(*statements.close(token, {**_fault_values(EngineFailed(), at), "crash_count": crashes}))
        conn.execute(*statements.unhold(row["tenant"], row["hold_images"]))
        return Outcome(Closing.DONE, ended=(row["id"],))
    values = {
        "state": "queued",
        "attempt": row["attempt"] - int(not crashed),
        "crash_count": crashes,
        "lease_until": None,
        "deadline": at.now + row["queue_seconds"],
        "step": 0,
        "step_total": 0,
    }
    conn.execute(*statements.close(token, values))
    return Outcome(Closing.DONE, queued=True)


def _repeated(conn: Connection, token: str, *states: str) -> Outcome[Closing]:
    """The token holds nothing now: is this the answer that got lost, or a worker that lost its job?"""
    row = conn.execute(*statements.find_token(token)).mappings().first()
    return Outcome(Closing.DONE if row is not None and row["state"] in states else Closing.STALE)


def bury(conn: Connection, worker: str, at: Moment, *, crashed: bool) -> Outcome[int]:
    """Release everything a dead worker held."""
    held = conn.execute(*statements.find_worker(worker)).mappings().all()
    outcomes = [release(conn, row["lease_token"], at, crashed=crashed) for row in held]
    ended = tuple(job_id for outcome in outcomes for job_id in outcome.ended)
    return Outcome(len(outcomes), ended=ended, queued=any(outcome.queued for outcome in outcomes))


# the server ends a job


def cancel(conn: Connection, tenant: str, job_id: str, at: Moment) -> Outcome[Job | None]:
    """An open job ends; an ended one stays."""
    news = _News()
    row = conn.execute(*statements.find_job(tenant, job_id, at.wall)).mappings().first()
    if row is None:
        return Outcome(None)
    if _end(conn, row, _end_values("cancelled", at), news):
        row = conn.execute(*statements.find_job(tenant, job_id, at.wall)).mappings().one()
    return news.outcome(rows.read_job(row))


def withdraw(conn: Connection, tenant: str, job_id: str, at: Moment) -> Outcome[bool]:
    """An open job that no worker has begun ends; any other stays."""
    news = _News()
    row = conn.execute(*statements.find_job(tenant, job_id, at.wall)).mappings().first()
    if row is None or row["state"] not in ("accepted", "queued"):
        return Outcome(False)
    return news.outcome(_end(conn, row, _end_values("cancelled", at), news))


def give_up(conn: Connection, at: Moment) -> Outcome[bool]:
    """End what is past its deadline or out of attempts; the value is whether there may be more."""
    news = _News()
    rules = at.rules
    late = conn.execute(*statements.overdue(at.now, rules.sweep_rows)).mappings().all()
    for row in late:
        _end(conn, row, _fault_values(OutOfTime(), at), news)
    spent = conn.execute(
        *statements.worn_out(
            at.now, at.run, attempts=rules.attempts, crashes=rules.crashes, limit=rules.sweep_rows
        )
    )
    worn = spent.mappings().all()
    for row in worn:
        values = {**_fault_values(EngineFailed(), at), "crash_count": row["crashes_now"]}
        _end(conn, row, values, news)
    return news.outcome(max(len(late), len(worn)) >= rules.sweep_rows)


def purge(conn: Connection, at: Moment) -> Outcome[tuple[bool, list[str]]]:
    """Forget jobs and uploads past their life. The value: whether there may be more, and the blob keys nothing names
    any more."""
    sent = uploads.purge(conn, at.wall, at.rules.sweep_rows)
    found = conn.execute(*statements.expired(at.wall, at.rules.sweep_rows)).mappings().all()
    if not found:
        return Outcome((len(sent) >= at.rules.sweep_rows, sent))
    ids = [row["id"] for row in found]
    inputs = set(conn.execute(*statements.inputs_of(ids)).scalars())
    for forget in (statements.purge_inputs, statements.purge_outbox, statements.purge_jobs):
        conn.execute(*forget(ids))
    if inputs:
        inputs -= set(conn.execute(*statements.named_inputs(sorted(inputs))).scalars())
    _remember_purge(conn, at)
    results = [image.key for row in found for image in rows.read_images(row["result"])]
    more = max(len(found), len(sent)) >= at.rules.sweep_rows
    return Outcome((more, results + sorted(inputs) + sent))


def _remember_purge(conn: Connection, at: Moment) -> None:
    """The latest wall time a purge went by: up to there the auditor expects charges without their jobs."""
    before = conn.execute(*statements.read_mark("purged")).scalar_one_or_none()
    _set_mark(conn, "purged", repr(max(at.wall, float(before or 0.0))))


def _set_mark(conn: Connection, name: str, value: str) -> None:
    conn.execute(*statements.drop_mark(name))
    conn.execute(*statements.add_mark(name, value))


def _end(conn: Connection, row: RowMapping, values: dict[str, Any], news: _News) -> bool:
    if not conn.execute(*statements.end(row["id"], values)).rowcount:
        return False
    conn.execute(*statements.unhold(row["tenant"], row["hold_images"]))
    news.ended.append(row["id"])
    if row["state"] == "running":
        news.dropped.append((row["lease_worker"], row["lease_token"]))
    return True


def _end_values(state: str, at: Moment) -> dict[str, Any]:
    return {
        "state": state,
        "finished": at.wall,
        "expires": at.wall + at.rules.life_seconds,
        "lease_until": None,
        "body_ref": None,
    }


def _fault_values(fault: Fault, at: Moment) -> dict[str, Any]:
    return {
        **_end_values("failed", at),
        "error_code": type(fault).__name__,
        "error_msg": rows.message_text(fault),
    }


# a new run


def begin(conn: Connection, boot: str, at: Moment) -> Outcome[None]:
    """Called once when the store opens: monotonic times of another boot are replaced by fresh ones."""
    if conn.execute(*statements.read_mark("boot")).scalar_one_or_none() != boot:
        conn.execute(*statements.lapse_all(at.now))
        conn.execute(*statements.requeue_all(at.now))
        _set_mark(conn, "boot", boot)
    return Outcome(None)
