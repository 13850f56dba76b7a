"""What every job store promises its callers: P5 idempotency, P7 order of news, P8 24 hours, P9 blind tenants; keys.

The other promises are in `test_job_store.py`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from danqing.core.blobkeys import input_key
from danqing.core.errors import (
    InputUndecodable,
    QuotaExhausted,
    SameKeyOtherOrder,
)
from danqing.core.job import Beat, State
from danqing.core.keys import ApiKey
from danqing.core.ports import JobStore
from tests.contract.stores import Implementation, Rules
from tests.support.clock import VirtualClock
from tests.support.jobs import audited, claim, digest, draft, pictures

DAY = 24 * 3600.0
LEASE = 30.0


# the queue


async def test_a_waiting_job_knows_its_place_and_only_its_own_tenant_is_told(
    store: JobStore, clock: VirtualClock
) -> None:
    for number, rank in enumerate([3.0, 1.0, 2.0, 2.0]):
        clock.advance(1.0)
        await store.submit("ann", draft(f"job-{number}", rank=rank))
    places = [await store.position("ann", f"job-{number}") for number in range(4)]
    assert places == [4, 1, 2, 3]
    assert await store.position("bob", "job-0") is None
    assert await store.position("ann", "job-9") is None
    lease = await claim(store)
    assert lease.job_id == "job-1"
    assert [await store.position("ann", f"job-{number}") for number in range(4)] == [3, None, 1, 2]
    await store.cancel("ann", "job-2")
    assert [await store.position("ann", f"job-{number}") for number in range(4)] == [2, None, None, 1]


# P5: idempotency


async def test_p5_the_same_key_and_order_find_the_same_job(store: JobStore) -> None:
    await store.set_quota("ann", 1)
    first = await store.submit("ann", draft("job-a", idempotency_key="k", fingerprint="f"))
    again = await store.submit("ann", draft("job-b", idempotency_key="k", fingerprint="f"))
    assert (first.replayed, again.replayed) == (False, True)
    assert again.job == first.job
    assert await store.get("ann", "job-b") is None
    await store.succeed((await claim(store)).token, pictures("job-a"))
    after = await store.submit("ann", draft("job-c", idempotency_key="k", fingerprint="f"))
    assert (after.replayed, after.job.state) == (True, State.SUCCEEDED)


async def test_p5_a_replay_is_found_before_its_inputs_are_needed(
    store: JobStore, clock: VirtualClock
) -> None:
    assert await store.replay("ann", "k", "f") is None
    first = await store.submit("ann", draft("job-a", idempotency_key="k", fingerprint="f"))
    assert await store.replay("ann", "k", "f") == first.job
    assert await store.replay("bob", "k", "f") is None
    with pytest.raises(SameKeyOtherOrder):
        await store.replay("ann", "k", "g")
    await store.cancel("ann", "job-a")
    clock.advance(DAY)
    assert await store.replay("ann", "k", "g") is None


async def test_p5_the_same_key_with_another_order_is_refused(store: JobStore) -> None:
    await store.submit("ann", draft(idempotency_key="k", fingerprint="f"))
    with pytest.raises(SameKeyOtherOrder):
        await store.submit("ann", draft(idempotency_key="k", fingerprint="g"))
    assert await audited(store)


async def test_p5_a_refused_order_does_not_use_the_key_up(store: JobStore) -> None:
    await store.set_quota("ann", 0)
    with pytest.raises(QuotaExhausted):
        await store.submit("ann", draft("job-a", idempotency_key="k", fingerprint="f"))
    await store.set_quota("ann", 1)
    assert not (await store.submit("ann", draft("job-b", idempotency_key="k", fingerprint="f"))).replayed


async def test_p5_100_submits_of_one_key_at_once_make_one_job(store: JobStore) -> None:
    answers = await asyncio.gather(
        *(store.submit("ann", draft(idempotency_key="k", fingerprint="f")) for _ in range(100))
    )
    assert sum(not answer.replayed for answer in answers) == 1
    assert len({answer.job.id for answer in answers}) == 1
    assert (await store.figures())["queued"] == 1
    assert await audited(store)


@pytest.mark.parametrize("swept", [True, False])
async def test_p5_a_key_is_kept_for_24_hours_after_the_end_and_then_free(
    swept: bool, store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a", idempotency_key="k", fingerprint="f"))
    clock.advance(600)
    await store.cancel("ann", "job-a")
    clock.advance(DAY - 1)
    await store.sweep()
    assert (await store.submit("ann", draft(idempotency_key="k", fingerprint="f"))).replayed
    clock.advance(1)
    if swept:
        await store.sweep()
    assert not (await store.submit("ann", draft("job-b", idempotency_key="k", fingerprint="g"))).replayed
    await store.sweep()
    assert await store.get("ann", "job-b") is not None


# cancelling, waiting, listening


async def test_a_cancel_reaches_the_worker_at_once(store: JobStore) -> None:
    await store.submit("ann", draft("job-a"))
    lease = await claim(store)
    poll = asyncio.create_task(store.news("worker-1", room=1, seconds=20))
    other = asyncio.create_task(store.news("worker-2", room=1, seconds=0.05))
    await asyncio.sleep(0)
    job = await store.cancel("ann", "job-a")
    assert job is not None
    assert job.state is State.CANCELLED
    began = time.monotonic()
    assert (await poll).cancelled == (lease.token,)
    assert time.monotonic() - began < 0.9
    assert (await other).cancelled == ()
    assert await store.beat("worker-1", [Beat(lease.token, 1, 8)]) == (lease.token,)
    assert (await store.news("worker-1", room=0, seconds=0)).cancelled == (), "told once"


async def test_a_submit_wakes_a_waiting_worker(store: JobStore) -> None:
    poll = asyncio.create_task(store.news("worker-1", room=2, seconds=20))
    await asyncio.sleep(0)
    began = time.monotonic()
    await store.submit("ann", draft("job-a"))
    assert [lease.job_id for lease in (await poll).leases] == ["job-a"]
    assert time.monotonic() - began < 0.9


async def test_a_poll_without_news_ends_empty(store: JobStore) -> None:
    news = await store.news("worker-1", room=1, seconds=0.01)
    assert (news.leases, news.cancelled) == ((), ())


async def test_a_poll_given_up_does_not_keep_the_job_it_was_about_to_get(store: JobStore) -> None:
    polls = [asyncio.create_task(store.news(f"w{n}", room=1, seconds=20)) for n in range(5)]
    await asyncio.sleep(0)
    submits = [asyncio.create_task(store.submit("ann", draft())) for _ in range(5)]
    await asyncio.gather(*submits)
    for poll in polls:
        poll.cancel()
    given_up = await asyncio.gather(*polls, return_exceptions=True)
    kept = sum(len(news.leases) for news in given_up if not isinstance(news, BaseException))
    await store.set_quota("nobody", 1)  # every release is queued before this, and so committed by now
    await store.set_quota("nobody", 1)
    left = (await store.news("last", room=10, seconds=0)).leases
    assert len(left) == 5 - kept
    assert all(lease.attempt == 1 for lease in left)


async def test_p7_a_waiting_caller_is_told_the_end_when_it_is_committed(store: JobStore) -> None:
    await store.submit("ann", draft("job-a"))
    waits = [asyncio.create_task(store.wait("ann", "job-a", 20)) for _ in range(3)]
    lease = await claim(store)
    await store.succeed(lease.token, pictures("job-a"))
    for job in await asyncio.gather(*waits):
        assert job is not None
        assert job.state is State.SUCCEEDED
    assert await store.wait("ann", "job-a", 20) == job


@pytest.mark.parametrize("end", ["cancel", "fail", "sweep"])
async def test_every_end_wakes_who_waits(end: str, store: JobStore, clock: VirtualClock) -> None:
    await store.submit("ann", draft("job-a"))
    lease = await claim(store)
    waiting = asyncio.create_task(store.wait("ann", "job-a", 20))
    await asyncio.sleep(0.01)
    if end == "cancel":
        await store.cancel("ann", "job-a")
    elif end == "fail":
        await store.fail(lease.token, InputUndecodable("第 1 张图 \ud83d 坏了"))
    else:
        clock.advance(601)
        await store.sweep()
    job = await waiting
    assert job is not None
    assert job.state in (State.CANCELLED, State.FAILED)
    if end == "fail":
        assert isinstance(job.fault, InputUndecodable)
        assert job.fault.message == "第 1 张图 ? 坏了"


async def test_a_wait_ends_with_the_job_as_it_stands_when_the_time_is_up(store: JobStore) -> None:
    await store.submit("ann", draft("job-a"))
    for seconds in (0.0, 0.01):
        job = await store.wait("ann", "job-a", seconds)
        assert job is not None
        assert job.state is State.QUEUED
    assert await store.wait("ann", "no such job", 20) is None


# P8: 24 hours


async def test_p8_a_job_is_gone_24_hours_after_its_end_and_its_blobs_are_named(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a", count=2, inputs=("own", "shared", "own")))
    await store.succeed((await claim(store)).token, pictures("job-a", 2))
    clock.advance(10)
    await store.submit("ann", draft("job-b", inputs=("shared",)))
    await store.submit("bob", draft("job-c", inputs=("own",)))
    clock.advance(DAY - 10 - 0.5)
    assert await store.sweep() == []
    assert await store.get("ann", "job-a") is not None
    clock.advance(0.5)
    assert await store.get("ann", "job-a") is None, "gone at the moment, whether swept or not"
    keys = list(await store.sweep())
    results = [picture.key for picture in pictures("job-a", 2)]
    assert sorted(keys) == sorted([*results, input_key("ann", digest("own"))])
    assert await store.sweep() == []
    assert await audited(store), "a charge outlives its job"
    account = await store.account("ann")
    assert account is not None
    assert account.used == 2


async def test_p8_a_sweep_works_through_more_than_one_transaction(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock, rules=Rules(sweep_rows=3)) as store:
        for n in range(7):
            await store.submit("ann", draft(inputs=(f"input {n}",), queue_seconds=1.0))
        clock.advance(1)
        await store.sweep()
        assert (await store.figures())["failed"] == 7
        clock.advance(DAY)
        assert len(list(await store.sweep())) == 7
        assert (await store.figures())["failed"] == 0


# P9: blind tenants


async def test_p9_a_foreign_and_an_unknown_job_look_alike(store: JobStore) -> None:
    await store.submit("ann", draft("job-a", idempotency_key="k", fingerprint="f"))
    for job_id in ("job-a", "no such job"):
        assert await store.get("bob", job_id) is None
        assert await store.wait("bob", job_id, 20) is None
        assert await store.cancel("bob", job_id) is None
    job = await store.get("ann", "job-a")
    assert job is not None
    assert job.state is State.QUEUED
    assert not (await store.submit("bob", draft("job-b", idempotency_key="k", fingerprint="g"))).replayed


# keys, figures


async def test_keys_are_kept_listed_and_revoked(store: JobStore, clock: VirtualClock) -> None:
    first = ApiKey("k1", "ann", "laptop", b"\x00\xff" * 16, clock.wall(), None, None, ("images", "keys"))
    second = ApiKey("k2", "bob", "", b"m" * 32, clock.wall() + 1, clock.wall() + 9)
    await store.add_key(first)
    await store.add_key(second)
    assert await store.key("k1") == first
    assert await store.key("k3") is None
    assert list(await store.keys()) == [first, second]
    with pytest.raises(ValueError, match="k1"):
        await store.add_key(first)
    account = await store.account("ann")
    assert account is not None
    assert (account.quota, account.held, account.used) == (None, 0, 0)
    revoked_at = clock.wall()
    assert await store.revoke_key("k1")
    clock.advance(5)
    assert await store.revoke_key("k1")
    assert not await store.revoke_key("k3")
    revoked = await store.key("k1")
    assert revoked is not None
    assert revoked.revoked == revoked_at


async def test_figures_count_jobs_by_state_and_the_age_of_the_oldest(
    store: JobStore, clock: VirtualClock
) -> None:
    empty = await store.figures()
    assert not any(empty.values())
    for n in range(3):
        await store.submit("ann", draft(f"job-{n}"))
        clock.advance(10)
    await claim(store)
    figures = await store.figures()
    assert (figures["running"], figures["queued"], figures["queue_length"]) == (1, 2, 2)
    assert figures["oldest_queued_seconds"] == 20
    assert figures.keys() == empty.keys()


async def test_one_tenant_leaves_places_of_a_worker_to_others(store: JobStore) -> None:
    for place in range(20):
        await store.submit("flood", draft(f"flood {place}"))
    first = await store.news("w1", room=16, seconds=0)
    assert len(first.leases) == 12
    assert (await store.news("w1", room=4, seconds=0)).leases == ()
    await store.submit("single", draft("mine"))
    (mine,) = (await store.news("w1", room=4, seconds=0)).leases
    assert mine.job_id == "mine"
    await store.release(first.leases[0].token)
    assert len((await store.news("w1", room=4, seconds=0)).leases) == 1
    assert len((await store.news("w2", room=16, seconds=0)).leases) == 8
