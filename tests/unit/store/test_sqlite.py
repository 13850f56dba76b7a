"""What SQLite is asked to do: groups, synced commits, readers that cannot write, a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError

from danqing.core.blobkeys import input_key
from danqing.core.errors import EngineFailed, QuotaExhausted, Unavailable
from danqing.core.job import Beat
from danqing.core.keys import ApiKey
from danqing.store import statements
from danqing.store.sqlite import SqliteStore, boot_id, version_warning
from tests.support.clock import VirtualClock
from tests.support.jobs import audited, claim, digest, draft, no_claim, pictures


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with await SqliteStore(tmp_path / "danqing.sqlite3", VirtualClock()).open() as opened:
        yield opened


def on_connection(store: SqliteStore, statement: str) -> list[tuple[object, ...]]:
    raw = store._connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw.execute(statement).fetchall()


async def test_submits_that_come_together_are_committed_together(store: SqliteStore) -> None:
    before = store.commits
    await asyncio.gather(*(store.submit("ann", draft()) for _ in range(300)))
    groups = store.commits - before
    assert groups >= 300 / 128, "a group is at most 128"
    assert groups <= 30
    before = store.commits
    await store.submit("ann", draft())
    assert store.commits == before + 1, "and one alone does not wait for company"


async def test_a_refused_order_does_not_undo_its_neighbours(store: SqliteStore) -> None:
    await store.set_quota("poor", 0)
    key = ApiKey("k", "ann", "", b"m", 0.0)
    answers = await asyncio.gather(
        *(store.submit(tenant, draft()) for tenant in ("ann", "poor", "ann", "poor", "ann")),
        store.add_key(key),
        store.add_key(key),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [
        QuotaExhausted,
        QuotaExhausted,
        ValueError,
    ]
    assert (await store.figures())["queued"] == 3
    assert await audited(store)


async def test_submits_and_ends_are_synced_and_beats_and_claims_need_not_be(tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def note(point: str) -> None:
        label, _, at = point.partition(".")
        if at == "committing":
            ((level,),) = on_connection(watched, "PRAGMA synchronous")
            assert isinstance(level, int)
            seen[label] = level

    watched = SqliteStore(tmp_path / "danqing.sqlite3", VirtualClock(), crash=note)
    async with await watched.open():
        for _ in range(4):
            await watched.submit("ann", draft())
        first = await claim(watched)
        await watched.beat("worker-1", [Beat(first.token, 1, 8)])
        await watched.succeed(first.token, pictures(first.job_id))
        await watched.fail((await claim(watched)).token, EngineFailed())
        await watched.release((await claim(watched)).token)
        await watched.cancel("ann", (await claim(watched)).job_id)
        await watched.sweep()
        await watched.set_quota("ann", 3)
    full, normal = 2, 1
    assert {label for label, level in seen.items() if level == normal} == {"claim", "beat"}
    assert {label for label, level in seen.items() if level == full} == {
        "submit", "succeed", "fail", "release", "cancel", "give_up", "purge", "key"
    }  # fmt: skip


async def test_the_file_is_kept_as_the_rules_want(store: SqliteStore) -> None:
    assert on_connection(store, "PRAGMA journal_mode") == [("wal",)]
    assert on_connection(store, "PRAGMA integrity_check") == [("ok",)]


async def test_a_reader_cannot_write(store: SqliteStore) -> None:
    await store.submit("ann", draft())
    with store._read_engine.connect() as connection, pytest.raises(OperationalError, match="readonly"):
        connection.exec_driver_sql("DELETE FROM charge")


def plan(store: SqliteStore, question: tuple[Select[Any], dict[str, Any]]) -> str:
    """How SQLite would look for the answer."""
    statement, parameters = question
    how = {"literal_binds": True}  # lists of values are written out only so
    compiled = statement.params(parameters).compile(dialect=sqlite.dialect(), compile_kwargs=how)
    raw = store._connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    rows = raw.execute(f"EXPLAIN QUERY PLAN {compiled}").fetchall()
    return " ".join(row[3] for row in rows)


async def test_the_claim_is_one_walk_along_the_index(store: SqliteStore) -> None:
    found = plan(store, statements.next_job(1.0, "run", attempts=3, crashes=2))
    assert "USING INDEX job_open" in found
    assert "TEMP B-TREE" not in found


async def test_a_claim_beside_full_tenants_passes_none_of_their_jobs(store: SqliteStore) -> None:
    found = plan(store, statements.next_of_others(1.0, "run", attempts=3, crashes=2, without=("full",)))
    assert "SEARCH open_of USING INDEX job_turns (tenant>?)" in found
    assert "SEARCH job USING INDEX job_turns (tenant=?)" in found
    assert "SCAN job" not in found
    assert "job_open" not in found


async def test_what_a_worker_holds_is_found_by_its_name(store: SqliteStore) -> None:
    assert plan(store, statements.find_worker("w1")) == "SEARCH job USING INDEX job_held (lease_worker=?)"


async def test_a_tenant_s_first_is_found_at_the_head_of_its_line(store: SqliteStore) -> None:
    found = plan(store, statements.first_own("ann", 1.0))
    assert "SEARCH job USING INDEX job_line (tenant=? AND priority=?)" in found
    assert "SEARCH other USING INDEX job_line (tenant=?)" in found
    assert "SCAN" not in found
    assert "TEMP B-TREE" not in found


async def test_the_rank_of_a_tenant_s_last_is_found_at_once(store: SqliteStore) -> None:
    assert "SEARCH job USING INDEX job_turns (tenant=?)" in plan(store, statements.back("ann"))


async def test_a_place_in_the_queue_is_counted_along_the_index(store: SqliteStore) -> None:
    found = plan(store, statements.position("ann", "job-a"))
    assert "SEARCH job USING INDEX job_open (rank<?)" in found
    assert "SCAN" not in found


async def test_a_full_disk_refuses_orders_keeps_answering_and_heals_by_itself(store: SqliteStore) -> None:
    first = (await store.submit("ann", draft())).job
    ((pages,),) = on_connection(store, "PRAGMA page_count")
    on_connection(store, f"PRAGMA max_page_count = {pages}")
    refused = await asyncio.gather(
        *(store.submit("ann", draft()) for _ in range(200)), return_exceptions=True
    )
    kept = [answer for answer in refused if not isinstance(answer, BaseException)]
    assert {type(answer) for answer in refused if isinstance(answer, BaseException)} == {Unavailable}
    assert await store.get("ann", first.id) == first
    on_connection(store, "PRAGMA max_page_count = 1000000")
    await store.submit("ann", draft())
    assert (await store.figures())["queued"] == len(kept) + 2
    assert await audited(store)


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "danqing.sqlite3", VirtualClock())
    with pytest.raises(Unavailable):
        await store.submit("ann", draft())
    await store.open()
    waiting = [asyncio.create_task(store.submit("ann", draft())) for _ in range(20)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*waiting)
    await store.close()
    for call in (store.get("ann", "job"), store.submit("ann", draft()), store.sweep()):
        with pytest.raises(Unavailable):
            await call


async def test_what_a_dead_worker_held_is_free_at_once(store: SqliteStore) -> None:
    for _ in range(3):
        await store.submit("ann", draft())
    leases = (await store.news("dead", room=2, seconds=0)).leases
    other = await claim(store, "alive")
    assert await store.bury("dead", crashed=True) == 2
    assert await store.bury("dead", crashed=True) == 0
    again = (await store.news("alive", room=5, seconds=0)).leases
    assert [lease.job_id for lease in again] == [lease.job_id for lease in leases]
    assert [lease.attempt for lease in again] == [2, 2]
    assert await no_claim(store)
    assert await store.leased(other.token) is not None


async def test_blobs_that_no_job_names_are_told_from_those_in_use(store: SqliteStore) -> None:
    await store.submit("ann", draft("job-a", inputs=("one",)))
    await store.succeed((await claim(store)).token, pictures("job-a"))
    result, lost = (pictures(job_id)[0].key for job_id in ("job-a", "job-lost"))
    named, unnamed = (input_key("ann", digest(name)) for name in ("one", "two"))
    assert await store.objects() == [result]
    assert await store.unnamed([result, lost, named, unnamed]) == [lost, unnamed]


def test_an_old_sqlite_is_warned_of_and_a_current_one_is_not() -> None:
    assert version_warning((3, 51, 3)) is None
    assert version_warning((3, 52, 0)) is None
    warning = version_warning((3, 51, 2))
    assert warning is not None
    assert "3.51.2" in warning


def test_a_boot_has_one_name() -> None:
    assert boot_id()
