"""How far each running job is, in memory: what a progress bar reads. The row in the store stays the only truth.

Also keeps what jobs of several prompts have shown so far, for whoever follows one of them; remembers the last ended
jobs with their times, and counts ends, for metrics. Who watches a job is woken whenever it gets anywhere, and finds
its newest previews here and its stored pictures. Knows no socket and no clock.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from danqing.core.job import Image
from danqing.core.writing import Panel
from danqing.lease.messages import Outcome, Shown

MOST = 4096
MOST_TALES = 256


@dataclass(frozen=True, slots=True)
class Progress:
    """One job: `step` of `steps` (0 of 0 before it started), the predicted rest `left` in seconds or None, the number
    of pictures stored, and, once ended, its outcome, its engine `seconds` and the `wall` seconds from the claim to
    the last stored picture."""

    step: int = 0
    steps: int = 0
    left: float | None = None
    images: int = 0
    outcome: Outcome | None = None
    seconds: float = 0.0
    wall: float = 0.0


@dataclass(slots=True, eq=False)
class Tale:
    """What a job has shown so far: its panels once a worker has told them, and its stored pictures by place."""

    panels: tuple[Panel, ...] = ()
    pictures: dict[int, Image] = field(default_factory=dict)
    followers: int = 0
    watchers: int = 0
    """Those of the followers who want previews."""
    glimpses: dict[int, Shown] = field(default_factory=dict)
    """The newest preview of each picture that is not stored yet."""
    turns: int = 0
    """How often there was more to show."""
    _turned: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self, seen: int) -> int:
        """Wait until there is more to show than after so many turns; answers how many there are."""
        while self.turns == seen:
            await self._turned.wait()
        return self.turns

    def turn(self) -> None:
        """There is more to show."""
        self.turns += 1
        self._turned.set()
        self._turned = asyncio.Event()


class Board:
    """The latest of at most 4,096 jobs; the longest untouched one is forgotten first. Of tales that nobody follows it
    keeps 256."""

    def __init__(self) -> None:
        """An empty board."""
        self._jobs: OrderedDict[str, Progress] = OrderedDict()
        self._tales: OrderedDict[str, Tale] = OrderedDict()
        self._pictures: OrderedDict[str, dict[int, Image]] = OrderedDict()
        self._ends: Counter[str] = Counter()
        self._seconds = 0.0
        self._engines: dict[str, Mapping[str, float]] = {}

    def get(self, job_id: str) -> Progress | None:
        """What is known of a job; None for one that no worker has touched lately."""
        return self._jobs.get(job_id)

    def claimed(self, job_id: str) -> None:
        """An attempt begins from nothing."""
        self._pictures.pop(job_id, None)
        self._put(job_id, Progress())
        self._turn(job_id, anew=True)

    def see(self, job_id: str, step: int, steps: int, left: float | None) -> None:
        """A worker told how far it is. Steps never go back within an attempt: one that is made anew for want of memory
        only has more left for a while."""
        before = self._jobs.get(job_id, Progress())
        if before.outcome is None:
            step, steps = max((step, steps), (before.step, before.steps))
            self._put(job_id, replace(before, step=step, steps=steps, left=left))
            self._turn(job_id)

    def stored(self, job_id: str, images: int) -> None:
        """So many pictures of the job are stored."""
        self._put(job_id, replace(self._jobs.get(job_id, Progress()), images=images))

    def ended(self, job_id: str, outcome: Outcome, *, seconds: float, wall: float) -> None:
        """The attempt is over; a released job may be claimed again."""
        self._ends[outcome] += 1
        self._seconds += seconds
        before = self._jobs.get(job_id, Progress())
        self._put(job_id, replace(before, left=None, outcome=outcome, seconds=seconds, wall=wall))
        self._pictures.pop(job_id, None)
        self._turn(job_id, anew=True)
        if outcome is not Outcome.RELEASED and not self.followed(job_id):
            self._tales.pop(job_id, None)

    def forget(self, job_id: str) -> None:
        """The attempt was lost or cancelled."""
        self._jobs.pop(job_id, None)
        self._pictures.pop(job_id, None)
        self._turn(job_id, anew=True)

    # -- engines

    def count(self, worker: str, figures: Mapping[str, float]) -> None:
        """What a worker's engine counts of itself, as of now."""
        self._engines[worker] = figures

    def gone(self, worker: str) -> None:
        """The worker's process has ended, and its counts with it."""
        self._engines.pop(worker, None)

    def engines(self) -> Mapping[str, Mapping[str, float]]:
        """The latest figures of each engine, by the name of its worker."""
        return self._engines

    # -- tales

    def tell(self, job_id: str, panels: tuple[Panel, ...]) -> tuple[Panel, ...]:
        """What the job is made of, a panel a picture. The first word stands: later ones are answered with it."""
        tale = self._tale(job_id)
        tale.panels = tale.panels or panels
        tale.turn()
        return tale.panels

    def show(self, job_id: str, place: int, image: Image) -> None:
        """A picture of the job is stored."""
        self._pictures.setdefault(job_id, {})[place] = image
        while len(self._pictures) > MOST:
            self._pictures.popitem(last=False)
        tale = self._tales.get(job_id)
        if tale is not None:
            tale.pictures[place] = image
            tale.glimpses.pop(place, None)
            tale.turn()

    def pictures(self, job_id: str) -> Mapping[int, Image]:
        """The stored pictures of the job's present attempt, by place."""
        return self._pictures.get(job_id, {})

    def glimpse(self, job_id: str, shown: Shown) -> None:
        """A preview came; of interest where somebody watches, until the picture itself is there."""
        tale = self._tales.get(job_id)
        if tale is not None and tale.watchers and shown.index not in self.pictures(job_id):
            tale.glimpses[shown.index] = shown
            tale.turn()

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Tale]:
        """As `follow`, for someone who wants previews too."""
        with self.follow(job_id) as tale:
            tale.watchers += 1
            try:
                yield tale
            finally:
                tale.watchers -= 1
                if not tale.watchers:
                    tale.glimpses.clear()

    def watched(self, job_id: str) -> bool:
        """Whether somebody wants previews of the job."""
        tale = self._tales.get(job_id)
        return tale is not None and tale.watchers > 0

    def _turn(self, job_id: str, *, anew: bool = False) -> None:
        """Wake whoever follows the job; what was seen of an attempt that is over is forgotten."""
        tale = self._tales.get(job_id)
        if tale is not None:
            if anew:
                tale.glimpses.clear()
            tale.turn()

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Tale]:
        """The job's tale, which is not forgotten meanwhile."""
        tale = self._tale(job_id)
        tale.followers += 1
        try:
            yield tale
        finally:
            tale.followers -= 1

    def followed(self, job_id: str) -> bool:
        """Whether somebody follows the job."""
        tale = self._tales.get(job_id)
        return tale is not None and tale.followers > 0

    def _tale(self, job_id: str) -> Tale:
        tale = self._tales.setdefault(job_id, Tale())
        self._tales.move_to_end(job_id)
        idle = [name for name, other in self._tales.items() if not other.followers and name != job_id]
        for name in idle[: max(0, len(idle) + 1 - MOST_TALES)]:
            del self._tales[name]
        return tale

    def figures(self) -> dict[str, float]:
        """Counts of ends by outcome, and engine seconds in all, since the server started."""
        return {
            **{outcome.value: float(self._ends[outcome]) for outcome in Outcome},
            "engine_seconds": self._seconds,
        }

    def _put(self, job_id: str, progress: Progress) -> None:
        self._jobs[job_id] = progress
        self._jobs.move_to_end(job_id)
        while len(self._jobs) > MOST:
            self._jobs.popitem(last=False)
