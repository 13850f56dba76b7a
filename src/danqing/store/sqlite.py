"""The job store in one SQLite file: a writer thread, read-only readers, wake-ups. Knows no row and no rule of a
job's life; those are `life`'s and `statements`', shared with every other database.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, RowMapping, Select, create_engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import QueuePool

from danqing.core.blobkeys import is_input
from danqing.core.errors import Fault, Unavailable
from danqing.core.job import (
    Arrival,
    Beat,
    Closing,
    Draft,
    Image,
    Job,
    Lease,
    News,
    Page,
    Said,
    Search,
    State,
    final,
)
from danqing.core.keys import Account, ApiKey
from danqing.core.order import Brief
from danqing.core.ports import Clock, Submitted
from danqing.core.uploads import Kept, Upload
from danqing.store import life, lists, rows, statements, uploads
from danqing.store.bells import Bells
from danqing.store.life import Moment, Outcome, Rules
from danqing.store.lock import OPERATOR, FolderHeld, FolderLock, lock
from danqing.store.migrations import Unusable, upgrade
from danqing.store.writer import Writer

T = TypeVar("T")
Question = tuple[Select[Any], dict[str, Any]]

SAFE_VERSION = (3, 51, 3)
"""Before this, a second connection that writes or checkpoints could damage the file (SQLite's own release notes);
ours has none, and the readers cannot."""

PATIENCE = 5.0
"""Seconds that an operator command has to end."""

_READERS = 4
_GROUP = 128
_LOOK_AGAIN = 1.0  # seconds: nobody rings a bell when a lease lapses
_SLACK = 60.0  # seconds: what is past due by less waits for the next sweep

CRASH_LABELS = (
    "submit",
    "ready",
    "refuse",
    "claim",
    "beat",
    "succeed",
    "fail",
    "release",
    "cancel",
    "give_up",
    "purge",
    "key",
    "upload",
)


class SqliteStore:
    """`core.ports.JobStore` in the file at `path`, whose folder it locks. Everything happens between `open` and
    `close`, on one event loop; before and after, every method raises Unavailable.

    `crash` is called at each commit point with `<label>.<point>` and may end the process: tests do.
    `boot` names the boot that `clock.monotonic()` counts from."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        rules: Rules | None = None,
        boot: str | None = None,
        crash: Callable[[str], None] | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._rules = rules if rules is not None else Rules()
        self._boot = boot if boot is not None else boot_id()
        self._crash = crash if crash is not None else _no_crash
        self._run = secrets.token_hex(8)
        self._bells = Bells()
        self._lock: FolderLock | None = None
        self._writer: Writer | None = None

    # opening and closing

    @property
    def warning(self) -> str | None:
        """What the operator should know of this SQLite, or None."""
        return version_warning(sqlite3.sqlite_version_info)

    @property
    def commits(self) -> int:
        """Groups committed since the store opened."""
        return self._writer.commits if self._writer is not None else 0

    def tell(self, about: str) -> None:
        """Say in the lock file what holds the folder, such as the server's address."""
        if self._lock is not None:
            self._lock.tell(about)

    async def open(self, about: str = "") -> Self:
        """Lock the folder, bring the tables up to date, start the threads. Raises FolderHeld, Unusable. An operator
        command that holds the folder is waited for."""
        self._lock = await self._locked(about)
        try:
            await self._usable()
        except BaseException:
            self._lock.release()
            self._lock = None
            raise
        self._writer = Writer(self._connection, self._bells.ring, batch=_GROUP, crash=self._crash)
        self._writer.start()
        return self

    async def _locked(self, about: str) -> FolderLock:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return lock(self._path.parent, about)
            except FolderHeld as held:
                if held.about != OPERATOR or time.monotonic() > until:
                    raise
            await asyncio.sleep(0.05)

    async def _usable(self) -> None:
        try:
            await asyncio.to_thread(self._connect)
        except DatabaseError as fault:
            raise Unusable(f"{self._path}: {fault.orig}") from fault
        except Unusable as fault:
            raise Unusable(f"{self._path}: {fault}") from fault

    async def close(self) -> None:
        """Finish what is queued, fold the log into the file, give the folder back. Closing twice is one closing."""
        if self._writer is None or self._lock is None:
            return
        writer, self._writer = self._writer, None
        await asyncio.to_thread(self._disconnect, writer)
        self._lock.release()
        self._lock = None

    async def __aenter__(self) -> Self:
        return self if self._writer is not None else await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _connect(self) -> None:
        self._engine = _engine(self._path, read_only=False)
        self._connection = self._engine.connect()
        try:
            self._prepare(self._connection)
        except BaseException:
            self._connection.close()
            self._engine.dispose()
            raise
        self._read_engine = _engine(self._path, read_only=True)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")

    def _prepare(self, connection: Connection) -> None:
        for setting in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "fullfsync = ON",  # macOS: a plain fsync stops at the drive's cache
            "journal_size_limit = 67108864",
        ):
            connection.exec_driver_sql(f"PRAGMA {setting}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        upgrade(connection)
        life.begin(connection, self._boot, self._moment())
        connection.exec_driver_sql("COMMIT")

    def _disconnect(self, writer: Writer) -> None:
        writer.stop()
        self._readers.shutdown(wait=True)
        self._read_engine.dispose()
        self._connection.close()
        self._engine.dispose()

    # jobs

    async def submit(self, tenant: str, draft: Draft) -> Submitted:
        """See `JobStore`."""
        return await self._write("submit", lambda conn: life.submit(conn, tenant, draft, self._moment()))

    async def replay(self, tenant: str, key: str, fingerprint: str) -> Job | None:
        """See `JobStore`."""
        found = await self._read(statements.find_key(tenant, key))
        if not found or not life.answers(found[0], fingerprint, self._clock.wall()):
            return None
        return rows.read_job(found[0])

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """See `JobStore`."""
        return await self._read_job(statements.find_job(tenant, job_id, self._clock.wall()))

    async def wait(self, tenant: str, job_id: str, seconds: float) -> Job | None:
        """See `JobStore`."""
        with self._bells.at_end(job_id) as bell:
            job = await self.get(tenant, job_id)
            if job is None or final(job.state) or seconds <= 0:
                return job
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await bell.wait()
            return await self.get(tenant, job_id)

    async def position(self, tenant: str, job_id: str) -> int | None:
        """See `JobStore`."""
        (row,) = await self._read(statements.position(tenant, job_id))
        return int(row["before"]) or None

    async def find(self, tenant: str, search: Search, *, skip: int, limit: int) -> Page:
        """See `JobStore`."""
        wall = self._clock.wall()
        return await self._ask(
            lambda conn: lists.page(conn, tenant, search, skip=skip, limit=limit, wall=wall)
        )

    async def arrivals(self, limit: int) -> Sequence[Arrival]:
        """See `JobStore`."""
        return [rows.read_arrival(row) for row in await self._read(statements.arrivals(limit))]

    async def queued(self, limit: int) -> Sequence[Job]:
        """See `JobStore`."""
        return [rows.read_job(row) for row in life.in_turn(await self._read(statements.queued(limit)))]

    async def ready(self, job_id: str, brief: Brief) -> Closing:
        """See `JobStore`."""
        return await self._write("ready", lambda conn: life.ready(conn, job_id, brief, self._moment()))

    async def refuse(self, job_id: str, fault: Fault) -> Closing:
        """See `JobStore`."""
        return await self._write("refuse", lambda conn: life.refuse(conn, job_id, fault, self._moment()))

    async def withdraw(self, tenant: str, job_id: str) -> bool:
        """See `JobStore`."""
        return await self._write("cancel", lambda conn: life.withdraw(conn, tenant, job_id, self._moment()))

    async def cancel(self, tenant: str, job_id: str) -> Job | None:
        """See `JobStore`."""
        return await self._write("cancel", lambda conn: life.cancel(conn, tenant, job_id, self._moment()))

    # leases

    async def news(self, worker: str, *, room: int, seconds: float) -> News:
        """See `JobStore`. If the poll is given up while a claim is on its way, the claim is given back."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with self._bells.at_news(worker) as bell:
            while True:
                bell.clear()
                leases = await self._claim(worker, room) if room > 0 else ()
                cancelled = self._bells.take_dropped(worker)
                left = end - loop.time()
                if leases or cancelled or left <= 0:
                    return News(leases, cancelled)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _LOOK_AGAIN)):
                        await bell.wait()
                # What was cancelled meanwhile is told at once: a claim would wait for the commits before it.
                if cancelled := self._bells.take_dropped(worker):
                    return News((), cancelled)

    async def _claim(self, worker: str, room: int) -> tuple[Lease, ...]:
        answer = self._put("claim", lambda conn: life.claim(conn, worker, room, self._moment()), synced=False)
        try:
            return (await asyncio.shield(answer)).value
        except asyncio.CancelledError:
            answer.add_done_callback(self._give_back)
            raise

    def _give_back(self, answer: asyncio.Future[Outcome[tuple[Lease, ...]]]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return
        for lease in answer.result().value:
            with suppress(Unavailable):  # closing: the lease lapses by itself
                self._put("release", self._releasing(lease.token, crashed=False))

    def _releasing(self, token: str, *, crashed: bool) -> Callable[[Connection], Outcome[Closing]]:
        return lambda conn: life.release(conn, token, self._moment(), crashed=crashed)

    async def beat(self, worker: str, beats: Sequence[Beat]) -> tuple[str, ...]:
        """See `JobStore`."""
        if not beats:
            return ()
        return await self._write(
            "beat", lambda conn: life.beat(conn, worker, beats, self._moment()), synced=False
        )

    async def succeed(
        self,
        token: str,
        images: Sequence[Image],
        lost: Mapping[int, Fault] | None = None,
        said: Said | None = None,
    ) -> Closing:
        """See `JobStore`."""
        result = life.Result(tuple(images), lost or {}, said or Said())
        return await self._write("succeed", lambda conn: life.succeed(conn, token, result, self._moment()))

    async def fail(self, token: str, fault: Fault) -> Closing:
        """See `JobStore`."""
        return await self._write("fail", lambda conn: life.fail(conn, token, fault, self._moment()))

    async def release(self, token: str, *, crashed: bool = False) -> Closing:
        """See `JobStore`."""
        return await self._write("release", self._releasing(token, crashed=crashed))

    async def bury(self, worker: str, *, crashed: bool) -> int:
        """A worker is known to be dead: release all it held at once instead of waiting for the leases to lapse.
        Answers how many; not in the port, for whoever starts and watches workers beside the store."""
        return await self._write(
            "release", lambda conn: life.bury(conn, worker, self._moment(), crashed=crashed)
        )

    async def leased(self, token: str) -> Job | None:
        """See `JobStore`."""
        return await self._read_job(statements.find_held(token))

    # keys and accounts

    async def add_key(self, key: ApiKey) -> None:
        """See `JobStore`. Raises ValueError if there is a key of that id."""

        def work(conn: Connection) -> Outcome[None]:
            if conn.execute(*statements.find_api_key(key.key_id)).first() is not None:
                raise ValueError(f"there is a key {key.key_id}")
            conn.execute(*statements.add_key(rows.key_values(key)))
            life.open_account(conn, key.tenant)
            return Outcome(None)

        await self._write("key", work)

    async def key(self, key_id: str) -> ApiKey | None:
        """See `JobStore`."""
        row = await self._read(statements.find_api_key(key_id))
        return rows.read_key(row[0]) if row else None

    async def keys(self) -> Sequence[ApiKey]:
        """See `JobStore`."""
        return [rows.read_key(row) for row in await self._read(statements.all_api_keys())]

    async def has_workspace(self, tenant: str, workspace: str) -> bool:
        """See `JobStore`."""
        return bool(await self._read(statements.find_workspace(tenant, workspace)))

    async def revoke_key(self, key_id: str) -> bool:
        """See `JobStore`."""

        def work(conn: Connection) -> Outcome[bool]:
            return Outcome(conn.execute(*statements.revoke(key_id, self._clock.wall())).rowcount > 0)

        return await self._write("key", work)

    async def account(self, tenant: str) -> Account | None:
        """See `JobStore`."""
        row = await self._read(statements.find_account(tenant))
        return rows.read_account(row[0]) if row else None

    async def set_quota(self, tenant: str, quota: int | None) -> None:
        """See `JobStore`. A quota below what is held and used already becomes that sum: nothing more can be had."""

        def work(conn: Connection) -> Outcome[None]:
            life.open_account(conn, tenant)
            statement = (
                statements.lift_quota(tenant) if quota is None else statements.set_quota(tenant, quota)
            )
            conn.execute(*statement)
            return Outcome(None)

        await self._write("key", work)

    # uploads

    async def keep_upload(self, upload: Upload, most: int) -> Kept:
        """See `JobStore`."""
        return await self._write("upload", lambda conn: Outcome(uploads.keep(conn, upload, most)))

    async def upload(self, tenant: str, key: str) -> Upload | None:
        """See `JobStore`."""
        row = await self._read(uploads.find(tenant, key, self._clock.wall()))
        return uploads.read(row[0]) if row else None

    async def uploaded(self, tenant: str) -> int:
        """See `JobStore`."""
        return int(await self._ask(lambda conn: conn.execute(*uploads.weight(tenant)).scalar_one()))

    # upkeep

    async def sweep(self) -> Iterable[str]:
        """See `JobStore`. Call it every few seconds; it works in small transactions."""
        while await self._write("give_up", lambda conn: life.give_up(conn, self._moment())):
            pass
        unnamed: list[str] = []
        more = True
        while more:
            more, keys = await self._write("purge", lambda conn: life.purge(conn, self._moment()))
            unnamed += keys
        return unnamed

    async def unnamed(self, keys: Sequence[str]) -> list[str]:
        """See `JobStore`. Results take a look at every job within its life; inputs do not."""
        named = {row["key"] for row in await self._read(statements.named_inputs(list(keys)))}
        if not all(map(is_input, keys)):
            named.update(await self.objects())
            named.update(row["blob"] for row in await self._read(uploads.named(list(keys))))
        return [key for key in keys if key not in named]

    async def objects(self) -> list[str]:
        """The blob keys of all results that a link may still ask for, for the auditor's "objects missing"."""
        found = await self._read(statements.results_within_life(self._clock.wall()))
        return [image.key for row in found for image in rows.read_images(row["result"])]

    async def audit(self) -> dict[str, int]:
        """See `JobStore`."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        statement = statements.audit(now - _SLACK, wall - _SLACK, self._rules.life_seconds)
        return dict((await self._read(statement))[0])

    async def figures(self) -> dict[str, int]:
        """Jobs by state, `queue_length` (accepted and queued) and `oldest_queued_seconds`."""
        found = {row["state"]: row for row in await self._read(statements.figures())}
        jobs = {state.value: int(found[state]["jobs"]) if state in found else 0 for state in State}
        waiting = [found[state]["oldest"] for state in ("accepted", "queued") if state in found]
        oldest = max(0, int(self._clock.wall() - min(waiting))) if waiting else 0
        return {
            **jobs,
            "queue_length": jobs["accepted"] + jobs["queued"],
            "oldest_queued_seconds": oldest,
        }

    # the two ways to the file

    def _moment(self) -> Moment:
        return Moment(self._clock.monotonic(), self._clock.wall(), self._run, self._rules)

    def _put(
        self, label: str, work: Callable[[Connection], Outcome[T]], *, synced: bool = True
    ) -> asyncio.Future[Outcome[T]]:
        if self._writer is None:
            raise Unavailable
        return self._writer.put(label, work, synced=synced)

    async def _write(self, label: str, work: Callable[[Connection], Outcome[T]], *, synced: bool = True) -> T:
        return (await self._put(label, work, synced=synced)).value

    async def _read(self, statement: Question) -> list[RowMapping]:
        return await self._ask(lambda conn: list(conn.execute(*statement).mappings()))

    async def _ask(self, question: Callable[[Connection], T]) -> T:
        """Ask in a reader's thread."""
        if self._writer is None:
            raise Unavailable
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._asked, question)

    def _asked(self, question: Callable[[Connection], T]) -> T:
        with self._read_engine.connect() as connection:
            return question(connection)

    async def _read_job(self, statement: Question) -> Job | None:
        row = await self._read(statement)
        return rows.read_job(row[0]) if row else None


def _engine(path: Path, *, read_only: bool) -> Engine:
    """Connections without Python's implicit transactions: every BEGIN is ours, and IMMEDIATE."""
    address = f"file:{quote(str(path.absolute()))}?mode={'ro' if read_only else 'rwc'}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)

    size = _READERS if read_only else 1
    return create_engine(
        "sqlite+pysqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
    )


def library() -> tuple[str, str | None]:
    """The version of SQLite in use, and what an operator should know of it."""
    return sqlite3.sqlite_version, version_warning(sqlite3.sqlite_version_info)


def version_warning(version: tuple[int, ...]) -> str | None:
    """The sentence for start and health when SQLite is older than `SAFE_VERSION`."""
    if version >= SAFE_VERSION:
        return None
    have, safe = (".".join(str(part) for part in parts) for parts in (version, SAFE_VERSION))
    return (
        f"SQLite {have} is older than {safe}: it can damage a database that two connections write to. "
        "This server writes with one, so leave the file to it."
    )


def boot_id() -> str:
    """What tells one boot of this machine from another. Where the system does not say, every start counts as a boot:
    then leases lapse at a restart, which costs a re-run and nothing else."""
    if sys.platform == "linux":
        with suppress(OSError):
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return secrets.token_hex(16)


def _no_crash(point: str) -> None:
    """Nothing happens here outside tests."""
