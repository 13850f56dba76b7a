"""Negative controls: the conformance suite must turn red when a guard of the store is taken out.

Each mutant replaces a guard by one that guards nothing and runs tests of the suite by name, in this process, on a
store that has it. A control passes when every one of those tests fails. That they pass without the mutant is for the
suite itself to show; `test_the_named_tests_pass_without_a_mutant` repeats it here, so that none is red for another
reason.
"""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from danqing.core.errors import Fault
from danqing.store import statements, tables
from danqing.store.sqlite import SqliteStore
from danqing.store.tables import job
from tests.contract import test_job_store as suite
from tests.contract import test_job_store_callers as callers
from tests.contract.stores import FILE, SQLITE
from tests.support.clock import VirtualClock

Patch = pytest.MonkeyPatch
RED = (AssertionError, pytest.fail.Exception, IntegrityError, Fault)
"""How a test of the suite fails. Anything else means that the mutant is broken."""


@dataclass(frozen=True)
class Mutant:
    """`code` changes statements, `tables` the file behind them, before the store opens."""

    name: str
    tests: tuple[Callable[..., Any], ...]
    code: Callable[[Patch], None] = lambda patch: None
    tables: tuple[str, ...] = ()


def token_check_off(patch: Patch) -> None:
    """Whoever comes with a token closes what runs, whether the token holds it or not."""

    def find_held(token: str) -> Any:
        return select(job).where(job.c.state == "running").limit(1)

    def close(token: str, values: dict[str, Any]) -> Any:
        return update(job).where(job.c.state == "running")

    patch.setattr(statements, "find_held", statements.verb(find_held))
    patch.setattr(statements, "close", statements.verb(close))


def end_check_off(patch: Patch) -> None:
    """A token closes its job again and again."""

    def find_held(token: str) -> Any:
        return select(job).where(job.c.lease_token == token)

    def close(token: str, values: dict[str, Any]) -> Any:
        return update(job).where(job.c.lease_token == token)

    patch.setattr(statements, "find_held", statements.verb(find_held))
    patch.setattr(statements, "close", statements.verb(close))


def quota_check_off(patch: Patch) -> None:
    def hold(tenant: str, pictures: int) -> Any:
        table = tables.account
        return update(table).where(table.c.tenant == tenant).values(held=table.c.held + pictures)

    patch.setattr(statements, "hold", statements.verb(hold))


def tenant_check_off(patch: Patch) -> None:
    def find_job(tenant: str, job_id: str, wall: float) -> Any:
        return select(job).where(job.c.id == job_id)

    patch.setattr(statements, "find_job", statements.verb(find_job))


def key_lookup_off(patch: Patch) -> None:
    def find_key(tenant: str, idem_key: str) -> Any:
        return select(job).where(job.c.id == "")

    patch.setattr(statements, "find_key", statements.verb(find_key))


def hold_kept_at_the_end(patch: Patch) -> None:
    def unhold(tenant: str, pictures: int) -> Any:
        table = tables.account
        return update(table).where(table.c.tenant == tenant).values(held=table.c.held)

    patch.setattr(statements, "unhold", statements.verb(unhold))


def charge_forgotten(patch: Patch) -> None:
    def add_charge(values: dict[str, Any]) -> Any:
        return update(job).where(job.c.id == "").values(step=0)

    patch.setattr(statements, "add_charge", lambda values: (add_charge(values), {}))


def lapse_never_counted(patch: Patch) -> None:
    def crashes_now(run: str) -> Any:
        return job.c.crash_count + 0

    patch.setattr(statements, "crashes_now", crashes_now)
    for name in ("next_job", "worn_out"):
        patch.setattr(statements, name, statements.verb(inspect.unwrap(getattr(statements, name))))


def inputs_of_others_forgotten(patch: Patch) -> None:
    def named_inputs(keys: Any) -> Any:
        return select(tables.job_input.c.key).where(tables.job_input.c.key == "")

    patch.setattr(statements, "named_inputs", statements.verb(named_inputs))


CHARGE_WITHOUT_KEY = (
    "DROP TABLE charge",
    "CREATE TABLE charge (job_id TEXT, tenant TEXT, model TEXT, images INTEGER, amount INTEGER, created FLOAT)",
    "CREATE TRIGGER a BEFORE UPDATE ON charge BEGIN SELECT RAISE(ABORT, 'a'); END",
    "CREATE TRIGGER b BEFORE DELETE ON charge BEGIN SELECT RAISE(ABORT, 'b'); END",
)

MUTANTS = [
    Mutant(
        "token check off", (suite.test_p4_a_worker_that_lost_its_lease_cannot_close_the_job,), token_check_off
    ),
    Mutant(
        "charge key off",
        (suite.test_p3_the_tables_refuse_a_second_charge_of_a_job,),
        tables=CHARGE_WITHOUT_KEY,
    ),
    Mutant(
        "charge key off and ends repeated",
        (suite.test_p3_the_same_success_told_twice_charges_once,),
        end_check_off,
        (*CHARGE_WITHOUT_KEY, "DROP TRIGGER job_stays_ended"),
    ),
    Mutant("charge forgotten", (suite.test_p3_a_success_turns_the_hold_into_a_charge,), charge_forgotten),
    Mutant(
        "end states not final",
        (suite.test_p2_the_tables_refuse_to_revive_a_job,),
        tables=("DROP TRIGGER job_stays_ended",),
    ),
    Mutant(
        "quota check off",
        (
            suite.test_s10_of_200_submits_at_once_a_quota_of_100_admits_exactly_100,
            suite.test_the_last_picture_of_a_quota_can_be_ordered_and_the_next_cannot,
        ),
        quota_check_off,
    ),
    Mutant("tenant check off", (callers.test_p9_a_foreign_and_an_unknown_job_look_alike,), tenant_check_off),
    Mutant(
        "idempotency off",
        (
            callers.test_p5_the_same_key_and_order_find_the_same_job,
            callers.test_p5_100_submits_of_one_key_at_once_make_one_job,
        ),
        key_lookup_off,
    ),
    Mutant(
        "hold kept at the end",
        (suite.test_the_queue_has_a_limit, suite.test_p2_of_a_cancel_and_a_success_at_once_one_wins),
        hold_kept_at_the_end,
    ),
    Mutant("lapse never counted", (suite.test_two_lapses_fail_the_job,), lapse_never_counted),
    Mutant(
        "inputs of others forgotten",
        (callers.test_p8_a_job_is_gone_24_hours_after_its_end_and_its_blobs_are_named,),
        inputs_of_others_forgotten,
    ),
]
CASES = [(mutant, test) for mutant in MUTANTS for test in mutant.tests]


async def run(test: Callable[..., Any], folder: Path) -> None:
    """Give a test of the suite what it asks for, as its fixtures would."""
    clock = VirtualClock()
    wanted = inspect.signature(test).parameters
    given: dict[str, Any] = {"implementation": SQLITE, "clock": clock, "tmp_path": folder}
    if "store" not in wanted:
        await test(**{name: given[name] for name in wanted})
        return
    async with SQLITE.open(folder, clock) as store:
        await test(**{name: store if name == "store" else given[name] for name in wanted})


@pytest.mark.parametrize(
    ("mutant", "test"), CASES, ids=lambda one: getattr(one, "name", getattr(one, "__name__", ""))
)
async def test_the_suite_turns_red(
    mutant: Mutant, test: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await SqliteStore(tmp_path / FILE, VirtualClock()).open():
        pass
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        for statement in mutant.tables:
            connection.execute(statement)
    mutant.code(monkeypatch)
    with pytest.raises(RED):
        await run(test, tmp_path)


@pytest.mark.parametrize("test", dict.fromkeys(test for _, test in CASES), ids=lambda test: test.__name__)
async def test_the_named_tests_pass_without_a_mutant(test: Callable[..., Any], tmp_path: Path) -> None:
    await run(test, tmp_path)
