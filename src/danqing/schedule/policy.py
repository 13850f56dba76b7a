"""Which lanes advance next: a pure function of the lanes and the time. Knows no torch, no thread and no
clock."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from danqing.schedule.cost import Saturation, Stage


@dataclass(frozen=True, slots=True)
class Lane:
    """What a policy sees of one output picture in progress. Before its first step a job shows a single lane,
    as encoding and prefilling are done once for all its pictures. Times are seconds on one monotonic
    clock."""

    job: str
    index: int
    stage: Stage
    step: int
    tokens: int
    """Tokens of pictures that one denoising step of this lane computes."""
    arrived: float
    served: float
    """When the lane's job last advanced; its arrival if never."""
    left: float
    """Predicted seconds until the lane's job is finished; 0 where nothing is known yet."""
    tenant: str = ""
    solo: float = 0.0
    """Predicted seconds of the whole job, were it alone from its arrival on; 0 where nothing is known yet."""
    priority: int = 0
    """Higher goes before lower among the jobs of one tenant."""
    spent: float = 0.0
    """The tenant's account, see `shares`."""
    promised: float | None = None
    """Until when the end that was foretold at the job's start counts as kept, see `forecast`; None if none was."""
    company: Hashable = None
    """Lanes that step, of whatever job, can go through the device together where this is equal; None: not at all."""


class Policy(Protocol):
    """Chooses the next unit of work."""

    @property
    def heeds(self) -> bool:
        """Whether it heeds what was foretold: `Lane.promised`."""
        ...

    def choose(self, lanes: Sequence[Lane], now: float) -> tuple[Lane, ...]:
        """The lanes to advance together by one unit, the most urgent among them: all of one job and one stage, or of
        one company and all before a step; empty only if `lanes` is."""
        ...

    def width(self, tokens: int, lanes: int) -> int:
        """How many of a job's `lanes` lanes at one step, of so many tokens each, advance together."""
        ...

    def together(self, tokens: int, lanes: int) -> float:
        """Predicted time of one step of `lanes` lanes at once, over that of stepping them one after another."""
        ...


Rank = float | tuple[float, ...]
Urgency = Callable[[Lane, float], Rank]
"""The lower, the sooner."""

PROMISE = 3.0
"""A job should be done within so many times what it would take alone (the measure used by vLLM-Omni's issue 290)."""
PATIENCE = 20.0
"""And no job should be passed over by others of its tenant for longer than so many times that."""
SLACK = 0.25
"""An end that was foretold counts as kept if it is late by no more than this part of the time that was foretold. A
balance, found on paper: with less, more of what was foretold holds, and fewer jobs are done within `PROMISE`."""


@dataclass(frozen=True, slots=True)
class InOrder:
    """Serves the lane of lowest rank; ties by arrival, then by picture. With it go the lanes of the
    same job that stand at the same step, if stepping them together pays and `widest` allows, and then lanes of other
    jobs that are company, as far as the waits of all become less by it."""

    urgency: Urgency
    saturation: Saturation
    widest: int = 8

    @property
    def heeds(self) -> bool:
        """See `Policy.heeds`."""
        return self.urgency is by_promise

    def choose(self, lanes: Sequence[Lane], now: float) -> tuple[Lane, ...]:
        """See `Policy.choose`."""
        if not lanes:
            return ()
        first = min(lanes, key=lambda lane: (self.urgency(lane, now), lane.arrived, lane.job, lane.index))
        if self.heeds:
            first = _spared(first, lanes, now)
        if first.stage is not Stage.STEP:
            return (first,)
        at = (first.job, first.stage, first.step)
        peers = sorted(
            (one for one in lanes if (one.job, one.stage, one.step) == at), key=lambda one: one.index
        )
        group = tuple(peers[: self.width(first.tokens, len(peers))])
        group = group if first in group else (first,)
        others = [one for one in lanes if one.company == first.company and one.job != first.job]
        if first.company is None or not others:
            return group
        return self._joined(group, others, lanes, now)

    def _joined(
        self, group: tuple[Lane, ...], others: Sequence[Lane], lanes: Sequence[Lane], now: float
    ) -> tuple[Lane, ...]:
        """The group, and of the others, in their order, those whose company shortens the waits.

        One lane more makes the step longer, by less than a step of its own would take. All who are served before its
        job wait that much longer, its own job and all after it are spared the rest. So it joins while those who gain
        outweigh those who lose, and while the first one's time, stretched so for all that is left of it, keeps what
        was promised. No other tenant gets more lanes than the first one's, who has had least: who has more stepping
        would get more of every step, for good."""
        first = group[0]
        ranked = sorted(lanes, key=lambda lane: (self.urgency(lane, now), lane.arrived, lane.job))
        order = list(dict.fromkeys(lane.job for lane in ranked))
        for one in sorted(others, key=lambda one: (order.index(one.job), one.step, one.index)):
            if one.stage is not Stage.STEP or not self.saturation.pays(first.tokens, len(group) + 1):
                continue
            if len(group) >= self.widest:
                break
            if one.tenant != first.tenant and _of(one.tenant, group) >= _of(first.tenant, group):
                continue
            longer = self._length(first, len(group) + 1)
            more = longer - self._length(first, len(group))
            before = order.index(one.job)
            after = len(order) - before
            if before * more < after * (1.0 - more) and _kept(first, now, longer):
                group = (*group, one)
        return group

    def _length(self, lane: Lane, lanes: int) -> float:
        """Of a step of so many such lanes, over that of one."""
        return lanes * self.together(lane.tokens, lanes)

    def width(self, tokens: int, lanes: int) -> int:
        """See `Policy.width`."""
        most = max(1, min(lanes, self.widest, self.saturation.most // tokens))
        return most if self.saturation.pays(tokens, most) else 1

    def together(self, tokens: int, lanes: int) -> float:
        """See `Policy.together`."""
        return self.saturation.together(tokens, lanes)


def _of(tenant: str, lanes: Sequence[Lane]) -> int:
    """How many of the lanes are the tenant's."""
    return sum(lane.tenant == tenant for lane in lanes)


def _kept(lane: Lane, now: float, stretch: float) -> bool:
    """Whether what was promised of a job, and can be kept, still is if all that is left of it takes so many times as
    long."""
    due = lane.arrived + PROMISE * lane.solo
    for end in (due if lane.solo else None, lane.promised):
        if end is not None and now + lane.left <= end < now + lane.left * stretch:
            return False
    return True


def by_arrival(lane: Lane, _now: float) -> float:
    """First come, first served."""
    return lane.arrived


def by_turn(lane: Lane, _now: float) -> float:
    """Round robin between jobs: the one that has waited longest for its turn."""
    return lane.served


def by_rest(lane: Lane, _now: float) -> float:
    """Shortest remaining time first. Long jobs can starve: a baseline, not a default."""
    return lane.left


def by_promise(lane: Lane, now: float) -> tuple[float, ...]:
    """Fair between tenants; within one, the earliest promise first, of those that can still be kept.

    The tenant that has had least goes first. Of its jobs, one whose patience is at an end goes before all, then higher
    priority before lower, then those that can be done in time, the one due first; one that can no longer be yields to
    those, since its time would be taken from a promise that holds. Among the late the shortest rest goes first. None
    is dropped. Where nothing is known of a job's cost, its arrival counts as what is due. What was foretold of a job
    when it began is due too, for as long as it can be kept. (`InOrder` lets a late one go first all the same where
    nobody loses by it.)
    """
    due = _due(lane, now)
    last = _last(lane)
    if lane.solo and now >= last:
        return lane.spent, 0.0, 0.0, 0.0, last
    if not lane.solo or now + lane.left <= due:
        return lane.spent, 1.0, float(-lane.priority), 0.0, due
    return lane.spent, 1.0, float(-lane.priority), 1.0, lane.left


def by_entry(lane: Lane, now: float) -> tuple[float, ...]:
    """Which of those that wait for room is let in next: of the tenant that has had least, one whose patience is at an
    end, else the highest priority, and of those the one that came first."""
    if lane.solo and now >= _last(lane):
        return lane.spent, 0.0, 0.0, lane.arrived
    return lane.spent, 1.0, float(-lane.priority), lane.arrived


def _last(lane: Lane) -> float:
    """When the patience of the lane's job is at an end."""
    return lane.arrived + PATIENCE * lane.solo - lane.left


def _due(lane: Lane, now: float) -> float:
    """When the lane's job should be done."""
    due = lane.arrived + PROMISE * lane.solo
    if lane.promised is None or now + lane.left > lane.promised:
        return due
    return min(due, lane.promised) if now + lane.left <= due else lane.promised


def _spared(first: Lane, lanes: Sequence[Lane], now: float) -> Lane:
    """The shortest of the late jobs of the first one's tenant, if it is shorter than that one and all that would be
    done in time without it, the one due first first, still are when they come after it; else the first lane.

    Yielding costs a late job the whole time of those that it yields to, and is of use to them only where they are
    pressed. On paper this shortens the mean at load 0.85 by a tenth, and more is done in time, not less."""
    _, patient, priority, late, _ = by_promise(first, now)
    if not first.solo or not patient or late:
        return first
    mine: dict[str, Lane] = {}
    for lane in lanes:
        if (lane.tenant, float(-lane.priority)) == (first.tenant, priority) and lane.solo:
            mine.setdefault(lane.job, lane)
    behind = [lane for lane in mine.values() if now + lane.left > _due(lane, now) and lane.left < first.left]
    if not behind:
        return first
    best = min(behind, key=lambda lane: (lane.left, lane.arrived, lane.job))
    begin = now
    in_time = [lane for lane in mine.values() if now + lane.left <= _due(lane, now)]
    for lane in sorted(in_time, key=lambda lane: _due(lane, now)):
        end, due = begin + lane.left, _due(lane, now)
        if end > due:
            continue  # when its turn comes it is late itself, whoever goes first now
        if end + best.left > due:
            return first
        begin = end
    return best


POLICIES: dict[str, Urgency] = {
    "promise": by_promise,
    "arrival": by_arrival,
    "turn": by_turn,
    "rest": by_rest,
}
"""The first is the default, the others are what it is measured against."""
