"""Workers that vanish or get nowhere, jobs that are taken over, what is still said of attempts that are lost."""

from __future__ import annotations

import pytest

from danqing.core.job import Closing, Job, State
from danqing.lease.messages import Beats, End, Outcome, Pulse
from tests.support.lease_place import TENANT, Place
from tests.unit.lease.test_desk import advance, claim, place, succeeded, upload

__all__ = ["place"]


async def test_a_job_that_is_taken_over_leaves_nothing_of_the_lost_attempt_behind(place: Place) -> None:
    await place.submit(count=2)
    [lost] = await claim(place)
    await upload(place, lost, 0)
    assert len(place.files()) == 1
    advance(place, 31.0)
    assert await claim(place, "w2")
    assert place.files() == []
    vital = place.desk.vital("w1")
    assert vital is not None
    assert vital.holding == 0


@pytest.mark.parametrize("says", ["beat", "end"])
async def test_what_a_worker_still_says_of_a_lost_attempt_does_not_touch_the_next(
    place: Place, says: str
) -> None:
    job_id = await place.submit(count=2)
    [lost] = await claim(place)
    advance(place, 31.0)
    [lease] = await claim(place, "w2")
    await place.desk.beat(Beats("w2", (Pulse(lease.token, 3, 8, 5.0),)))
    await upload(place, lease, 1)
    if says == "beat":
        assert (await place.desk.beat(Beats("w1", (Pulse(lost.token, 7, 8, 1.0),)))).gone == (lost.token,)
    else:
        assert await place.desk.end(succeeded(lost)) is Closing.STALE
    seen = place.desk.board.get(job_id)
    assert seen is not None
    assert (seen.step, seen.left, seen.outcome) == (3, 5.0, None)
    assert set(place.desk.board.pictures(job_id)) == {1}


async def test_an_end_that_comes_too_late_is_not_counted(place: Place) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    await place.store.cancel(TENANT, job_id)
    assert await place.desk.end(succeeded(lease)) is Closing.STALE
    assert place.desk.board.figures()["succeeded"] == 0
    assert place.desk.prices.lessons == 0
    assert place.files() == []


async def test_workers_that_vanish_are_forgotten_with_what_the_store_took_from_them(place: Place) -> None:
    await place.submit(run_seconds=300.0)
    for number in range(20):
        await claim(place, f"gone-{number}", room=int(number == 0))
        await place.desk.beat(Beats(f"gone-{number}", (), {"works": 1.0}))
    await claim(place, "stays", room=0)
    assert len(place.desk.workers()) == 21
    for _ in range(3):
        advance(place, 40.0)
        await claim(place, "stays", room=0)
        await place.desk.forget_away()
    assert [hello.worker for hello in place.desk.workers()] == ["stays"]
    assert set(place.desk.board.engines()) == {"gone-0"}, "it holds a job, and may yet bring it"
    assert place.desk.vital("gone-0") is not None
    advance(place, 300.0)
    await place.store.sweep()
    for _ in range(2):
        await claim(place, "stays", room=0)
        await place.desk.forget_away()
    assert place.desk.vital("gone-0") is None
    assert not place.desk.board.engines()
    assert not place.desk._hands
    assert await place.audited()


async def test_a_worker_may_be_buried_while_it_is_being_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.submit()
    [lease] = await claim(place)
    advance(place, 61.0)
    await place.desk.forget_away()
    await claim(place, "w2", room=0)
    leased = place.store.leased

    async def buried(token: str) -> Job | None:
        await place.desk.bury("w1", crashed=True)
        return await leased(token)

    monkeypatch.setattr(place.store, "leased", buried)
    await place.desk.forget_away()
    assert [hello.worker for hello in place.desk.workers()] == ["w2"]
    assert await leased(lease.token) is None


async def test_after_a_stop_of_the_server_nobody_is_forgotten_who_calls_again(place: Place) -> None:
    await claim(place, "w1")
    advance(place, 600.0)
    await place.desk.forget_away()
    await claim(place, "w1")
    advance(place, 30.0)
    await place.desk.forget_away()
    assert [hello.worker for hello in place.desk.workers()] == ["w1"]


async def test_ends_are_not_foretold_by_workers_that_are_away(place: Place) -> None:
    await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    await place.desk.end(End(lease.token, Outcome.SUCCEEDED, seconds=10.0, wall=10.0))
    job_id = await place.submit()
    advance(place, 1.0)
    assert await place.desk.outlook.left(job_id) == pytest.approx(10.0)
    advance(place, 61.0)
    assert await place.desk.outlook.left(job_id) is None


# -- how long a unit of work may take


async def test_where_nothing_was_measured_the_worker_s_own_guess_counts_until_it_knows_better(
    place: Place,
) -> None:
    await place.submit(run_seconds=36_000.0)
    [lease] = await claim(place)
    await place.desk.beat(Beats("w1", (Pulse(lease.token, 0, 8, unit=400.0),)))
    assert unit(place) == 400.0
    await place.desk.beat(Beats("w1", (Pulse(lease.token, 2, 8, left=60.0, unit=400.0),)))
    assert unit(place) == 10.0
    await place.desk.beat(Beats("w1", (Pulse(lease.token, 8, 8, left=25.0, unit=400.0),)))
    assert unit(place) == 25.0  # what is left after the last step is one unit


async def test_no_unit_is_waited_for_beyond_the_job_s_own_time(place: Place) -> None:
    await place.submit(run_seconds=600.0)
    [lease] = await claim(place)
    await place.desk.beat(Beats("w1", (Pulse(lease.token, 0, 8, unit=1e6),)))
    assert 10 * unit(place) < 600.0


def unit(place: Place) -> float:
    vital = place.desk.vital("w1")
    assert vital is not None
    return vital.unit


async def test_an_end_that_arrives_while_its_dead_worker_is_buried_harms_nobody(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await place.submit(), await place.submit()
    _, ended = await claim(place, room=2)
    await upload(place, ended, 0)
    release = place.store.release

    async def slowly(held: str, *, crashed: bool = False) -> Closing:
        await place.desk.end(succeeded(ended))
        return await release(held, crashed=crashed)

    monkeypatch.setattr(place.store, "release", slowly)
    await place.desk.bury("w1", crashed=True)
    assert (await place.job(first, 0)).state is State.QUEUED
    assert (await place.job(second, 0)).state is State.SUCCEEDED
