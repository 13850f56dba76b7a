"""What every job store promises. A letter and a number in a name (p1 … p9, s10, k14) is the promise it proves:

P1 accepted means durable · P2 one end · P3 charged if and only if succeeded · P4 run at least once, effect once ·
P6 results before "succeeded" (the store keeps them with the end). What callers see is in `test_job_store_callers.py`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from danqing.core.errors import (
    EngineFailed,
    OutOfTime,
    QueueFull,
    QuotaExhausted,
)
from danqing.core.job import Beat, Closing, State
from danqing.core.ports import JobStore
from tests.contract.stores import Implementation, Rules
from tests.support.clock import VirtualClock
from tests.support.jobs import audited, claim, draft, no_claim, pictures

DAY = 24 * 3600.0
LEASE = 30.0


# P1, and what a job looks like


async def test_a_submitted_job_reads_back_as_it_was_ordered(store: JobStore, clock: VirtualClock) -> None:
    order = draft("job-a", count=2, inputs=("one", "two"), cost=3.5)
    submitted = await store.submit("ann", order)
    job = await store.get("ann", "job-a")
    assert job == submitted.job
    assert job is not None
    assert (job.brief, job.state, job.attempt, job.created) == (order.brief, State.QUEUED, 0, clock.wall())
    assert not submitted.replayed


async def test_p1_what_was_acknowledged_is_there_after_a_restart(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock) as store:
        await store.submit("ann", draft("job-a"))
        await store.submit("ann", draft("job-b"))
        lease = await claim(store)
        await store.succeed(lease.token, pictures(lease.job_id))
    async with implementation.open(tmp_path, clock) as store:
        ended = await store.get("ann", "job-a")
        assert ended is not None
        assert (ended.state, ended.images) == (State.SUCCEEDED, tuple(pictures("job-a")))
        assert (await claim(store)).job_id == "job-b"
        assert await audited(store)


async def test_jobs_are_claimed_by_rank_and_then_by_age(store: JobStore, clock: VirtualClock) -> None:
    for name, rank in (("late", 5.0), ("first", 1.0), ("second", 1.0), ("middle", 3.0)):
        await store.submit("ann", draft(name, rank=rank))
        clock.advance(1)
    leases = (await store.news("w", room=3, seconds=0)).leases
    assert [lease.job_id for lease in leases] == ["first", "second", "middle"]
    assert len({lease.token for lease in leases}) == 3
    assert all(len(lease.token) == 32 for lease in leases)


async def claimed(store: JobStore, room: int) -> list[str]:
    return [lease.job_id for lease in (await store.news("w", room=room, seconds=0)).leases]


async def test_tenants_take_turns_however_many_jobs_one_has_sent(
    store: JobStore, clock: VirtualClock
) -> None:
    for place in range(4):
        await store.submit("ann", draft(f"ann-{place}", rank=None))
        clock.advance(1)
    await store.submit("bob", draft("bob-0", rank=None))
    assert await claimed(store, 2) == ["ann-0", "bob-0"]
    clock.advance(1)
    await store.submit("bob", draft("bob-1", rank=None))
    assert await claimed(store, 4) == ["ann-1", "bob-1", "ann-2", "ann-3"]


async def test_a_tenant_s_own_jobs_keep_their_order(store: JobStore, clock: VirtualClock) -> None:
    for place, weight in enumerate((9.0, 0.25, 3.0)):
        await store.submit("ann", draft(f"ann-{place}", rank=None, weight=weight))
        clock.advance(1)
    assert await claimed(store, 3) == ["ann-0", "ann-1", "ann-2"]


async def test_who_asks_for_less_at_a_time_comes_more_often(store: JobStore, clock: VirtualClock) -> None:
    for place in range(3):
        await store.submit("ann", draft(f"large-{place}", rank=None, weight=4.0))
        clock.advance(1)
    for place in range(6):
        await store.submit("bob", draft(f"small-{place}", rank=None, weight=1.0))
        clock.advance(1)
    order = await claimed(store, 9)
    assert order.index("small-3") < order.index("large-1") < order.index("large-2")
    assert order.index("large-1") < order.index("small-5")


async def test_a_job_that_comes_back_keeps_its_place(store: JobStore, clock: VirtualClock) -> None:
    for name in ("ann-0", "ann-1"):
        await store.submit("ann", draft(name, rank=None))
        clock.advance(1)
    first = await claim(store)
    await store.release(first.token)
    assert await claimed(store, 2) == ["ann-0", "ann-1"]


async def test_a_lease_says_what_to_make_and_for_how_long(store: JobStore) -> None:
    order = draft("job-a", run_seconds=90.0, cost=2.0)
    await store.submit("ann", order)
    lease = await claim(store)
    assert (lease.brief, lease.tenant, lease.attempt) == (order.brief, "ann", 1)
    assert (lease.run_seconds, lease.cost) == (90.0, 2.0)
    held = await store.leased(lease.token)
    assert held is not None
    assert (held.id, held.state, held.brief) == ("job-a", State.RUNNING, order.brief)
    assert await store.leased("0" * 32) is None


async def test_beats_move_the_step_counter(store: JobStore) -> None:
    await store.submit("ann", draft("job-a"))
    lease = await claim(store)
    assert await store.beat("worker-1", [Beat(lease.token, 3, 8)]) == ()
    job = await store.get("ann", "job-a")
    assert job is not None
    assert (job.step, job.steps) == (3, 8)


# P2: one end


async def test_p2_an_ended_job_stays_ended(store: JobStore) -> None:
    await store.submit("ann", draft("job-a"))
    lease = await claim(store)
    assert await store.succeed(lease.token, pictures("job-a")) is Closing.DONE
    ended = await store.get("ann", "job-a")
    assert await store.cancel("ann", "job-a") == ended
    assert await store.fail(lease.token, EngineFailed()) is Closing.STALE
    assert await store.release(lease.token) is Closing.STALE
    assert await store.get("ann", "job-a") == ended
    assert await audited(store)


async def test_p2_the_tables_refuse_to_revive_a_job(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock) as store:
        await store.submit("ann", draft("job-a"))
        await store.cancel("ann", "job-a")
    for change in ("state = 'queued'", "result = '[]'", "expires = 0", "idem_key = 'x'"):
        with pytest.raises(implementation.refusal):
            implementation.execute(tmp_path, f"UPDATE job SET {change}")
    implementation.execute(tmp_path, "DELETE FROM job")


async def test_p2_an_open_job_cannot_be_deleted(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock) as store:
        await store.submit("ann", draft("job-a"))
    with pytest.raises(implementation.refusal):
        implementation.execute(tmp_path, "DELETE FROM job")


async def test_p2_of_a_cancel_and_a_success_at_once_one_wins(store: JobStore) -> None:
    for n in range(40):
        job_id = f"job-{n}"
        await store.submit("ann", draft(job_id))
        lease = await claim(store)
        ends = [store.succeed(lease.token, pictures(job_id)), store.cancel("ann", job_id)]
        if n % 2:
            ends.reverse()
        answers = await asyncio.gather(*ends)
        job = await store.get("ann", job_id)
        assert job is not None
        won = answers[n % 2] is Closing.DONE
        assert job.state is (State.SUCCEEDED if won else State.CANCELLED)
    assert await audited(store)


# P3: charged if and only if succeeded


async def test_p3_a_success_turns_the_hold_into_a_charge(store: JobStore) -> None:
    await store.set_quota("ann", 10)
    await store.submit("ann", draft("job-a", count=3))
    account = await store.account("ann")
    assert account is not None
    assert (account.held, account.used) == (3, 0)
    lease = await claim(store)
    await store.succeed(lease.token, pictures("job-a", 3))
    account = await store.account("ann")
    assert account is not None
    assert (account.held, account.used) == (0, 3)
    assert await audited(store)


async def test_p3_only_delivered_pictures_are_charged(store: JobStore) -> None:
    await store.submit("ann", draft("job-a", count=3))
    await store.succeed((await claim(store)).token, pictures("job-a", 2))
    account = await store.account("ann")
    assert account is not None
    assert (account.held, account.used) == (0, 2)
    assert await audited(store)


@pytest.mark.parametrize("how", ["fail", "cancel", "cancel queued", "out of time", "worn out"])
async def test_p3_nothing_else_is_charged_and_the_hold_goes_back(
    how: str, store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a", count=2, queue_seconds=100.0))
    if how == "fail":
        await store.fail((await claim(store)).token, EngineFailed())
    elif how == "cancel":
        await claim(store)
        await store.cancel("ann", "job-a")
    elif how == "cancel queued":
        await store.cancel("ann", "job-a")
    elif how == "out of time":
        clock.advance(100.0)
        await store.sweep()
    else:
        for _ in range(2):
            await store.release((await claim(store)).token, crashed=True)
    job = await store.get("ann", "job-a")
    account = await store.account("ann")
    assert job is not None
    assert account is not None
    assert job.state in (State.FAILED, State.CANCELLED)
    assert (account.held, account.used) == (0, 0)
    assert await audited(store)


async def test_p3_the_same_success_told_twice_charges_once(store: JobStore) -> None:
    await store.submit("ann", draft("job-a"))
    lease = await claim(store)
    for _ in range(3):
        assert await store.succeed(lease.token, pictures("job-a")) is Closing.DONE
    account = await store.account("ann")
    assert account is not None
    assert account.used == 1
    assert await audited(store)


async def test_p3_the_tables_refuse_a_second_charge_of_a_job(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock) as store:
        await store.submit("ann", draft("job-a"))
        await store.succeed((await claim(store)).token, pictures("job-a"))
    with pytest.raises(implementation.refusal):
        implementation.execute(tmp_path, "INSERT INTO charge SELECT * FROM charge")
    for change in ("UPDATE charge SET amount = 0", "DELETE FROM charge"):
        with pytest.raises(implementation.refusal):
            implementation.execute(tmp_path, change)


async def test_p3_the_tables_refuse_an_account_above_its_quota(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock) as store:
        await store.set_quota("ann", 5)
        await store.submit("ann", draft("job-a", count=3))
    for change in ("held = 6", "used = 3", "held = -1", "quota = 2"):
        with pytest.raises(implementation.refusal):
            implementation.execute(tmp_path, f"UPDATE account SET {change}")
    implementation.execute(tmp_path, "UPDATE account SET quota = NULL, used = 1000")


# quotas and the queue's limit


async def test_the_last_picture_of_a_quota_can_be_ordered_and_the_next_cannot(store: JobStore) -> None:
    await store.set_quota("ann", 5)
    await store.submit("ann", draft(count=4))
    with pytest.raises(QuotaExhausted):
        await store.submit("ann", draft(count=2))
    await store.submit("ann", draft(count=1))
    with pytest.raises(QuotaExhausted):
        await store.submit("ann", draft(count=1))
    await store.submit("bob", draft(count=9))


async def test_a_quota_can_be_raised_lifted_and_lowered_to_what_is_spoken_for(store: JobStore) -> None:
    await store.set_quota("ann", 1)
    await store.submit("ann", draft(count=1))
    await store.set_quota("ann", 4)
    await store.submit("ann", draft(count=3))
    await store.set_quota("ann", 2)
    account = await store.account("ann")
    assert account is not None
    assert (account.quota, account.held) == (4, 4)
    with pytest.raises(QuotaExhausted):
        await store.submit("ann", draft())
    await store.set_quota("ann", None)
    await store.submit("ann", draft(count=50))
    assert await store.account("nobody") is None


async def test_s10_of_200_submits_at_once_a_quota_of_100_admits_exactly_100(store: JobStore) -> None:
    await store.set_quota("ann", 100)
    answers = await asyncio.gather(
        *(store.submit("ann", draft()) for _ in range(200)), return_exceptions=True
    )
    assert sum(isinstance(answer, QuotaExhausted) for answer in answers) == 100
    assert (await store.figures())["queued"] == 100
    assert await audited(store)


async def test_the_queue_has_a_limit(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock, rules=Rules(queue_limit=3)) as store:
        for n in range(3):
            await store.submit("ann", draft(f"job-{n}"))
        with pytest.raises(QueueFull):
            await store.submit("ann", draft())
        await store.cancel("ann", "job-0")
        await store.submit("ann", draft())
        assert await audited(store)


async def test_one_tenant_cannot_fill_the_queue(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock, rules=Rules(tenant_limit=2)) as store:
        for n in range(2):
            await store.submit("ann", draft(f"job-{n}"))
        with pytest.raises(QueueFull):
            await store.submit("ann", draft())
        await store.submit("bob", draft())
        await store.cancel("ann", "job-0")
        await store.submit("ann", draft())
        assert await audited(store)


# P4: leases


async def test_p4_a_worker_that_lost_its_lease_cannot_close_the_job(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a"))
    old = await claim(store, "slow")
    clock.advance(LEASE)
    new = await claim(store, "fresh")
    assert (new.job_id, new.attempt) == ("job-a", 2)
    assert new.token != old.token
    assert await store.succeed(old.token, pictures("job-a")) is Closing.STALE
    assert await store.fail(old.token, EngineFailed()) is Closing.STALE
    assert await store.release(old.token, crashed=True) is Closing.STALE
    assert await store.beat("slow", [Beat(old.token, 1, 2)]) == (old.token,)
    assert await store.leased(old.token) is None
    assert (await store.news("slow", room=0, seconds=0)).cancelled == (old.token,)
    assert await store.succeed(new.token, pictures("job-a")) is Closing.DONE
    assert await audited(store)


async def test_p4_a_lease_holds_to_its_last_moment_and_a_beat_extends_it(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a"))
    lease = await claim(store)
    clock.advance(LEASE - 0.01)
    assert await no_claim(store, "other")
    await store.beat("worker-1", [Beat(lease.token, 1, 8)])
    clock.advance(LEASE - 0.01)
    assert await no_claim(store, "other")
    clock.advance(0.02)
    assert (await claim(store, "other")).job_id == "job-a"


async def test_p4_a_late_worker_may_still_finish_what_nobody_took_over(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a"))
    lease = await claim(store)
    clock.advance(LEASE * 2)
    assert await store.succeed(lease.token, pictures("job-a")) is Closing.DONE


async def test_p4_the_wall_clock_has_no_say_in_leases_and_deadlines(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a"))
    await store.submit("ann", draft("job-b"))
    lease = await claim(store)
    for jump in (DAY, -2 * DAY):
        clock.jump(jump)
        await store.sweep()
        assert (await store.news("other", room=2, seconds=0)).cancelled == ()
    assert await store.leased(lease.token) is not None
    assert await audited(store)


@pytest.mark.parametrize("end", ["succeed", "fail", "release"])
async def test_p4_a_lost_answer_can_be_asked_for_again(end: str, store: JobStore) -> None:
    await store.submit("ann", draft("job-a"))
    lease = await claim(store)
    for _ in range(2):
        if end == "succeed":
            closing = await store.succeed(lease.token, pictures("job-a"))
        elif end == "fail":
            closing = await store.fail(lease.token, EngineFailed("Out of memory."))
        else:
            closing = await store.release(lease.token)
        assert closing is Closing.DONE
    assert await store.succeed("f" * 32, pictures("job-a")) is Closing.STALE


async def test_two_lapses_fail_the_job(store: JobStore, clock: VirtualClock) -> None:
    await store.submit("ann", draft("job-a"))
    for attempt in (1, 2):
        assert (await claim(store)).attempt == attempt
        clock.advance(LEASE)
    assert await no_claim(store)
    await store.sweep()
    job = await store.get("ann", "job-a")
    assert job is not None
    assert isinstance(job.fault, EngineFailed)
    assert await audited(store)


async def test_a_clean_release_counts_nothing_however_often(store: JobStore) -> None:
    await store.submit("ann", draft("job-a"))
    for _ in range(10):
        lease = await claim(store)
        assert lease.attempt == 1
        assert await store.release(lease.token) is Closing.DONE
    assert await store.succeed((await claim(store)).token, pictures("job-a")) is Closing.DONE


async def test_a_third_attempt_is_the_last(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock, rules=Rules(crashes=100)) as store:
        await store.submit("ann", draft("job-a"))
        for attempt in (1, 2, 3):
            lease = await claim(store)
            assert lease.attempt == attempt
            assert await store.release(lease.token, crashed=True) is Closing.DONE
        assert await store.release(lease.token, crashed=True) is Closing.DONE
        job = await store.get("ann", "job-a")
        assert job is not None
        assert isinstance(job.fault, EngineFailed)
        assert await audited(store)


async def test_a_request_that_crashed_its_workers_is_refused_for_an_hour(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a", fingerprint="poison"))
    for _ in range(2):
        await store.release((await claim(store)).token, crashed=True)
    with pytest.raises(EngineFailed):
        await store.submit("ann", draft(fingerprint="poison"))
    await store.submit("ann", draft(fingerprint="other"))
    await store.submit("bob", draft(fingerprint="poison"))
    clock.advance(3601)
    await store.submit("ann", draft(fingerprint="poison"))


async def test_k14_a_restart_of_the_server_counts_no_crash(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock) as store:
        await store.submit("ann", draft("job-a"))
    for attempt in (1, 2, 3):
        async with implementation.open(tmp_path, clock) as store:
            assert (await claim(store)).attempt == attempt
        clock.advance(LEASE)
    async with implementation.open(tmp_path, clock) as store:
        assert await no_claim(store), "three attempts are the limit whoever is to blame"
        await store.sweep()
        assert await audited(store)


async def test_a_worker_outlives_a_restart_of_the_server(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock, boot="one") as store:
        await store.submit("ann", draft("job-a"))
        lease = await claim(store)
    clock.advance(5)
    async with implementation.open(tmp_path, clock, boot="one") as store:
        assert await no_claim(store, "other")
        assert await store.beat("worker-1", [Beat(lease.token, 4, 8)]) == ()
        assert await store.succeed(lease.token, pictures("job-a")) is Closing.DONE


async def test_after_a_restart_of_the_machine_old_times_mean_nothing(
    implementation: Implementation, tmp_path: Path
) -> None:
    before = VirtualClock(monotonic=900_000.0)
    async with implementation.open(tmp_path, before, boot="one") as store:
        await store.submit("ann", draft("running", queue_seconds=60.0))
        await store.submit("ann", draft("queued", queue_seconds=60.0))
        await claim(store)
    after = VirtualClock(monotonic=3.0, wall=before.wall() + 100)
    async with implementation.open(tmp_path, after, boot="two") as store:
        await store.sweep()
        assert {(await claim(store)).job_id, (await claim(store)).job_id} == {"running", "queued"}
        after.advance(601)
        await store.sweep()
        assert (await store.figures())["failed"] == 2
        assert await audited(store)


# deadlines


async def test_a_job_not_started_in_time_fails_and_is_not_started_any_more(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a", queue_seconds=60.0))
    clock.advance(60.0)
    assert await no_claim(store)
    await store.sweep()
    job = await store.get("ann", "job-a")
    assert job is not None
    assert (job.state, type(job.fault)) == (State.FAILED, OutOfTime)


async def test_a_job_that_runs_too_long_fails_although_its_worker_lives(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("job-a", queue_seconds=10.0, run_seconds=100.0))
    lease = await claim(store)
    for _ in range(4):
        clock.advance(25.0)
        await store.beat("worker-1", [Beat(lease.token, 1, 8)])
    await store.sweep()
    job = await store.get("ann", "job-a")
    assert job is not None
    assert isinstance(job.fault, OutOfTime)
    assert (await store.news("worker-1", room=1, seconds=0)).cancelled == (lease.token,)
    assert await store.succeed(lease.token, pictures("job-a")) is Closing.STALE
    assert await audited(store)


async def test_the_auditor_sees_a_deadline_that_no_sweep_kept(store: JobStore, clock: VirtualClock) -> None:
    await store.submit("ann", draft(queue_seconds=10.0))
    clock.advance(69.0)
    assert (await store.audit())["open_past_deadline"] == 0
    clock.advance(2.0)
    assert (await store.audit())["open_past_deadline"] == 1


@pytest.mark.parametrize(
    ("damage", "count"),
    [
        ("INSERT INTO charge VALUES ('job-open', 'ann', 'm', 1, 1, 1e12)", "charge_without_succeeded"),
        ("INSERT INTO charge VALUES ('job-gone', 'ann', 'm', 1, 1, 1e12)", "charge_without_succeeded"),
        ("UPDATE account SET held = held + 1", "holds_not_open_jobs"),
        ("UPDATE account SET used = used + 1", "used_not_charges"),
        ("UPDATE job SET state = 'succeeded' WHERE id = 'job-open'", "succeeded_without_charge"),
        (
            "INSERT INTO outbox (id, job_id, event, tenant, url, body, next_at, state)"
            " VALUES ('1', 'job-open', 'ended', 'ann', '', '', 0, 'pending')",
            "outbox_past_due",
        ),
    ],
)
async def test_the_auditor_sees_damage(
    damage: str, count: str, implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock) as store:
        await store.submit("ann", draft("job-open"))
        assert await audited(store)
    implementation.execute(tmp_path, damage)
    async with implementation.open(tmp_path, clock) as store:
        assert (await store.audit())[count] == 1
