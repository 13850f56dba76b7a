"""Every statement of the store but those of lists and uploads, named as a verb, in SQLAlchemy Core. Knows no
connection, thread or clock.

Written once for all databases; one that must differ (PostgreSQL's claim skips locked rows) overrides only that.
Guards that two statements share are functions of their own: `held_by` is the fencing token, `has_room` the quota.
Monotonic times are `now`, wall times `wall`, both in seconds.

    connection.execute(*statements.hold("tenant", 2))
"""

# ruff: noqa: ARG001 - `verb` reads the arguments named `values`

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import (
    ColumnElement,
    Delete,
    Float,
    FromClause,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
    update,
)

from danqing.store.tables import OPEN, account, api_key, charge, job, job_input, mark, outbox

P = ParamSpec("P")
S = TypeVar("S")


def verb(build: Callable[P, S]) -> Callable[P, tuple[S, dict[str, Any]]]:
    """Build the statement once, with a bind parameter in the place of each argument (building costs ten times what
    running does), and answer it with the call's own parameters. An argument named `values` is a row to insert or the
    columns to set: its members become parameters by themselves."""
    signature = inspect.signature(build)

    @functools.cache
    def statement() -> S:
        stand_ins: dict[str, Any] = {name: bindparam(f"the_{name}") for name in signature.parameters}
        return build(**stand_ins)  # type: ignore[call-arg]  # mypy cannot see that these are P's own names

    @functools.wraps(build)
    def call(*args: P.args, **kwargs: P.kwargs) -> tuple[S, dict[str, Any]]:
        given = signature.bind(*args, **kwargs).arguments
        columns = given.pop("values", {})
        return statement(), {**columns, **{f"the_{name}": value for name, value in given.items()}}

    return call


# Spelled exactly as the partial indexes, with their literals: a bound parameter would hide the index from SQLite.
_OPEN = text("state IN ('accepted', 'queued', 'running')")
_RUNNING = text("state = 'running'")


def held_by(token: str) -> ColumnElement[bool]:
    """The fencing guard: true for the running job that this token holds, and for no other."""
    return and_(job.c.lease_token == token, job.c.state == "running")


def has_room(pictures: int) -> ColumnElement[bool]:
    """The quota guard of an account."""
    return or_(account.c.quota.is_(None), account.c.held + account.c.used + pictures <= account.c.quota)


def owned_by(tenant: str) -> ColumnElement[bool]:
    """The tenancy guard of a job."""
    return job.c.tenant == tenant


def crashes_now(run: str, table: FromClause = job) -> ColumnElement[int]:
    """Crashes of a job whose lease has lapsed. A lapse counts, unless this server run never saw the lease alive:
    then it was the server that went away, not the worker."""
    return table.c.crash_count + case((table.c.lease_run == run, 1), else_=0)


def lapsed(now: float) -> ColumnElement[bool]:
    """A running job whose worker has been silent for longer than its lease."""
    return and_(job.c.state == "running", job.c.lease_until <= now)


def claimable(now: float, run: str, attempts: int, crashes: int) -> ColumnElement[bool]:
    """A job a worker may have: in time, and queued, or lapsed with an attempt left."""
    worth = and_(lapsed(now), job.c.attempt < attempts, crashes_now(run) < crashes)
    return and_(_OPEN, job.c.deadline > now, or_(job.c.state == "queued", worth))


# jobs: submit, find


@verb
def find_job(tenant: str, job_id: str, wall: float) -> Select[Any]:
    """A tenant's job within its life."""
    alive = or_(job.c.expires.is_(None), job.c.expires > wall)
    return select(job).where(job.c.id == job_id, owned_by(tenant), alive)


@verb
def find_key(tenant: str, idem_key: str) -> Select[Any]:
    """The job of an idempotency key."""
    return select(job).where(owned_by(tenant), job.c.idem_key == idem_key)


@verb
def free_key(job_id: str) -> Update:
    """Let an expired job's idempotency key be used again."""
    return update(job).where(job.c.id == job_id).values(idem_key=None)


@verb
def find_crashed(tenant: str, fingerprint: str, crashes: int, since: float) -> Select[Any]:
    """A recent job with this request that crashed its workers to the limit."""
    return (
        select(job.c.id)
        .where(text("state = 'failed' AND crash_count > 0"), owned_by(tenant), job.c.req_hash == fingerprint)
        .where(job.c.crash_count >= crashes, job.c.finished > since)
        .limit(1)
    )


@verb
def find_accepted(job_id: str) -> Select[Any]:
    """A job that is still on its way to the queue."""
    return select(job).where(job.c.id == job_id, job.c.state == "accepted")


@verb
def arrivals(limit: int) -> Select[Any]:
    """The first of those."""
    return (
        select(job.c.id, job.c.tenant, job.c.body_ref)
        .where(_OPEN, job.c.state == "accepted")
        .order_by(job.c.rank, job.c.turn)
        .limit(limit)
    )


@verb
def queued(limit: int) -> Select[Any]:
    """The first jobs that wait for a worker, by rank."""
    waiting = select(job).where(_OPEN, job.c.state == "queued")
    return waiting.order_by(job.c.rank, job.c.turn).limit(limit)


@verb
def move(job_id: str, values: dict[str, Any]) -> Update:
    """Change a job that the caller has just read in this transaction."""
    return update(job).where(job.c.id == job_id)


@verb
def count_open() -> Select[Any]:
    """Jobs that have not ended."""
    return select(func.count()).select_from(job).where(_OPEN)


@verb
def count_open_of(tenant: str) -> Select[Any]:
    """One tenant's jobs that have not ended."""
    return select(func.count()).select_from(job).where(_OPEN, owned_by(tenant))


@verb
def front() -> Select[Any]:
    """The rank of the first job that waits, NULL if none does."""
    return select(func.min(job.c.rank)).where(_OPEN, job.c.state != "running")


@verb
def back(tenant: str) -> Select[Any]:
    """The rank of the tenant's last job that has not ended, NULL if it has none."""
    return select(func.max(job.c.rank)).where(_OPEN, owned_by(tenant))


@verb
def position(tenant: str, job_id: str) -> Select[Any]:
    """How many jobs wait up to this one, itself among them; 0 if it does not wait. A part of the open index: up to
    that turn of its tenant's which will be its own, as many turns on as jobs of the tenant's go before it."""
    own, before, turns = (job.alias(name) for name in ("own", "before", "turns"))
    waits = and_(
        own.c.id == job_id, own.c.tenant == tenant, or_(own.c.state == "accepted", own.c.state == "queued")
    )
    priority, place, came = (
        select(column).where(waits).scalar_subquery()
        for column in (own.c.priority, own.c.place, own.c.created)
    )
    sooner = or_(
        before.c.priority > priority,
        before.c.place < place,
        and_(before.c.place == place, before.c.created < came),
    )
    ahead = (
        select(func.count())
        .select_from(before)
        .where(_OPEN, before.c.state != "running", before.c.tenant == tenant)
        .where(before.c.priority >= priority, sooner)
        .scalar_subquery()
    )
    mine = (
        select(turns.c.rank, turns.c.turn)
        .where(_OPEN, turns.c.state != "running", turns.c.tenant == tenant, exists().where(waits))
        .order_by(turns.c.rank, turns.c.turn)
        .limit(1)
        .offset(ahead)
        .scalar_subquery()
    )
    upto = tuple_(job.c.rank, job.c.turn) <= mine
    return select(func.count().label("before")).select_from(job).where(_OPEN, job.c.state != "running", upto)


@verb
def hold(tenant: str, pictures: int) -> Update:
    """Reserve pictures of an account if it has room."""
    return (
        update(account)
        .where(account.c.tenant == tenant, has_room(pictures))
        .values(held=account.c.held + pictures)
    )


@verb
def add_job(values: dict[str, Any]) -> Insert:
    """One row of `job`."""
    return insert(job)


@verb
def add_input(values: dict[str, Any]) -> Insert:
    """Name a blob that a job reads."""
    return insert(job_input)


# jobs: claim, beat, end


@verb
def next_job(now: float, run: str, *, attempts: int, crashes: int) -> Select[Any]:
    """The first job a worker may have. One walk along the open index."""
    found = select(job, crashes_now(run).label("crashes_now")).where(claimable(now, run, attempts, crashes))
    return found.order_by(job.c.rank, job.c.turn).limit(1)


@verb
def next_of_others(
    now: float, run: str, *, attempts: int, crashes: int, without: Sequence[str]
) -> Select[Any]:
    """The same of other tenants than these. A walk might pass all that these have waiting: so the tenants are gone
    through, each found behind the last by the index of turns, and each of the others names its first."""
    open_of, found = job.alias("open_of"), job.alias("found")
    tenants = select(func.min(open_of.c.tenant).label("tenant")).where(_OPEN).cte("tenants", recursive=True)
    behind = select(func.min(open_of.c.tenant)).where(_OPEN, open_of.c.tenant > tenants.c.tenant)
    tenants = tenants.union_all(select(behind.scalar_subquery()).where(tenants.c.tenant.is_not(None)))
    first = select(job.c.id).where(claimable(now, run, attempts, crashes), job.c.tenant == tenants.c.tenant)
    first = first.order_by(job.c.rank, job.c.turn).limit(1).correlate(tenants)
    heads = select(first.scalar_subquery()).where(tenants.c.tenant.not_in(without))
    whole = select(found, crashes_now(run, found).label("crashes_now")).where(found.c.id.in_(heads))
    return whole.order_by(found.c.rank, found.c.turn).limit(1)


@verb
def first_own(tenant: str, now: float) -> Select[Any]:
    """Which of a tenant's queued jobs goes first: of those of the highest priority the earliest. Found in the tenant's
    line, however long it is."""
    other = job.alias("other")
    highest = (
        select(func.max(other.c.priority))
        .where(_OPEN, other.c.state == "queued", other.c.tenant == tenant, other.c.deadline > now)
        .scalar_subquery()
    )
    return (
        select(job)
        .where(_OPEN, job.c.state == "queued", owned_by(tenant), job.c.deadline > now)
        .where(job.c.priority == highest)
        .order_by(job.c.place, job.c.created)
        .limit(1)
    )


@verb
def claim(job_id: str, values: dict[str, Any]) -> Update:
    """Hand a job to a worker; the caller has just read it in this transaction."""
    return update(job).where(job.c.id == job_id).values(state="running")


@verb
def beat(worker: str, token: str, values: dict[str, Any]) -> Update:
    """Extend a lease of this worker."""
    return update(job).where(held_by(token), job.c.lease_worker == worker)


@verb
def find_held(token: str) -> Select[Any]:
    """The running job of a token."""
    return select(job).where(held_by(token))


@verb
def find_token(token: str) -> Select[Any]:
    """What the last token of a job can still say of it, whatever its state."""
    return select(job.c.id, job.c.state).where(job.c.lease_token == token)


@verb
def find_worker(worker: str) -> Select[Any]:
    """The jobs a worker holds, found by its name however many others are open."""
    return select(job).where(_RUNNING, job.c.lease_worker == worker)


@verb
def close(token: str, values: dict[str, Any]) -> Update:
    """Move the job that this token holds: to its end, or back to the queue."""
    return update(job).where(held_by(token))


@verb
def end(job_id: str, values: dict[str, Any]) -> Update:
    """Move an open job to its end from the server's side: cancelled, out of time, out of attempts."""
    return update(job).where(job.c.id == job_id, job.c.state.in_(OPEN))


@verb
def unhold(tenant: str, pictures: int) -> Update:
    """Release what a job held."""
    return update(account).where(account.c.tenant == tenant).values(held=account.c.held - pictures)


@verb
def spend(tenant: str, held: int, delivered: int) -> Update:
    """Hold to used."""
    return (
        update(account)
        .where(account.c.tenant == tenant)
        .values(held=account.c.held - held, used=account.c.used + delivered)
    )


@verb
def add_charge(values: dict[str, Any]) -> Insert:
    """One row of `charge`; the primary key refuses a second one of the same job."""
    return insert(charge)


# sweeping


@verb
def overdue(now: float, limit: int) -> Select[Any]:
    """Open jobs past their deadline."""
    return select(job).where(_OPEN, job.c.deadline <= now).limit(limit)


@verb
def worn_out(now: float, run: str, *, attempts: int, crashes: int, limit: int) -> Select[Any]:
    """Lapsed jobs without an attempt left."""
    spent = or_(job.c.attempt >= attempts, crashes_now(run) >= crashes)
    return select(job, crashes_now(run).label("crashes_now")).where(_OPEN, lapsed(now), spent).limit(limit)


@verb
def expired(wall: float, limit: int) -> Select[Any]:
    """Ended jobs past their life, with what they name."""
    return (
        select(job.c.id, job.c.result).where(job.c.expires.is_not(None), job.c.expires <= wall).limit(limit)
    )


@verb
def inputs_of(job_ids: Sequence[str]) -> Select[Any]:
    """The input blobs that these jobs name."""
    return select(job_input.c.key).distinct().where(job_input.c.job_id.in_(job_ids))


@verb
def named_inputs(keys: Sequence[str]) -> Select[Any]:
    """Those of the keys that some job names."""
    return select(job_input.c.key).distinct().where(job_input.c.key.in_(keys))


@verb
def purge_inputs(job_ids: Sequence[str]) -> Delete:
    """Forget what these jobs named,"""
    return delete(job_input).where(job_input.c.job_id.in_(job_ids))


@verb
def purge_outbox(job_ids: Sequence[str]) -> Delete:
    """what was told of them,"""
    return delete(outbox).where(outbox.c.job_id.in_(job_ids))


@verb
def purge_jobs(job_ids: Sequence[str]) -> Delete:
    """and the jobs; their charges stay."""
    return delete(job).where(job.c.id.in_(job_ids))


@verb
def results_within_life(wall: float) -> Select[Any]:
    """The results that a link may still ask for."""
    return select(job.c.result).where(job.c.result.is_not(None), job.c.expires > wall)


# a new boot


@verb
def read_mark(name: str) -> Select[Any]:
    """One fact about the file."""
    return select(mark.c.value).where(mark.c.name == name)


@verb
def drop_mark(name: str) -> Delete:
    """Forget it, before it is written anew."""
    return delete(mark).where(mark.c.name == name)


@verb
def add_mark(name: str, value: str) -> Insert:
    """Remember it."""
    return insert(mark).values(name=name, value=value)


@verb
def lapse_all(now: float) -> Update:
    """After a restart of the machine no earlier monotonic time means anything: what ran has lapsed."""
    return (
        update(job)
        .where(_OPEN, job.c.state == "running")
        .values(lease_until=now, deadline=job.c.run_seconds + now)
    )


@verb
def requeue_all(now: float) -> Update:
    """And what waited gets its full time again."""
    waiting = job.c.state.in_(("accepted", "queued"))
    return update(job).where(_OPEN, waiting).values(deadline=job.c.queue_seconds + now)


# keys and accounts


@verb
def add_key(values: dict[str, Any]) -> Insert:
    """One row of `api_key`."""
    return insert(api_key)


@verb
def find_api_key(key_id: str) -> Select[Any]:
    """A key, whatever its standing."""
    return select(api_key).where(api_key.c.key_id == key_id)


@verb
def all_api_keys() -> Select[Any]:
    """Oldest first."""
    return select(api_key).order_by(api_key.c.created, api_key.c.key_id)


@verb
def revoke(key_id: str, wall: float) -> Update:
    """The first moment of revoking stays."""
    first = func.coalesce(api_key.c.revoked, wall)
    return update(api_key).where(api_key.c.key_id == key_id).values(revoked=first)


@verb
def find_workspace(tenant: str, workspace: str) -> Select[Any]:
    """A key in force that carries this workspace of the account, in any region."""
    return (
        select(api_key.c.key_id)
        .where(api_key.c.tenant == tenant, api_key.c.workspace == workspace, api_key.c.revoked.is_(None))
        .limit(1)
    )


@verb
def find_account(tenant: str) -> Select[Any]:
    """A balance."""
    return select(account).where(account.c.tenant == tenant)


@verb
def add_account(tenant: str) -> Insert:
    """An account without a quota."""
    return insert(account).values(tenant=tenant, quota=None, held=0, used=0)


@verb
def set_quota(tenant: str, quota: int) -> Update:
    """Never below what is already held and used: that much is promised or delivered."""
    spoken_for = account.c.held + account.c.used
    value = case((spoken_for > quota, spoken_for), else_=quota)
    return update(account).where(account.c.tenant == tenant).values(quota=value)


@verb
def lift_quota(tenant: str) -> Update:
    """Unlimited from now on."""
    return update(account).where(account.c.tenant == tenant).values(quota=None)


# the auditor


@verb
def audit(late: float, due: float, life: float) -> Select[Any]:
    """All counts in one statement, so that they speak of one moment. Every one must be 0.

    A deadline before `late` (monotonic) or an outbox row due before `due` (wall) was missed. A charge whose job is
    purged is in order: one older than a job's life at the latest purge. A younger one without a job is not."""
    charged = exists().where(charge.c.job_id == job.c.id)
    delivered = exists().where(job.c.id == charge.c.job_id, job.c.state == "succeeded")
    known = exists().where(job.c.id == charge.c.job_id)
    open_holds = (
        select(func.coalesce(func.sum(job.c.hold_images), 0))
        .where(_OPEN, job.c.tenant == account.c.tenant)
        .scalar_subquery()
    )
    charges = (
        select(func.coalesce(func.sum(charge.c.images), 0))
        .where(charge.c.tenant == account.c.tenant)
        .scalar_subquery()
    )
    purged = select(cast(mark.c.value, Float)).where(mark.c.name == "purged").scalar_subquery()
    wrong_charge = and_(~delivered, or_(known, charge.c.created > func.coalesce(purged, 0.0) - life))
    counts = {
        "succeeded_without_charge": (job, and_(job.c.state == "succeeded", ~charged)),
        "charge_without_succeeded": (charge, wrong_charge),
        "holds_not_open_jobs": (account, account.c.held != open_holds),
        "used_not_charges": (account, account.c.used != charges),
        "open_past_deadline": (job, and_(_OPEN, job.c.deadline < late)),
        "outbox_past_due": (outbox, and_(outbox.c.state == "pending", outbox.c.next_at < due)),
    }
    return select(
        *(
            select(func.count()).select_from(table).where(condition).scalar_subquery().label(name)
            for name, (table, condition) in counts.items()
        )
    )


@verb
def figures() -> Select[Any]:
    """Jobs by state, and since when the oldest of each has been there."""
    return select(job.c.state, func.count().label("jobs"), func.min(job.c.created).label("oldest")).group_by(
        job.c.state
    )
