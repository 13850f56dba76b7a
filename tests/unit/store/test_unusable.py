"""A file that is not this version's database stops the start with words, and gives the folder back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from danqing.store.migrations import Unusable
from danqing.store.sqlite import SqliteStore
from tests.support.clock import VirtualClock


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "danqing.sqlite3"
    path.write_bytes(b"a letter, not a database. " * 100)
    with pytest.raises(Unusable, match=r"danqing\.sqlite3"):
        await SqliteStore(path, VirtualClock()).open()
    path.unlink()
    async with SqliteStore(path, VirtualClock()):
        pass


async def test_a_database_of_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "danqing.sqlite3"
    async with SqliteStore(path, VirtualClock()):
        pass
    other = sqlite3.connect(path)
    other.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    other.commit()
    other.close()
    with pytest.raises(Unusable, match="another version"):
        await SqliteStore(path, VirtualClock()).open()
