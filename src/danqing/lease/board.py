"""How far each running job is, in memory: what a progress bar reads. The row in the store stays the only truth.

Also remembers the last ended jobs with their times, and counts ends, for metrics. Knows no socket and no clock.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace

from danqing.lease.messages import Outcome

MOST = 4096


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


class Board:
    """The latest of at most 4,096 jobs; the longest untouched one is forgotten first."""

    def __init__(self) -> None:
        """An empty board."""
        self._jobs: OrderedDict[str, Progress] = OrderedDict()
        self._ends: Counter[str] = Counter()
        self._seconds = 0.0

    def get(self, job_id: str) -> Progress | None:
        """What is known of a job; None for one that no worker has touched lately."""
        return self._jobs.get(job_id)

    def claimed(self, job_id: str) -> None:
        """An attempt begins from nothing."""
        self._put(job_id, Progress())

    def see(self, job_id: str, step: int, steps: int, left: float | None) -> None:
        """A worker told how far it is. Steps never go back within an attempt: a late message changes nothing."""
        before = self._jobs.get(job_id, Progress())
        if before.outcome is None and (step, steps) >= (before.step, before.steps):
            self._put(job_id, replace(before, step=step, steps=steps, left=left))

    def stored(self, job_id: str, images: int) -> None:
        """So many pictures of the job are stored."""
        self._put(job_id, replace(self._jobs.get(job_id, Progress()), images=images))

    def ended(self, job_id: str, outcome: Outcome, *, seconds: float, wall: float) -> None:
        """The attempt is over; a released job may be claimed again."""
        self._ends[outcome] += 1
        self._seconds += seconds
        before = self._jobs.get(job_id, Progress())
        self._put(job_id, replace(before, left=None, outcome=outcome, seconds=seconds, wall=wall))

    def forget(self, job_id: str) -> None:
        """The attempt was lost or cancelled."""
        self._jobs.pop(job_id, None)

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
