"""Ends foretold by the queue: what goes before counts, workers share it, and what became of it teaches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from danqing.core.job import Job
from danqing.lease.messages import Beats, Claim, End, Outcome, Pulse
from danqing.lease.outlook import EVERY
from tests.support.clock import VirtualClock
from tests.support.lease_place import Place, hello, lease_place, raster


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def place(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Place]:
    async with lease_place(tmp_path, clock=clock) as made:
        yield made


async def taught(place: Place, clock: VirtualClock, seconds: float = 10.0) -> None:
    """One job has ended on worker w1, after so many seconds."""
    job = await place.submit()
    news = await place.desk.claim(Claim(hello("w1"), 1, 0.0))
    clock.advance(seconds)
    token = news.leases[0].token
    await place.desk.image(token, 0, raster("done").pack())
    await place.desk.end(End(token, Outcome.SUCCEEDED, seconds=seconds, wall=seconds))
    assert (await place.job(job, 0)).state == "succeeded"
    clock.advance(EVERY)


async def test_nothing_is_foretold_before_anything_ended_or_without_a_worker(place: Place) -> None:
    job = await place.submit()
    assert await place.desk.outlook.left(job) is None
    await place.desk.claim(Claim(hello("w1"), 0, 0.0))
    assert await place.desk.outlook.left(job) is None


async def test_a_job_that_waits_is_foretold_after_those_before_it(place: Place, clock: VirtualClock) -> None:
    await taught(place, clock)
    jobs = [await place.submit() for _ in range(3)]
    lefts = [await place.desk.outlook.left(job) for job in jobs]
    assert lefts == pytest.approx([10.0, 20.0, 30.0])
    clock.advance(EVERY / 2)
    assert await place.desk.outlook.left(jobs[0]) == pytest.approx(10.0 - EVERY / 2)
    assert await place.desk.outlook.left("unknown") is None


async def test_workers_share_what_waits_and_what_they_hold_goes_first(
    place: Place, clock: VirtualClock
) -> None:
    await taught(place, clock)
    held = await place.submit()
    news = await place.desk.claim(Claim(hello("w1"), 1, 0.0))
    assert [lease.job_id for lease in news.leases] == [held]
    await place.desk.beat(Beats("w1", (Pulse(news.leases[0].token, 2, 4, 5.0),)))
    await place.desk.claim(Claim(hello("w2"), 0, 0.0))
    first, second = await place.submit(), await place.submit()
    assert await place.desk.outlook.left(first) == pytest.approx(10.0)
    assert await place.desk.outlook.left(second) == pytest.approx(15.0)


async def test_priorities_are_foreseen_in_the_queue_and_on_a_worker(
    place: Place, clock: VirtualClock
) -> None:
    await taught(place, clock)
    low = await place.submit(rank=None)
    held = (await place.desk.claim(Claim(hello("w1"), 1, 0.0))).leases[0]
    assert held.job_id == low
    mid = await place.submit(rank=None)
    high = await place.submit(rank=None, priority=3)
    assert [await place.desk.outlook.left(job) for job in (high, low, mid)] == pytest.approx(
        [10.0, 20.0, 30.0]
    )


async def test_what_becomes_of_what_was_foretold_is_allowed_for(place: Place, clock: VirtualClock) -> None:
    await taught(place, clock)
    for _ in range(30):
        job = await place.submit()
        left = await place.desk.outlook.left(job)
        assert left is not None
        news = await place.desk.claim(Claim(hello("w1"), 1, 0.0))
        clock.advance(12.0)
        token = news.leases[0].token
        await place.desk.image(token, 0, raster("done").pack())
        await place.desk.end(End(token, Outcome.SUCCEEDED, seconds=10.0, wall=12.0))
        clock.advance(EVERY)
    assert place.desk.outlook.allowance == pytest.approx(1.16, abs=0.03)
    assert await place.audited()


async def test_many_who_ask_at_once_share_one_look(
    place: Place, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await taught(place, clock)
    job, looked = await place.submit(), 0
    ask = place.store.queued

    async def queued(limit: int) -> Sequence[Job]:
        nonlocal looked
        looked += 1
        return await ask(limit)

    monkeypatch.setattr(place.store, "queued", queued)
    lefts = await asyncio.gather(*(place.desk.outlook.left(job) for _ in range(50)))
    assert lefts == pytest.approx([10.0] * 50)
    assert looked == 1


async def test_of_a_long_queue_only_the_front_is_foretold(place: Place, clock: VirtualClock) -> None:
    await taught(place, clock)
    jobs = [await place.submit() for _ in range(300)]
    assert await place.desk.outlook.left(jobs[0]) is not None
    assert await place.desk.outlook.left(jobs[-1]) is None
