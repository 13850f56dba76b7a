"""A job whose pictures differ in their prompts, made one after the other: each is a work of its own to the engine,
under a token of its own, and the job stays one to everybody else.

The first picture that is delivered is an input of all later ones, after the caller's own, so that subject and style
stay. Picture i is made from `seed + i`, as in any job. Knows no planner and no checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from danqing.core.errors import Fault
from danqing.core.events import Event, Preview, Started, Stepped, Work
from danqing.core.ports import Engine
from danqing.core.raster import Raster
from danqing.core.writing import Panel
from danqing.lease.messages import End, Lost, Outcome, Text, Wrong
from danqing.work.finish import WITHHELD, Making, Shelf, deliver, withheld


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a script is performed: who makes its pictures, where they go, the most inputs that one picture may have,
    and a monotonic clock in seconds."""

    engine: Engine
    shelf: Shelf
    most_inputs: int
    now: Callable[[], float]


class Counting:
    """How far a whole job is, from what the engine tells of the picture it is at. Every picture yet to come is taken
    to be as long as this one."""

    def __init__(self, making: Making, pictures: int, now: Callable[[], float]) -> None:
        """Before the first picture."""
        self._making, self._pictures, self._now = making, pictures, now
        self._place = self._before = 0
        self._began = now()
        self.part = making

    def begin(self, place: int, part: Making) -> None:
        """The picture at `place` comes next; `part` takes what the engine tells of it."""
        self._place, self._before, self._began = place, self._making.step, self._now()
        self.part = part

    def hear(self, event: Event) -> None:
        """Count steps; everything else is for whoever makes the picture. What comes late, of a picture that was given
        up, is nobody's."""
        if event.token != self.part.lease.token:
            return
        making, later = self._making, self._pictures - self._place - 1
        match event:
            case Started(steps=steps, unit=unit):
                making.steps, making.unit = self._before + steps * (later + 1), unit
            case Stepped(step=step, steps=steps, left=left):
                making.step, making.steps = self._before + step, self._before + steps * (later + 1)
                making.told = self._now()
                spent = making.told - self._began
                making.left = None if left is None else left + (spent + left) * later
            case Preview():
                making.preview = replace(event, token=making.lease.token, index=self._place)
            case _:
                self.part.events.put_nowait(event)


class _Part:
    """The shelf of one picture: what comes first of its own goes to its place in the job, and is remembered."""

    def __init__(self, shelf: Shelf, token: str, place: int) -> None:
        self._shelf, self._token, self._place = shelf, token, place
        self.picture: Raster | None = None

    async def image(self, token: str, index: int, raster: Raster) -> None:  # noqa: ARG002 (the job's own count)
        await self._shelf.image(self._token, self._place, raster)
        self.picture = raster


async def perform(making: Making, work: Work, panels: Sequence[Panel], stage: Stage) -> End:
    """Make the pictures of a script in order; `work` is what they share. A picture that cannot be made ends the job,
    one that may not be shown is lost and the others go on. Raises what `deliver` raises."""
    counting = Counting(making, len(panels), stage.now)
    making.hear = counting.hear
    reference: Raster | None = None
    lost: dict[int, Fault] = {}
    seconds = 0.0
    quality = None
    for place, panel in enumerate(panels):
        one = _one(work, place, panel, reference if len(work.inputs) < stage.most_inputs else None)
        shelf = _Part(stage.shelf, work.token, place)
        end = await _made(making, one, counting, place, stage=replace(stage, shelf=shelf))
        seconds += end.seconds
        quality = quality or end.quality
        if end.fault is not None and isinstance(fault := end.fault.fault(), WITHHELD):
            lost[place] = fault
        elif end.outcome is not Outcome.SUCCEEDED:
            return replace(end, token=work.token)
        reference = shelf.picture if reference is None else reference
    if len(lost) == len(panels):
        return withheld(work.token, lost)
    return End(
        work.token,
        Outcome.SUCCEEDED,
        seconds=seconds,
        wall=stage.now() - making.claimed,
        lost=tuple(Lost(place, Wrong.of(fault)) for place, fault in lost.items()),
        made=len(panels) if len(panels) < making.lease.brief.count else None,
        texts=tuple(Text(place, panel.text) for place, panel in enumerate(panels) if panel.text),
        quality=quality,
    )


def _one(work: Work, place: int, panel: Panel, reference: Raster | None) -> Work:
    """The engine's work for one picture."""
    return replace(
        work,
        token=f"{work.token}/{place}",
        prompt=panel.prompt,
        inputs=work.inputs if reference is None else (*work.inputs, reference),
        count=1,
        seed=work.seed + place,
    )


async def _made(making: Making, one: Work, counting: Counting, place: int, *, stage: Stage) -> End:
    """How one picture went, which is told as the end of a job would be. Whatever keeps us from waiting for it ends it
    in the engine too."""
    lease = replace(making.lease, token=one.token, brief=replace(making.lease.brief, count=1, seed=one.seed))
    part = Making(lease, stage.now())
    counting.begin(place, part)
    stage.engine.start(one)
    try:
        return await deliver(part, stage.shelf, stage.now)
    except BaseException:
        stage.engine.cancel(one.token)
        raise
