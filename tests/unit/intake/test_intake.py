"""May this caller use this model here: every refusal, in the contract's order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from danqing.catalogue.loader import load
from danqing.core.errors import (
    AsyncRefused,
    Fault,
    ModelDenied,
    QuotaExhausted,
    RateExceeded,
    SyncRefused,
    Unavailable,
    UnknownModel,
    WrongEndpoint,
)
from danqing.core.order import Order
from danqing.intake.inputs import Inputs
from danqing.intake.intake import Intake, Terms, Ticket
from danqing.intake.keys import Caller, Keys
from danqing.store.sqlite import SqliteStore
from tests.support.clock import VirtualClock

HERE = "dashscope/multimodal-generation"
THERE = "dashscope/text2image"
ANN = Caller("ann", "00000000")


class NoInputs:
    """For orders without pictures."""

    async def take(self, tenant: str, sources: Any, rule: Any, *, prompt: str, model: str = "") -> tuple[()]:
        assert not sources
        return ()

    async def settle(self, tenant: str, order: Order, rule: Any) -> tuple[Order, None]:
        return order, None


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "danqing.sqlite3", clock) as opened:
        yield opened


def intake_of(store: SqliteStore, clock: VirtualClock, **terms: Any) -> Intake:
    keys = Keys(store, pepper=bytes(32), clock=clock)
    inputs = cast("Inputs", NoInputs())
    return Intake(store=store, inputs=inputs, keys=keys, models=load(), clock=clock, terms=Terms(**terms))


@pytest.fixture
def intake(store: SqliteStore, clock: VirtualClock) -> Intake:
    return intake_of(store, clock)


async def test_a_model_is_found_by_its_name(intake: Intake) -> None:
    assert (await intake.may(ANN, "qwen-image", HERE, "sync")).name == "qwen-image"


@pytest.mark.parametrize(
    ("name", "route", "mode", "fault"),
    [
        ("nothing", THERE, "async", UnknownModel),
        ("qwen-image-max", THERE, "async", WrongEndpoint),
        ("qwen-image", HERE, "async", AsyncRefused),
        ("qwen-image", THERE, "sync", SyncRefused),
    ],
)
async def test_a_model_is_served_where_the_catalogue_says(
    intake: Intake, name: str, route: str, mode: str, fault: type[Fault]
) -> None:
    with pytest.raises(fault):
        await intake.may(ANN, name, route, mode)


async def test_a_key_without_the_scope_makes_no_pictures(intake: Intake) -> None:
    with pytest.raises(ModelDenied):
        await intake.may(Caller("ann", "00000000", ("usage",)), "qwen-image", HERE, "sync")


async def test_a_used_up_quota_is_told_before_pictures_are_fetched(
    intake: Intake, store: SqliteStore
) -> None:
    await store.set_quota("ann", 0)
    with pytest.raises(QuotaExhausted):
        await intake.may(ANN, "qwen-image", HERE, "sync")
    await store.set_quota("ann", None)
    await intake.may(ANN, "qwen-image", HERE, "sync")


async def test_rates_hold_by_key_and_model_once_switched_on(store: SqliteStore, clock: VirtualClock) -> None:
    intake = intake_of(store, clock, rates=True)
    for _ in range(2):
        await intake.may(ANN, "qwen-image-max", HERE, "sync")
    with pytest.raises(RateExceeded) as caught:
        await intake.may(ANN, "qwen-image-max", HERE, "sync")
    assert caught.value.after == 30.0
    await intake.may(ANN, "qwen-image", HERE, "sync")
    await intake.may(Caller("ann", "11111111"), "qwen-image-max", HERE, "sync")
    clock.advance(30)
    await intake.may(ANN, "qwen-image-max", HERE, "sync")


async def test_a_stopping_service_takes_no_order(intake: Intake) -> None:
    intake.close()
    assert intake.closing
    model = load()["qwen-image"]
    with pytest.raises(Unavailable):
        await intake.submit(ANN, Order("qwen-image", "p"), model, Ticket("id", HERE, 0.0))


async def test_a_job_has_the_priority_of_its_caller_s_key(intake: Intake, store: SqliteStore) -> None:
    fast = Caller("ann", "11111111", priority=4)
    for place, (caller, name) in enumerate(
        [(ANN, "qwen-image"), (fast, "qwen-image"), (fast, "wan2.2-t2i-flash")]
    ):
        ticket = Ticket(f"id-{place}", HERE, 0.0, request_id="r")
        take = intake.accept if place == 2 else intake.submit
        await take(caller, Order(name, "p"), load()[name], ticket)
    jobs = [await store.get("ann", f"id-{place}") for place in range(3)]
    assert [job.priority for job in jobs if job is not None] == [0, 4, 4]


async def test_an_order_becomes_a_job_of_the_ticket_s_id(intake: Intake, clock: VirtualClock) -> None:
    model = load()["qwen-image"]
    job = await intake.submit(ANN, Order("qwen-image", "p"), model, Ticket("id-1", HERE, clock.monotonic()))
    assert (job.id, job.tenant, job.api, str(job.brief.size)) == ("id-1", "ann", HERE, "1664×928")
    assert await intake.get(ANN, "id-1") == job
    assert await intake.get(Caller("bob", "11111111"), "id-1") is None
