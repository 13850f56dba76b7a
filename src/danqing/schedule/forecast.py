"""When each job of a device will be done: the policy played forward over what is there. Pure: knows no thread.

What will still come is not foreseen: by how much it delays those who are there, `Outlook` learns from what it said and
what became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from danqing.schedule.cost import Stage
from danqing.schedule.policy import SLACK, Lane, Policy

_GRAIN = 8
"""Equal units are played as one, of an eighth of what was played already: what is near is played finely."""
_MOST_SAVED = 0.05
"""Seconds of looking ahead that may be saved up."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A job with work before it: one lane that stands for all of it, and the seconds of its next unit."""

    lane: Lane
    unit: float


def ends(
    jobs: Sequence[Ahead], policy: Policy, now: float, *, room: int | None = None, until: str | None = None
) -> dict[str, float]:
    """Seconds from `now` until each job's end, if nothing else comes; no further than the end of `until`. The first
    `room` jobs are on the device, the others enter in their order as those leave. A job with nothing left ends at
    once. Jobs that step together are played together, at the time that such a step takes."""
    inside = {one.lane.job: one for one in jobs[:room] if one.lane.left > 0}
    coming = [one for one in jobs[len(jobs[:room]) :] if one.lane.left > 0]
    coming.reverse()
    done = {one.lane.job: 0.0 for one in jobs if one.lane.left <= 0}
    accounts = _accounts(jobs)
    passed = 0.0
    while (inside or coming) and until not in done:
        if len(inside) == 1 and not coming:  # nobody to choose between
            ((last, one),) = inside.items()
            done[last] = passed + one.lane.left
            break
        while coming and (room is None or len(inside) < room):
            entering = coming.pop()
            inside[entering.lane.job] = entering
        lanes = policy.choose([one.lane for one in inside.values()], now + passed)
        group = [inside[lane.job] for lane in lanes]
        units = min(max(1.0, passed / _GRAIN / group[0].unit), *(one.lane.left / one.unit for one in group))
        each = units * policy.together(lanes[0].tokens, len(lanes))
        passed += sum(each * one.unit for one in group)
        for one in group:
            left = one.lane.left - units * one.unit
            if left <= 1e-9 * passed:
                done[one.lane.job] = passed
                del inside[one.lane.job]
            else:
                # What comes before the steps is few units: after the first, it counts as having come to its steps.
                moved = replace(one.lane, left=left, served=now + passed, stage=Stage.STEP)
                inside[one.lane.job] = replace(one, lane=moved)
            if len(accounts) > 1:
                accounts[one.lane.tenant] += each * one.unit
                _book(inside, one.lane.tenant, accounts[one.lane.tenant])
    return done


def _accounts(jobs: Sequence[Ahead]) -> dict[str, float]:
    """What each tenant's account stands at."""
    return {one.lane.tenant: one.lane.spent for one in jobs}


def _book(inside: dict[str, Ahead], tenant: str, spent: float) -> None:
    """The tenant's account moved: all its lanes show it."""
    for name, one in inside.items():
        if one.lane.tenant == tenant:
            inside[name] = replace(one, lane=replace(one.lane, spent=spent))


@dataclass(slots=True)
class _Said:
    """What was foretold of a job when it began: when, and how many seconds without the allowance."""

    at: float
    seconds: float


@dataclass(slots=True)
class Outlook:
    """The ends that an engine foretells, and how well it does. `share` is the part of the clock's time that foretelling
    may take; what is asked beyond is answered from the last play."""

    policy: Policy
    clock: Callable[[], float]
    share: float = 0.01
    allowance: float = 1.0
    """Learned: what jobs took over what was foretold when they began."""
    _saved: float = _MOST_SAVED
    _asked: float | None = None
    _ends: dict[str, float] = field(default_factory=dict)
    _said: dict[str, _Said] = field(default_factory=dict)

    def look(
        self, jobs: Callable[[], Sequence[Ahead]], *, fresh: bool = True, until: str | None = None
    ) -> bool:
        """Play forward from now, to the end of all or of one, if there is time for it; whether it was done. Half of
        the time saved up is kept for `fresh` looks, at what has changed."""
        now = self.clock()
        if self._asked is not None:
            self._saved = min(_MOST_SAVED, self._saved + self.share * (now - self._asked))
        self._asked = now
        if self._saved <= (0.0 if fresh else _MOST_SAVED / 2):
            return False
        played = ends(jobs(), self.policy, now, until=until)
        self._ends = {job: now + seconds for job, seconds in played.items()}
        self._saved -= self.clock() - now
        return True

    def left(self, job: str) -> float | None:
        """Predicted seconds until the job's end; None for one that was not there when there last was time to look."""
        end = self._ends.get(job)
        return None if end is None else max(0.0, end - self.clock()) * self.allowance

    def begin(self, job: str) -> float | None:
        """The job begins: what is foretold of it now is a promise. Answers until when it counts as kept."""
        left = self.left(job)
        if left is None:
            return None
        now = self.clock()
        self._said[job] = _Said(now, left / self.allowance)
        return now + left * (1 + SLACK)

    def end(self, job: str, *, finished: bool) -> None:
        """The job is gone; one that was finished teaches."""
        self._ends.pop(job, None)
        said = self._said.pop(job, None)
        if finished and said is not None and said.seconds > 0:
            took = (self.clock() - said.at) / said.seconds
            self.allowance += 0.05 * (min(2.0, max(0.5, took)) - self.allowance)
            self.allowance = min(1.25, max(0.8, self.allowance))
