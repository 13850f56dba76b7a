from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image as Pillow

from danqing.core.errors import EngineFailed, Internal
from danqing.core.job import State
from danqing.lease.client import LeaseClient
from danqing.lease.messages import BadMessage, Gone, Outcome, Pulse
from danqing.work import run
from danqing.work.aides import Aides
from danqing.work.run import Worker
from tests.support.clock import RealClock
from tests.support.eventually import eventually
from tests.support.fake_engine import QUALITY, FakeEngine, picture
from tests.support.lease_place import SIZE, TENANT, Place, hello, lease_place, raster


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with lease_place(tmp_path) as made:
        yield made


@asynccontextmanager
async def working(
    place: Place, engine: FakeEngine, *, room: int = 2, aides: Aides | None = None
) -> AsyncIterator[Worker]:
    client = place.client()
    worker = Worker(engine, client, hello("w1"), room=room, clock=RealClock(), aides=aides)
    task = asyncio.ensure_future(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, 10.0)
        await client.close()
        if engine.mode != "hang":
            engine.close()


async def until(place: Place, job_id: str, state: State) -> None:
    async def holds() -> bool:
        return (await place.job(job_id, 0)).state is state

    await eventually(holds)


async def test_a_job_becomes_its_pictures(place: Place) -> None:
    inputs = (raster("one"), raster("two"), raster("one"))
    engine = FakeEngine()
    async with working(place, engine):
        job_id = await place.submit(count=3, inputs=inputs, priority=-2)
        job = await place.job(job_id)
    assert job.state is State.SUCCEEDED
    files = [await place.blobs.read(image.key) for image in job.images]
    assert files == [f"{picture(7 + index, SIZE).digest()} False".encode() for index in range(3)]
    assert job.said.quality == QUALITY
    assert engine.started[0].inputs == inputs
    assert engine.started[0].tenant == TENANT
    assert engine.started[0].priority == -2
    progress = place.desk.board.get(job_id)
    assert progress is not None
    assert (progress.images, progress.outcome) == (3, Outcome.SUCCEEDED)
    assert progress.wall >= progress.seconds > 0
    assert await place.audited()


async def test_several_jobs_are_held_at_once_and_never_more_than_the_room(place: Place) -> None:
    most = 0
    async with working(place, FakeEngine(step_seconds=0.01), room=3):
        jobs = [await place.submit() for _ in range(8)]
        while (await place.store.figures())["succeeded"] < len(jobs):
            most = max(most, (await place.store.figures())["running"])
            await asyncio.sleep(0.005)
    assert most == 3
    assert await place.charged() == 8


@pytest.mark.parametrize("mode", ["fail", "nan", "oom", "fewer"])
async def test_k9_an_engine_that_fails_fails_the_job_uncharged(place: Place, mode: str) -> None:
    async with working(place, FakeEngine(mode)):
        job = await place.job(await place.submit(count=2))
    assert job.state is State.FAILED
    assert isinstance(job.fault, EngineFailed)
    assert await place.charged() == 0
    assert place.files() == []
    assert await place.audited()


async def test_a_picture_of_another_size_than_ordered_fails_the_job(place: Place) -> None:
    async with working(place, FakeEngine("other")):
        job = await place.job(await place.submit())
    assert (job.state, type(job.fault)) == (State.FAILED, Internal)


async def test_an_input_that_is_gone_fails_the_job_and_not_the_worker(
    place: Place,
) -> None:
    async with working(place, FakeEngine()):
        lost = raster("lost")
        broken = await place.submit(inputs=(lost,))
        await place.blobs.remove(list(await place.blobs.stale(-60.0)))
        assert (await place.job(broken)).state is State.FAILED
        assert (await place.job(await place.submit())).state is State.SUCCEEDED


async def test_a_cancel_reaches_the_engine_through_the_open_poll(place: Place) -> None:
    engine = FakeEngine(step_seconds=0.05, steps=1000)
    async with working(place, engine, room=1):
        job_id = await place.submit()
        await until(place, job_id, State.RUNNING)
        await place.store.cancel(TENANT, job_id)
        await eventually(lambda: engine.cancelled, 2.0)  # well under the 5 s of a beat with nothing new
        after = await place.submit("[ok] next")
        await until(place, after, State.RUNNING)
        await place.store.cancel(TENANT, after)
    assert await place.audited()


async def test_steps_reach_the_board_and_the_row(place: Place) -> None:
    async with working(place, FakeEngine(step_seconds=0.05, steps=60)):
        job_id = await place.submit()
        await eventually(lambda: (told := place.desk.board.get(job_id)) and told.step >= 3)
        progress = place.desk.board.get(job_id)
        assert progress is not None
        assert progress.steps == 60
        assert progress.left is not None

        async def kept() -> bool:  # the row hears of a beat after the board
            return (await place.job(job_id, 0)).step >= 3

        await eventually(kept)


async def test_what_the_engine_counts_reaches_the_board_even_of_an_idle_worker(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BEAT_SECONDS", 0.05)
    async with working(place, FakeEngine()):
        await place.job(await place.submit())
        await eventually(lambda: place.desk.board.engines().get("w1") == {"works": 1.0})
    await place.desk.bury("w1", crashed=False)
    assert place.desk.board.engines() == {}


async def test_k14_a_stopped_worker_gives_its_jobs_back_and_no_attempt_is_counted(place: Place) -> None:
    job_id = await place.submit()
    for _ in range(5):
        async with working(place, FakeEngine(step_seconds=0.05, steps=1000)):
            await until(place, job_id, State.RUNNING)
            assert (await place.job(job_id, 0)).attempt == 1
        assert (await place.job(job_id, 0)).state is State.QUEUED
    async with working(place, FakeEngine()):
        assert (await place.job(job_id)).state is State.SUCCEEDED


async def test_a_worker_outlives_a_server_that_goes_and_comes(tmp_path: Path) -> None:
    from danqing.lease.server import LeaseServer

    async with lease_place(tmp_path) as place:
        async with working(place, FakeEngine()):
            assert (await place.job(await place.submit())).state is State.SUCCEEDED
            second = LeaseServer(place.desk)
            place.socket.unlink()
            await second.start(place.socket)
            job_id = await place.submit()
            assert (await place.job(job_id)).state is State.SUCCEEDED
        await second.stop()


async def test_a_worker_that_hears_something_just_as_it_stops_still_stops(place: Place) -> None:
    client, engine = place.client(), FakeEngine()
    for turns in range(6):
        name = f"w{turns}"
        worker = Worker(engine, client, hello(name), room=2, clock=RealClock())
        task = asyncio.ensure_future(worker.run())
        await eventually(lambda name=name: any(seat.worker == name for seat in place.desk.workers()))
        worker.stop()
        for _ in range(turns):
            await asyncio.sleep(0)
        worker._told.set()
        await asyncio.wait_for(task, 5.0)
    await client.close()
    engine.close()


# -- previews


async def test_a_watched_job_shows_itself_and_its_watcher_is_heard_of_in_mid_job(place: Place) -> None:
    engine = FakeEngine(steps=400, step_seconds=0.005)
    async with working(place, engine, aides=Aides(label=lambda number: f"made as {number}")):
        job_id = await place.submit()
        await until(place, job_id, State.RUNNING)
        assert not engine.watched
        with place.desk.board.watch(job_id) as tale:
            await eventually(lambda: _holds(tale.glimpses))
            assert engine.watched
            shown = tale.glimpses[0]
            assert (shown.index, shown.steps) == (0, 400)
            file = Pillow.open(io.BytesIO(base64.b64decode(shown.jpeg)))
            assert (file.format, file.size) == ("JPEG", (64, 48))
            assert file.info["xmp"].decode() == f"made as {job_id}-0"
        await eventually(lambda: _holds(not engine.watched))
        await place.store.cancel(TENANT, job_id)


async def test_a_job_that_is_watched_before_it_begins_is_watched_from_its_first_step(place: Place) -> None:
    job_id = await place.submit()
    with place.desk.board.watch(job_id) as tale:
        engine = FakeEngine(steps=3, step_seconds=0.15)
        async with working(place, engine):
            await eventually(lambda: _holds(tale.glimpses))
            assert tale.glimpses[0].step == 1
            await place.job(job_id)
    assert not engine.watched


async def test_where_finished_pictures_are_looked_at_none_is_shown_before(place: Place) -> None:
    job_id = await place.submit()
    with place.desk.board.watch(job_id) as tale:
        engine = FakeEngine(steps=4, step_seconds=0.05)
        async with working(place, engine, aides=Aides(shows=False)):
            job = await place.job(job_id)
        assert job.state is State.SUCCEEDED
        assert not engine.watched
        assert tale.glimpses == {}


async def _holds(value: object) -> bool:
    return bool(value)


async def test_a_preview_that_the_server_refuses_costs_no_lease(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[BadMessage] = []
    beat = LeaseClient.beat

    async def noted(
        client: LeaseClient,
        worker: str,
        beats: tuple[Pulse, ...],
        figures: Mapping[str, float] | None = None,
    ) -> Gone:
        try:
            return await beat(client, worker, beats, figures)
        except BadMessage as fault:
            refused.append(fault)
            raise

    monkeypatch.setattr(LeaseClient, "beat", noted)
    job_id, other = await place.submit(), await place.submit()
    with place.desk.board.watch(job_id) as tale:
        async with working(place, FakeEngine("stray", steps=8, step_seconds=0.05)):
            assert (await place.job(job_id)).state is State.SUCCEEDED
            assert (await place.job(other)).state is State.SUCCEEDED
        assert tale.glimpses == {}
    assert refused


async def test_beats_come_at_most_ten_a_second_and_a_few_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    at: list[float] = []
    beat = LeaseClient.beat

    async def noted(
        client: LeaseClient, worker: str, beats: tuple[Pulse, ...], figures: Mapping[str, float]
    ) -> Gone:
        at.append(asyncio.get_running_loop().time())  # when it is sent: a busy machine takes its time to hear
        return await beat(client, worker, beats, figures)

    monkeypatch.setattr(LeaseClient, "beat", noted)
    async with working(place, FakeEngine(steps=500, step_seconds=0.004)):
        job = await place.job(await place.submit())
    assert job.state is State.SUCCEEDED
    assert len(at) > 10
    assert at[2] - at[0] < 2 * run.LEAST_BEAT
    assert all(later - earlier > 0.9 for earlier, later in zip(at, at[10:], strict=False))
