from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from danqing.core.errors import EngineFailed, OutputRefused
from danqing.core.events import Cancelled, Event, Failed, Finished, ImageReady, Started, Stepped, Work
from danqing.core.job import Lease, State
from danqing.core.order import Brief
from danqing.core.raster import Raster
from danqing.core.writing import Panel
from danqing.lease.messages import End, Outcome, Text, TokenGone
from danqing.work.finish import Making
from danqing.work.run import Worker
from danqing.work.script import Stage, perform
from tests.support.clock import RealClock, VirtualClock
from tests.support.eventually import eventually
from tests.support.fake_engine import picture
from tests.support.lease_place import SIZE, TENANT, Place, hello, lease_place, raster

TALE = (Panel("Once.", "a fox wakes"), Panel("Then.", "a fox runs"), Panel("", "a fox sleeps"))


class ByHand:
    """An engine that says what the test lets it say."""

    def __init__(self) -> None:
        self.works: asyncio.Queue[Work] = asyncio.Queue()
        self.cancelled: list[str] = []
        self.hear: Callable[[Event], None] = lambda event: None

    def start(self, work: Work) -> None:
        self.works.put_nowait(work)

    def cancel(self, token: str) -> None:
        self.cancelled.append(token)

    def listen(self, hear: Callable[[Event], None]) -> None:
        self.hear = hear

    def figures(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        pass

    async def next(self) -> Work:
        async with asyncio.timeout(30):  # a busy machine is no fault
            return await self.works.get()

    def make(self, work: Work, seconds: float = 1.0) -> None:
        """All of a picture but its steps."""
        self.hear(ImageReady(work.token, 0, picture(work.seed, work.size)))
        self.hear(Finished(work.token, seconds))


class Shelf:
    """Keeps what it is given, unless the token is said to hold nothing, or a picture is not to be shown."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], Raster] = {}
        self.gone = False
        self.withheld: set[int] = set()

    async def image(self, token: str, index: int, raster: Raster) -> None:
        if self.gone:
            raise TokenGone
        if index in self.withheld:
            raise OutputRefused
        self.kept[token, index] = raster


class Show:
    """A script being performed, the engine in the test's hand and time standing still."""

    def __init__(
        self, panels: tuple[Panel, ...] = TALE, *, count: int = 3, inputs: int = 0, most: int = 10
    ) -> None:
        self.engine, self.shelf, self.clock = ByHand(), Shelf(), VirtualClock()
        given = tuple(raster(f"input {place}") for place in range(inputs))
        brief = Brief("wan", "a fox", None, (), count, SIZE, seed=7)
        self.work = Work("t", "wan", "a fox", None, given, count, SIZE, seed=7, tenant="acme")
        self.making = Making(Lease("t", "job", "acme", brief, 1, 0.0, 600.0), self.clock.monotonic())
        self.engine.listen(lambda event: self.making.hear(event) if self.making.hear else None)
        stage = Stage(self.engine, self.shelf, most, self.clock.monotonic)
        self.end: asyncio.Task[End] = asyncio.ensure_future(perform(self.making, self.work, panels, stage))

    async def finish(self, pictures: int = 3) -> list[Work]:
        """The engine makes so many pictures without a hitch."""
        works = []
        for _ in range(pictures):
            works.append(await self.engine.next())
            self.engine.make(works[-1])
        return works


async def test_each_picture_is_a_work_of_its_own_prompt_and_seed() -> None:
    show = Show()
    works = await show.finish()
    assert [(work.token, work.prompt, work.seed, work.count) for work in works] == [
        ("t/0", "a fox wakes", 7, 1),
        ("t/1", "a fox runs", 8, 1),
        ("t/2", "a fox sleeps", 9, 1),
    ]
    assert {(work.tenant, work.size) for work in works} == {("acme", SIZE)}
    end = await show.end
    assert (end.token, end.outcome, end.seconds, end.made) == ("t", Outcome.SUCCEEDED, 3.0, None)
    assert end.texts == (Text(0, "Once."), Text(1, "Then."))
    assert list(show.shelf.kept) == [("t", 0), ("t", 1), ("t", 2)]


async def test_the_first_picture_is_an_input_of_the_later_ones_after_the_caller_s() -> None:
    show = Show(inputs=2)
    works = await show.finish()
    first = picture(7, SIZE)
    assert works[0].inputs == show.work.inputs
    assert works[1].inputs == works[2].inputs == (*show.work.inputs, first)


async def test_it_is_left_out_where_the_checkpoint_has_no_room_for_it() -> None:
    show = Show(inputs=3, most=3)
    assert {work.inputs for work in await show.finish()} == {show.work.inputs}


async def test_fewer_pictures_than_ordered_are_said_to_be_so() -> None:
    show = Show(TALE[:2], count=5)
    await show.finish(2)
    assert (await show.end).made == 2


async def test_steps_are_those_of_all_pictures_and_the_rest_is_foreseen() -> None:
    show = Show()
    work = await show.engine.next()
    show.engine.hear(Started(work.token, 4))
    assert (show.making.step, show.making.steps) == (0, 12)
    show.clock.advance(1.0)
    show.engine.hear(Stepped(work.token, 1, 4, left=3.0))
    assert (show.making.step, show.making.steps, show.making.left) == (1, 12, 3.0 + 2 * 4.0)
    show.engine.hear(Stepped(work.token, 4, 4, left=0.5))
    show.engine.make(work)
    later = await show.engine.next()
    show.engine.hear(Started(later.token, 4))
    assert (show.making.step, show.making.steps) == (4, 12)
    show.clock.advance(2.0)
    show.engine.hear(Stepped(later.token, 2, 4, left=2.0))
    assert (show.making.step, show.making.steps, show.making.left) == (6, 12, 2.0 + 4.0)
    show.end.cancel()


async def test_what_the_engine_still_says_of_an_earlier_picture_is_not_counted() -> None:
    show = Show()
    (work,) = await show.finish(1)
    await show.engine.next()
    show.engine.hear(Stepped(work.token, 1, 4, left=3.0))
    show.engine.hear(Failed(work.token, EngineFailed()))
    assert (show.making.step, show.end.done()) == (0, False)
    show.end.cancel()


async def test_a_picture_that_may_not_be_shown_is_lost_and_no_reference() -> None:
    show = Show()
    show.shelf.withheld = {0}
    _, second, third = await show.finish()
    assert second.inputs == ()
    assert third.inputs == (picture(8, SIZE),)
    end = await show.end
    assert (end.outcome, [(one.place, one.fault.name) for one in end.lost]) == (
        *(Outcome.SUCCEEDED, [(0, "OutputRefused")]),
    )
    assert end.made is None


async def test_when_none_may_be_shown_the_job_has_failed() -> None:
    show = Show(TALE[:2], count=2)
    show.shelf.withheld = {0, 1}
    await show.finish(2)
    end = await show.end
    assert (end.outcome, end.fault and end.fault.name) == (Outcome.FAILED, "OutputRefused")


async def test_a_picture_that_cannot_be_made_ends_the_job() -> None:
    show = Show()
    await show.finish(1)
    show.engine.hear(Failed((await show.engine.next()).token, EngineFailed("not finite")))
    end = await show.end
    assert (end.token, end.outcome, end.fault and end.fault.message) == ("t", Outcome.FAILED, "not finite")
    assert show.engine.works.empty()


async def test_an_engine_that_drops_a_picture_gives_the_job_back() -> None:
    show = Show()
    show.engine.hear(Cancelled((await show.engine.next()).token))
    assert (await show.end).outcome is Outcome.RELEASED


async def test_a_lost_lease_ends_the_picture_in_the_engine() -> None:
    show = Show()
    show.shelf.gone = True
    await show.finish(1)
    with pytest.raises(TokenGone):
        await show.end
    assert show.engine.cancelled == ["t/0"]


# the whole worker


@asynccontextmanager
async def working(place: Place) -> AsyncIterator[tuple[ByHand, Worker]]:
    engine, client = ByHand(), place.client()
    worker = Worker(engine, client, hello("w1"), room=2, clock=RealClock())
    task = asyncio.ensure_future(worker.run())
    try:
        yield engine, worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, 10.0)
        await client.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with lease_place(tmp_path) as made:
        yield made


STORY = "A fox wakes. It runs. It sleeps."


async def second_of_three(place: Place, engine: ByHand) -> str:
    """A story whose first picture is stored and whose second is in the making."""
    job_id = await place.submit(STORY, count=5, knobs={"enable_interleave": True})
    engine.make(await engine.next())
    assert (await engine.next()).prompt == "It runs."
    assert len(place.files()) == 1
    return job_id


def dropped(engine: ByHand, place: int) -> bool:
    """Whether the engine was told to drop the picture at that place: it hears of the job first, then of the picture."""
    return any(token.endswith(f"/{place}") for token in engine.cancelled)


async def test_a_story_becomes_a_job_s_pictures_and_texts(place: Place) -> None:
    async with working(place) as (engine, _):
        job_id = await place.submit(STORY, count=5, knobs={"enable_interleave": True})
        for _ in range(3):
            engine.make(await engine.next())
        job = await place.job(job_id)
    assert (job.state, len(job.images)) == (State.SUCCEEDED, 3)
    assert job.said.texts == ((0, "A fox wakes."), (1, "It runs."), (2, "It sleeps."))
    assert await place.charged() == 3
    assert await place.audited()


async def test_a_cancel_during_the_second_picture_ends_it_and_nothing_follows(place: Place) -> None:
    async with working(place) as (engine, _):
        job_id = await second_of_three(place, engine)
        await place.store.cancel(TENANT, job_id)
        await eventually(lambda: dropped(engine, 1))
        await eventually(lambda: not place.files())
        assert engine.works.empty()
    assert await place.charged() == 0
    assert await place.audited()


async def test_a_worker_that_stops_gives_the_job_back_and_the_next_makes_it_whole(place: Place) -> None:
    async with working(place) as (engine, _):
        job_id = await second_of_three(place, engine)
    assert dropped(engine, 1)
    assert ((await place.job(job_id, 0)).state, place.files()) == (State.QUEUED, [])
    async with working(place) as (engine, _):
        for _ in range(3):
            engine.make(await engine.next())
        job = await place.job(job_id)
    assert (job.state, job.attempt, len(job.images)) == (State.SUCCEEDED, 1, 3)
    assert await place.charged() == 3


async def test_a_job_past_its_deadline_ends_during_its_second_picture(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with lease_place(tmp_path, clock=clock) as place, working(place) as (engine, _):
        job_id = await second_of_three(place, engine)
        clock.advance(601.0)
        await place.store.sweep()
        await eventually(lambda: dropped(engine, 1))
        assert (await place.job(job_id, 0)).state is State.FAILED
        assert await place.charged() == 0
