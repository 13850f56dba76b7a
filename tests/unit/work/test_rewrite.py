"""When a prompt is rewritten, with how much time, and what the worker makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from danqing.core.job import State
from danqing.core.order import Brief, Knob
from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite, Panel
from danqing.work.aides import Aides
from danqing.work.rewrite import slowly, wanted
from danqing.work.run import Worker
from tests.support.clock import RealClock
from tests.support.fake_engine import FakeEngine
from tests.support.lease_place import SIZE, Place, hello, lease_place, raster


@dataclass
class Louder:
    """A rewriter that shouts; without a voice it cannot."""

    voice: bool = True
    asked: list[tuple[str, int, bool]] = field(default_factory=list)

    async def extend(self, prompt: str, inputs: Sequence[Raster], *, think: bool = False) -> str:
        self.asked.append((prompt, len(inputs), think))
        if not self.voice:
            raise CannotWrite("hoarse")
        return prompt.upper()

    async def series(self, prompt: str, inputs: Sequence[Raster], count: int) -> tuple[str, ...]:
        raise CannotWrite("no series")

    async def story(self, prompt: str, inputs: Sequence[Raster], most: int) -> tuple[Panel, ...]:
        raise CannotWrite("no story")


def brief(knobs: Mapping[str, Knob], inputs: tuple[str, ...] = ()) -> Brief:
    return Brief("any", "a cat", None, inputs, 1, SIZE, 7, knobs=knobs)


@pytest.mark.parametrize(
    ("knobs", "inputs", "expected"),
    [
        ({}, 0, False),
        ({"prompt_extend": False}, 0, False),
        ({"prompt_extend": True}, 0, True),
        ({"prompt_extend": True}, 2, True),
        ({"prompt_extend": False, "enable_thinking": True}, 0, False),
        ({"thinking_mode": True}, 0, True),
        ({"thinking_mode": True}, 1, False),
        ({"thinking_mode": False}, 0, False),
        ({"thinking_mode": True, "enable_sequential": True}, 0, False),
        ({"prompt_extend": True, "enable_interleave": True}, 0, False),
        ({"prompt_extend": "true"}, 0, False),
    ],
)
def test_rewriting_follows_the_knobs(knobs: dict[str, Knob], inputs: int, expected: bool) -> None:
    assert wanted(brief(knobs, ("0" * 64,) * inputs)) is expected


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"prompt_extend": True}, False),
        ({"prompt_extend": True, "enable_thinking": True}, True),
        ({"prompt_extend": True, "enable_thinking": False, "prompt_extend_mode": "agent"}, True),
        ({"prompt_extend": True, "enable_thinking": False, "prompt_extend_mode": "direct"}, False),
        ({"thinking_mode": True}, True),
    ],
)
def test_time_to_think_follows_them_too(knobs: dict[str, Knob], expected: bool) -> None:
    assert slowly(brief(knobs)) is expected


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with lease_place(tmp_path) as made:
        yield made


async def drawn(
    place: Place, rewriter: Louder | None, knobs: dict[str, Knob], inputs: int = 0
) -> tuple[str, str | None]:
    """The prompt that the engine got, and the one that is told."""
    engine, client = FakeEngine(), place.client()
    aides = Aides(rewriter=lambda _: rewriter)
    worker = Worker(engine, client, hello("w1"), room=2, clock=RealClock(), aides=aides)
    task = asyncio.ensure_future(worker.run())
    job_id = await place.submit("a cat", knobs=knobs, inputs=tuple(raster(str(i)) for i in range(inputs)))
    job = await place.job(job_id)
    worker.stop()
    await asyncio.wait_for(task, 10)
    await client.close()
    engine.close()
    assert job.state is State.SUCCEEDED
    return engine.started[0].prompt, job.said.prompt


async def test_the_engine_draws_from_the_rewritten_prompt_and_the_job_says_so(place: Place) -> None:
    rewriter = Louder()
    assert await drawn(place, rewriter, {"prompt_extend": True}, inputs=2) == ("A CAT", "A CAT")
    assert rewriter.asked == [("a cat", 2, False)]


async def test_nobody_is_asked_where_nobody_wants_it(place: Place) -> None:
    rewriter = Louder()
    assert await drawn(place, rewriter, {"prompt_extend": False}) == ("a cat", None)
    assert rewriter.asked == []


@pytest.mark.parametrize("rewriter", [None, Louder(voice=False)], ids=["nobody", "a failing one"])
async def test_without_a_rewriter_that_can_the_callers_prompt_is_drawn(
    place: Place, rewriter: Louder | None
) -> None:
    assert await drawn(place, rewriter, {"prompt_extend": True}) == ("a cat", None)
