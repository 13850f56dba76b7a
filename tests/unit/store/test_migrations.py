"""The steps make the tables that `tables` describes, once, and whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from danqing.store import migrations
from danqing.store.rows import brief_text
from danqing.store.sqlite import SqliteStore, _engine
from danqing.store.tables import metadata
from tests.support.clock import VirtualClock
from tests.support.jobs import audited, draft

ROOT = Path(__file__).parents[3]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = _engine(tmp_path / "danqing.sqlite3", read_only=False)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def test_the_steps_lead_to_the_tables_that_the_statements_use(connection: Connection) -> None:
    migrations.upgrade(connection)
    assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    partial = {
        str(row[0]): str(row[1])
        for row in connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql != ''"
        )
    }
    for index in (index for table in metadata.tables.values() for index in table.indexes):
        where = index.dialect_options["sqlite"]["where"]
        assert where is None or str(where) in partial[str(index.name)]


def test_the_latest_step_is_the_head(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD
    assert migrations.current(connection) is None
    migrations.upgrade(connection)
    assert migrations.current(connection) == migrations.HEAD
    migrations.upgrade(connection)


def test_a_database_of_a_newer_version_is_refused(connection: Connection) -> None:
    migrations.upgrade(connection)
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(migrations.Unusable, match="another version"):
        migrations.upgrade(connection)


async def test_what_waited_before_there_were_priorities_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "danqing.sqlite3"
    engine = _engine(path, read_only=False)
    columns = "id, tenant, api, model, brief, state, rank, deadline, queue_seconds, run_seconds, cost"
    jobs = [
        ("c", "ann", "queued", 2.0, 5.0),
        ("a", "ann", "queued", 1.0, 6.0),
        ("b", "bob", "queued", 1.0, 7.0),
    ]
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        assert migrations.current(connection) == "0004"
        for name, tenant, state, rank, created in jobs:
            row = (
                name,
                tenant,
                "x",
                "m",
                brief_text(draft().brief),
                state,
                rank,
                9e9,
                9e9,
                60.0,
                1.0,
                1,
                created,
            )
            marks = ", ".join("?" * len(row))
            connection.exec_driver_sql(
                f"INSERT INTO job ({columns}, hold_images, created) VALUES ({marks})", row
            )
        connection.exec_driver_sql(
            "INSERT INTO account (tenant, quota, held) VALUES ('ann', 9, 2), ('bob', 9, 1)"
        )
        connection.exec_driver_sql(
            "INSERT INTO api_key (key_id, tenant, name, mac, scopes, created) VALUES ('k', 'ann', '', x'6d', '[]', 1)"
        )
        connection.exec_driver_sql("COMMIT")
    engine.dispose()
    async with await SqliteStore(path, VirtualClock()).open() as store:
        (key,) = await store.keys()
        assert key.priority == 0
        await store.submit("ann", draft("new", rank=None, priority=1))
        leases = (await store.news("w", room=4, seconds=0)).leases
        assert [(lease.job_id, lease.priority) for lease in leases] == [
            ("new", 1),
            ("b", 0),
            ("a", 0),
            ("c", 0),
        ]
        assert await audited(store)


async def test_a_store_that_cannot_be_opened_gives_the_folder_back(tmp_path: Path) -> None:
    path = tmp_path / "danqing.sqlite3"
    path.write_bytes(
        b"this is not a database, but it is long enough to be asked whether it might be one" * 20
    )
    for _ in range(2):
        with pytest.raises(migrations.Unusable, match="not a database"):
            await SqliteStore(path, VirtualClock()).open()


def test_k15_a_death_in_the_middle_of_a_step_leaves_nothing_and_the_next_start_does_it_all(
    tmp_path: Path,
) -> None:
    path = tmp_path / "danqing.sqlite3"
    code = f"""
import os, signal
from pathlib import Path
from danqing.store import migrations
from danqing.store.sqlite import _engine
connection = _engine(Path({str(path)!r}), read_only=False).connect()
connection.exec_driver_sql("PRAGMA journal_mode = WAL")
connection.exec_driver_sql("PRAGMA cache_size = 1")
connection.exec_driver_sql("BEGIN IMMEDIATE")
migrations.upgrade(connection)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    died = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    engine = _engine(path, read_only=False)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
        migrations.upgrade(connection)
        assert migrations.current(connection) == migrations.HEAD
    engine.dispose()
