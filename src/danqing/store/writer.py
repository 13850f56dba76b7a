"""The one thread that writes: a queue of commands, committed in groups. Knows SQLite's transactions, no table.

A commit takes whatever was queued while the last one ran and never waits for company. Each command has a savepoint
of its own, so that one refused order does not undo its neighbours; nobody is answered before the commit is synced,
unless every command of the group may be lost (claims and beats: losing one is only a re-run).
"""

from __future__ import annotations

import asyncio
import errno
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from danqing.core.errors import Unavailable
from danqing.store.life import Outcome

T = TypeVar("T")
Hear = Callable[[Outcome[Any]], None]

POINTS = ("prepared", "committing", "committed")
"""Where a crash is told apart, per command: its savepoint is released; the commit is next; it is done, not answered."""

_OUT_OF_ORDER = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM,
                 sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY}  # fmt: skip


@dataclass(slots=True)
class Command(Generic[T]):
    """One piece of work. `work` runs in the writer thread; `answer` belongs to the loop that asked."""

    label: str
    work: Callable[[Connection], Outcome[T]]
    answer: asyncio.Future[Outcome[T]]
    synced: bool = True
    outcome: Outcome[T] | None = None
    error: BaseException | None = field(default=None)


class Writer:
    """Owns the writing connection from `start` to `stop`. `put` is called on the loop; `hear` runs there too, once for
    each committed outcome and before its caller is answered."""

    def __init__(
        self, connection: Connection, hear: Hear, *, batch: int, crash: Callable[[str], None]
    ) -> None:
        self._connection = connection
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        self._raw = raw
        self._hear = hear
        self._batch = batch
        self._crash = crash
        self._queue: queue.SimpleQueue[Command[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._synced: bool | None = None
        self._open = False
        self.commits = 0
        """Groups committed so far; with the commands counted, the size of a group."""

    def start(self) -> None:
        """Begin to take commands."""
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def put(
        self, label: str, work: Callable[[Connection], Outcome[T]], *, synced: bool = True
    ) -> asyncio.Future[Outcome[T]]:
        """Queue a command. Raises Unavailable once stopping."""
        if not self._open or not self._thread.is_alive():
            raise Unavailable
        answer: asyncio.Future[Outcome[T]] = self._loop.create_future()
        self._queue.put(Command(label, work, answer, synced))
        return answer

    def stop(self) -> None:
        """Finish what is queued, then end the thread. Blocks; call it off the loop."""
        self._open = False
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            self._commit(group)
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(self._deliver, group)

    def _next_group(self) -> list[Command[Any]] | None:
        """Everything queued by now, at least one; None when told to stop."""
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < self._batch:
            try:
                command = self._queue.get_nowait()
            except queue.Empty:
                break
            if command is None:
                self._queue.put(None)
                break
            group.append(command)
        return group

    def _commit(self, group: list[Command[Any]]) -> None:
        try:
            self._sync(any(command.synced for command in group))
            self._sql("BEGIN IMMEDIATE")
            for command in group:
                self._perform(command)
            self._tell("committing", group)
            self._sql("COMMIT")
        except (DBAPIError, sqlite3.Error) as error:
            self._undo(group, error)
        else:
            self.commits += 1
            self._tell("committed", group)

    def _perform(self, command: Command[Any]) -> None:
        self._sql("SAVEPOINT command")
        try:
            command.outcome = command.work(self._connection)
        except Exception as error:  # boundary: a command's error belongs to the caller who waits for it
            if _group_is_lost(error, self._raw):
                raise
            command.error = error
            self._sql("ROLLBACK TO command")
        self._sql("RELEASE command")
        self._crash(f"{command.label}.prepared")

    def _undo(self, group: list[Command[Any]], error: DBAPIError | sqlite3.Error) -> None:
        """Nothing of the group was kept; everyone in it is told the same."""
        if self._raw.in_transaction:
            with suppress(sqlite3.Error):
                self._sql("ROLLBACK")
        fault = Unavailable() if _out_of_order(error) else error
        for command in group:
            command.outcome = None
            command.error = fault if command.error is None else command.error

    def _sync(self, synced: bool) -> None:
        if synced != self._synced:
            self._sql(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._synced = synced

    def _sql(self, statement: str) -> None:
        self._raw.execute(
            statement
        )  # past SQLAlchemy, which adds nothing to these and takes ten times as long

    def _tell(self, point: str, group: list[Command[Any]]) -> None:
        for label in dict.fromkeys(command.label for command in group):
            self._crash(f"{label}.{point}")

    def _deliver(self, group: list[Command[Any]]) -> None:
        for command in group:
            if command.outcome is not None:
                self._hear(command.outcome)
        for command in group:
            if command.answer.done():
                continue
            if command.error is not None:
                command.answer.set_exception(command.error)
            elif command.outcome is not None:
                command.answer.set_result(command.outcome)


def _out_of_order(error: BaseException) -> bool:
    """Whether the disk or the file is to blame: the service cannot take work now, and may again later."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, OSError):
        return cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
    code = getattr(cause, "sqlite_errorcode", None)  # absent where the driver itself refuses
    return code is not None and code & 0xFF in _OUT_OF_ORDER


def _group_is_lost(error: BaseException, raw: sqlite3.Connection) -> bool:
    """SQLite ends the whole transaction by itself on some errors; no savepoint helps then."""
    return isinstance(error, DBAPIError | sqlite3.Error) and (_out_of_order(error) or not raw.in_transaction)
