"""Real worker processes over the fake engine, and everything that can happen to a process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from danqing.core.errors import EngineFailed
from danqing.core.job import State
from danqing.store.life import Rules
from danqing.work import supervise
from danqing.work.supervise import Supervisor
from tests.support.chaos_server import python, worker_command
from tests.support.clock import RealClock
from tests.support.eventually import eventually
from tests.support.lease_place import TENANT, Place, lease_place


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(supervise, "LOOK_EVERY", 0.05)


@asynccontextmanager
async def supervised(place: Place, *options: str, workers: int = 1) -> AsyncIterator[Supervisor]:
    command = worker_command(place.socket, *options)
    supervisor = Supervisor({f"cpu{n}": command for n in range(workers)}, place.desk, clock=RealClock())
    supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with lease_place(tmp_path, rules=Rules(lease_seconds=1.5), quiet=0.3) as made:
        yield made


async def stepping(place: Place, job_id: str) -> None:
    """Until the job is in the middle of its steps."""
    await eventually(lambda: (told := place.desk.board.get(job_id)) and told.step >= 2)


def pid_of(supervisor: Supervisor, index: int = 0) -> int:
    pid = supervisor.standing()[index].pid
    assert pid is not None
    return pid


async def test_k2_a_killed_workers_job_runs_again_at_once_and_is_charged_once(tmp_path: Path) -> None:
    async with lease_place(tmp_path) as place:  # with a lease of 30 s: nobody waits for it to lapse
        async with supervised(place, "--step-seconds", "0.1", "--steps", "8") as supervisor:
            job_id = await place.submit(count=2)
            await stepping(place, job_id)
            os.kill(pid_of(supervisor), signal.SIGKILL)
            job = await place.job(job_id, 20.0)
            assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
            assert supervisor.standing()[0].reason == "ended by signal 9"
        assert await place.charged() == 2
        assert len(place.files()) == 2
        assert await place.audited()


async def test_k2_a_story_whose_worker_is_killed_goes_on_where_its_follower_is(tmp_path: Path) -> None:
    async with lease_place(tmp_path) as place:
        options = ("--step-seconds", "0.1", "--steps", "5")
        async with supervised(place, *options) as supervisor:
            job_id = await place.submit("A. B. C.", count=5, knobs={"enable_interleave": True})
            with place.desk.board.follow(job_id) as tale:
                await eventually(lambda: 0 in tale.pictures, 20.0)
                shown, panels = tale.pictures[0], tale.panels
                os.kill(pid_of(supervisor), signal.SIGKILL)
                job = await place.job(job_id, 20.0)
                assert tale.panels == panels
        assert (job.state, job.attempt, len(job.images)) == (State.SUCCEEDED, 2, 3)
        assert job.said.texts == tuple((place_, panel.text) for place_, panel in enumerate(panels))
        again = job.images[0]
        assert again.key != shown.key
        assert await place.blobs.read(shown.key) == await place.blobs.read(again.key)
        assert await place.charged() == 3
        assert await place.audited()


async def test_k2_a_worker_stopped_past_its_lease_cannot_end_the_job(place: Place) -> None:
    async with supervised(place, "--step-seconds", "0.1", "--steps", "12") as first:
        job_id = await place.submit()
        await stepping(place, job_id)
        stopped = pid_of(first)
        os.kill(stopped, signal.SIGSTOP)
        try:
            async with supervised(place):
                job = await place.job(job_id, 20.0)
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
        after = await place.submit()  # the zombie has finished its steps, found its token stale, and goes on
        assert (await place.job(after, 20.0)).state is State.SUCCEEDED
        assert pid_of(first) == stopped
    assert (await place.job(job_id, 0)).images == job.images
    assert await place.charged() == 2
    assert len(place.files()) == 2
    assert await place.audited()


async def test_k9_a_job_that_kills_its_worker_twice_fails_uncharged_and_its_neighbours_do_not(
    place: Place,
) -> None:
    async with supervised(place, "--step-seconds", "0.02", "--room", "4"):
        poison = await place.submit("[abort] a cat")
        others = [await place.submit() for _ in range(3)]
        job = await place.job(poison, 20.0)
        assert job.state is State.FAILED
        assert isinstance(job.fault, EngineFailed)
        for other in others:
            assert (await place.job(other, 20.0)).state is State.SUCCEEDED
    assert await place.charged() == 3
    assert await place.audited()


async def test_k9_an_engine_that_hangs_is_killed_though_its_worker_still_beats(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "STUCK_SECONDS", 0.5)
    async with supervised(place, "--step-seconds", "0.02") as supervisor:
        stuck = await place.submit("[hang] a cat", fingerprint="that request")
        job = await place.job(stuck, 20.0)
        assert (job.state, type(job.fault)) == (State.FAILED, EngineFailed)
        assert job.attempt == 2
        with pytest.raises(EngineFailed):  # two workers are enough
            await place.submit("[hang] a cat", fingerprint="that request")
        assert supervisor.standing()[0].restarts >= 1
        assert (await place.job(await place.submit(), 20.0)).state is State.SUCCEEDED
    assert await place.audited()


async def test_k14_workers_told_to_end_under_load_count_no_attempt(place: Place) -> None:
    async with supervised(place, "--step-seconds", "0.05", "--room", "2") as supervisor:
        jobs = [await place.submit() for _ in range(8)]
        for _ in range(2):
            await eventually(place.desk.workers)
            await asyncio.sleep(0.3)
            if (pid := supervisor.standing()[0].pid) is not None:
                os.kill(pid, signal.SIGTERM)
                await eventually(lambda pid=pid: supervisor.standing()[0].pid != pid)
        for job_id in jobs:
            job = await place.job(job_id, 20.0)
            assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
        assert supervisor.standing()[0].restarts == 2
    assert await place.charged() == 8
    assert await place.audited()


async def test_a_stopping_supervisor_leaves_the_jobs_in_the_queue(place: Place) -> None:
    async with supervised(place, "--step-seconds", "0.1", "--steps", "100"):
        job_id = await place.submit()
        await stepping(place, job_id)
    job = await place.job(job_id, 0)
    assert (job.state, job.attempt) == (State.QUEUED, 0)


async def test_a_cancel_frees_the_worker_for_the_next_job(place: Place) -> None:
    async with supervised(place, "--step-seconds", "0.1", "--steps", "1000", "--room", "1"):
        long = await place.submit()
        await stepping(place, long)
        await place.store.cancel(TENANT, long)
        after = await place.submit()
        await stepping(place, after)
        await place.store.cancel(TENANT, after)
    assert await place.audited()


@pytest.mark.parametrize("loading", ["0", "60"])
async def test_a_worker_ends_with_its_server_even_while_it_loads(place: Place, loading: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *python("fake_worker", "--socket", str(place.socket), "--name", "w1", "--load-seconds", loading),
        stdin=asyncio.subprocess.PIPE,
    )
    if loading == "0":
        await eventually(place.desk.workers)
    else:
        await asyncio.sleep(0.5)
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 5.0) == 0
