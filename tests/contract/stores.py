"""The job stores that the conformance suite runs against: SQLite now, PostgreSQL beside it later."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.core.ports import Clock
from danqing.store.life import Rules
from danqing.store.sqlite import SqliteStore

FILE = "danqing.sqlite3"


@asynccontextmanager
async def sqlite_store(folder: Path, clock: Clock, **options: Any) -> AsyncIterator[SqliteStore]:
    async with await SqliteStore(folder / FILE, clock, **options).open() as store:
        yield store


def sqlite_execute(folder: Path, statement: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


@dataclass(frozen=True)
class Implementation:
    """`open` is a store on a folder (kept between openings); `execute` runs SQL behind the store's back."""

    name: str
    open: Callable[..., Any]
    execute: Callable[..., list[Any]]
    refusal: type[Exception]


SQLITE = Implementation("sqlite", sqlite_store, sqlite_execute, sqlite3.IntegrityError)
IMPLEMENTATIONS = [SQLITE]

__all__ = ["IMPLEMENTATIONS", "SQLITE", "Implementation", "Rules"]
