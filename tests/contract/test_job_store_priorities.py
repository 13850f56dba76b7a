"""Priorities: a tenant's own jobs go by them, in the places that the tenant has, and nobody else notices."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from danqing.core.job import Lease
from danqing.core.keys import ApiKey
from danqing.core.ports import JobStore
from tests.contract.stores import Implementation
from tests.support.clock import VirtualClock
from tests.support.jobs import audited, draft


async def send(store: JobStore, clock: VirtualClock, tenant: str, *jobs: tuple[str, int]) -> None:
    """Submit jobs of these names and priorities, a second apart."""
    for name, priority in jobs:
        await store.submit(tenant, draft(name, rank=None, priority=priority))
        clock.advance(1)


async def claimed(store: JobStore, room: int, worker: str = "w") -> list[str]:
    return [lease.job_id for lease in (await store.news(worker, room=room, seconds=0)).leases]


async def one_by_one(store: JobStore, jobs: int) -> list[str]:
    """So many claims, each by another worker."""
    return [name for turn in range(jobs) for name in await claimed(store, 1, f"w{turn}")]


async def test_a_higher_priority_goes_first_and_equal_ones_by_age(
    store: JobStore, clock: VirtualClock
) -> None:
    await send(store, clock, "ann", ("a", 0), ("b", -1), ("c", 5), ("d", 0), ("e", 5), ("f", 10), ("g", -1))
    assert await claimed(store, 7) == ["f", "c", "e", "a", "d", "b", "g"]


async def test_a_lease_and_its_job_say_the_priority(store: JobStore, clock: VirtualClock) -> None:
    await send(store, clock, "ann", ("a", -3))
    job = await store.get("ann", "a")
    assert job is not None
    assert job.priority == -3
    (lease,) = (await store.news("w", room=1, seconds=0)).leases
    assert isinstance(lease, Lease)
    assert lease.priority == -3


async def test_priorities_take_nothing_from_another_tenant(store: JobStore, clock: VirtualClock) -> None:
    await send(store, clock, "ann", ("low-0", 0), ("low-1", 0), ("low-2", 0))
    await send(store, clock, "bob", ("bob-0", 0), ("bob-1", 0), ("bob-2", 0))
    await send(store, clock, "ann", ("high-0", 9), ("high-1", 9))
    order = await claimed(store, 8)
    assert order == ["high-0", "bob-0", "high-1", "bob-1", "low-0", "bob-2", "low-1", "low-2"]


@pytest.mark.parametrize("seed", range(6))
async def test_tenants_have_the_same_turns_with_priorities_as_without(
    seed: int, implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    """Jobs come and go while others wait; of each claim the tenant is the same, and the job is its best."""
    draw = random.Random(seed)
    async with (
        implementation.open(tmp_path / "with", clock) as some,
        implementation.open(tmp_path / "without", clock) as none,
    ):
        waiting: dict[str, tuple[str, int, int]] = {}
        for number in range(60):
            clock.advance(1)
            tenant, priority = draw.choice(["ann", "ann", "bob", "eve"]), draw.randint(-2, 2)
            await some.submit(tenant, draft(f"j{number}", rank=None, priority=priority))
            await none.submit(tenant, draft(f"j{number}", rank=None))
            waiting[f"j{number}"] = (tenant, -priority, number)
            if draw.random() < 0.7:
                (got,) = (await some.news(f"w{number}", room=1, seconds=0)).leases
                (other,) = (await none.news(f"w{number}", room=1, seconds=0)).leases
                assert got.tenant == other.tenant
                best = min(
                    (one for one in waiting.items() if one[1][0] == got.tenant), key=lambda one: one[1]
                )
                assert got.job_id == best[0]
                del waiting[got.job_id]
                await some.cancel(got.tenant, got.job_id)
                await none.cancel(other.tenant, other.job_id)


async def test_a_job_that_comes_back_keeps_its_turn(store: JobStore, clock: VirtualClock) -> None:
    await send(store, clock, "ann", ("a", 0), ("b", 0), ("c", 5))
    await send(store, clock, "bob", ("d", 0))
    (lease,) = (await store.news("w", room=1, seconds=0)).leases
    assert lease.job_id == "c"
    await store.release(lease.token)
    assert await claimed(store, 4) == ["c", "d", "a", "b"]


async def test_a_job_whose_worker_went_silent_waits_for_a_better_one(
    store: JobStore, clock: VirtualClock
) -> None:
    await send(store, clock, "ann", ("low", 0))
    assert await claimed(store, 1, "silent") == ["low"]
    clock.advance(31)
    await send(store, clock, "ann", ("high", 1), ("lower", -1))
    assert await claimed(store, 3) == ["high", "low", "lower"]
    assert (await store.news("silent", room=0, seconds=0)).cancelled


async def test_a_job_past_its_deadline_or_still_on_its_way_is_not_chosen(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("late", rank=None, priority=9, queue_seconds=0.5))
    await send(store, clock, "ann", ("low", 0), ("mid", 1))
    await store.cancel("ann", "mid")
    assert await claimed(store, 3) == ["low"]


async def test_who_waits_knows_its_place_and_the_order_is_foreseen(
    store: JobStore, clock: VirtualClock
) -> None:
    await send(store, clock, "ann", ("a", 0), ("b", -1), ("c", 5))
    await send(store, clock, "bob", ("d", 0), ("e", 3))
    await send(store, clock, "ann", ("f", 5))
    foreseen = [job.id for job in await store.queued(10)]
    owners = {"d": "bob", "e": "bob"}
    places = {name: await store.position(owners.get(name, "ann"), name) for name in "abcdef"}
    found = await claimed(store, 6)
    assert found == ["c", "e", "f", "d", "a", "b"]
    assert foreseen == found
    assert sorted(places, key=lambda name: places[name] or 0) == found
    assert sorted(places.values(), key=int) == [1, 2, 3, 4, 5, 6]  # type: ignore[arg-type]
    assert await store.position("ann", "c") is None


async def test_a_worker_full_of_one_tenant_is_given_no_better_job_of_it(
    store: JobStore, clock: VirtualClock
) -> None:
    await send(store, clock, "ann", *((f"a{number}", 0) for number in range(14)))
    assert len(await claimed(store, 16)) == 12
    await send(store, clock, "ann", ("high", 9))
    await send(store, clock, "bob", ("b", 0))
    assert await claimed(store, 4) == ["b"]
    assert await claimed(store, 3, "w2") == ["high", "a12", "a13"]
    assert await audited(store)


async def test_a_key_keeps_its_priority(store: JobStore, clock: VirtualClock) -> None:
    keys = [
        ApiKey(f"k{number}", "ann", "", b"m" * 32, clock.wall() + number, priority=number)
        for number in (0, 7)
    ]
    for key in keys:
        await store.add_key(key)
    assert await store.key("k7") == keys[1]
    assert _priorities(await store.keys()) == [0, 7]


def _priorities(keys: Iterable[ApiKey]) -> list[int]:
    return [key.priority for key in keys]
