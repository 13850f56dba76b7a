"""Pictures that are looked at before they are worked on or leave: what is stored, charged and told then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from danqing.core.blobkeys import input_key
from danqing.core.checking import Inspect, Role
from danqing.core.errors import Fault, InputRefused, OutputRefused, Unchecked
from danqing.core.job import State
from danqing.core.raster import Raster
from danqing.work.aides import Aides
from danqing.work.run import Worker
from tests.support.clock import RealClock
from tests.support.eventually import eventually
from tests.support.fake_engine import FakeEngine, picture
from tests.support.lease_place import SIZE, TENANT, Place, hello, lease_place, raster


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with lease_place(tmp_path) as made:
        yield made


@asynccontextmanager
async def working(place: Place, engine: FakeEngine, aides: Aides) -> AsyncIterator[None]:
    client = place.client()
    worker = Worker(engine, client, hello("w1"), room=2, clock=RealClock(), aides=aides)
    task = asyncio.ensure_future(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait_for(task, 10.0)
        await client.close()
        engine.close()


def withholds(faults: dict[int, type[Fault]]) -> Inspect:
    """Raises the fault of each picture by its place, told by its pixels as the engine makes them of seed 7."""
    places = {picture(7 + place, SIZE).digest(): fault for place, fault in faults.items()}

    async def inspect(raster: Raster, role: Role, prompt: str) -> None:
        assert (role, prompt) == (Role.OUTPUT, "a cat")
        if raster.digest() in places:
            raise places[raster.digest()]

    return inspect


async def test_a_refused_picture_is_missing_uncharged_and_not_stored(place: Place) -> None:
    aides = Aides(look_out=withholds({0: OutputRefused, 2: Unchecked}))
    async with working(place, FakeEngine(), aides):
        job = await place.job(await place.submit(count=4))
    assert job.state is State.SUCCEEDED
    assert {lost: type(fault) for lost, fault in job.lost.items()} == {0: OutputRefused, 2: Unchecked}
    files = [await place.blobs.read(image.key) for image in job.images]
    assert files == [f"{picture(7 + place, SIZE).digest()} False".encode() for place in (1, 3)]
    assert len(place.files()) == 2
    assert await place.charged() == 2
    assert await place.audited()


@pytest.mark.parametrize(
    ("faults", "fault"),
    [
        ({0: OutputRefused, 1: OutputRefused}, OutputRefused),
        ({0: OutputRefused, 1: Unchecked}, Unchecked),
        ({0: Unchecked, 1: Unchecked}, Unchecked),
    ],
)
async def test_when_no_picture_may_leave_the_job_fails(
    place: Place, faults: dict[int, type[Fault]], fault: type[Fault]
) -> None:
    async with working(place, FakeEngine(), Aides(look_out=withholds(faults))):
        job = await place.job(await place.submit(count=2))
    assert (job.state, type(job.fault)) == (State.FAILED, fault)
    assert place.files() == []
    assert await place.charged() == 0
    assert await place.audited()


async def test_the_engine_goes_on_while_a_picture_is_looked_at(place: Place) -> None:
    looking, seen = asyncio.Event(), list[str]()

    async def inspect(raster: Raster, role: Role, prompt: str) -> None:
        seen.append(prompt)
        if prompt == "first":
            await looking.wait()

    engine = FakeEngine()
    async with working(place, engine, Aides(look_out=inspect)):
        first = await place.submit("first", count=2)
        await eventually(lambda: seen)
        second = await place.job(await place.submit("second"))
        assert second.state is State.SUCCEEDED
        assert (await place.job(first, 0)).state is State.RUNNING
        looking.set()
        assert (await place.job(first)).state is State.SUCCEEDED


async def refuse_inputs(raster: Raster, role: Role, prompt: str) -> None:
    assert role is Role.INPUT
    raise InputRefused


async def test_an_order_with_a_refused_input_is_never_begun_and_its_inputs_go(place: Place) -> None:
    engine = FakeEngine()
    one, two = raster("one"), raster("two")
    async with working(place, engine, Aides(look_in=refuse_inputs)):
        job = await place.job(await place.submit(inputs=(one, two)))
        assert (job.state, type(job.fault)) == (State.FAILED, InputRefused)
        keys = [input_key(TENANT, digest) for digest in job.brief.inputs]
        await eventually(lambda: _gone(place, keys))
    assert engine.started == []
    assert await place.charged() == 0
    assert await place.audited()


async def test_an_input_that_another_job_has_stays(place: Place) -> None:
    async def inspect(raster: Raster, role: Role, prompt: str) -> None:
        if prompt == "refused":
            raise InputRefused

    shared, own = raster("shared"), raster("own")
    async with working(place, FakeEngine(), Aides(look_in=inspect)):
        fine = await place.job(await place.submit("fine", inputs=(shared,)))
        refused = await place.job(await place.submit("refused", inputs=(shared, own)))
        assert (fine.state, refused.state) == (State.SUCCEEDED, State.FAILED)
        await eventually(lambda: _gone(place, [input_key(TENANT, own.digest())]))
    assert await place.blobs.has(input_key(TENANT, shared.digest()))


async def test_a_picture_given_twice_is_looked_at_once(place: Place) -> None:
    seen = []

    async def inspect(raster: Raster, role: Role, prompt: str) -> None:
        seen.append(raster)

    one, two = raster("one"), raster("two")
    async with working(place, FakeEngine(), Aides(look_in=inspect)):
        assert (await place.job(await place.submit(inputs=(one, two, one)))).state is State.SUCCEEDED
    assert seen == [one, two]


async def _gone(place: Place, keys: list[str]) -> bool:
    return not any([await place.blobs.has(key) for key in keys])
