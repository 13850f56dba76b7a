"""Which lanes advance next: a pure function of the lanes and the time. Knows no torch, no thread and no
clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Target tokens of one picture: what one denoising step of this lane computes."""
    arrived: float
    served: float
    """When the lane's job last advanced; its arrival if never."""
    left: float
    """Predicted seconds until the lane's job is finished; 0 where nothing is known yet."""
    tenant: str = ""
    deadline: float | None = None


class Policy(Protocol):
    """Chooses the next unit of work."""

    def choose(self, lanes: Sequence[Lane], now: float) -> tuple[Lane, ...]:
        """The lanes to advance together by one unit, all of one job and one stage; empty only if `lanes` is."""
        ...

    def width(self, tokens: int, lanes: int) -> int:
        """How many of a job's `lanes` lanes at one step, of so many target tokens each, advance together."""
        ...


Urgency = Callable[[Lane, float], float]


@dataclass(frozen=True, slots=True)
class InOrder:
    """Serves the lane of lowest urgency number; ties by arrival, then by picture. With it go the lanes of the
    same job that stand at the same step, if stepping them together pays and `widest` allows."""

    urgency: Urgency
    saturation: Saturation
    widest: int = 8

    def choose(self, lanes: Sequence[Lane], now: float) -> tuple[Lane, ...]:
        """See `Policy.choose`."""
        if not lanes:
            return ()
        first = min(lanes, key=lambda lane: (self.urgency(lane, now), lane.arrived, lane.job, lane.index))
        if first.stage is not Stage.STEP:
            return (first,)
        at = (first.job, first.stage, first.step)
        peers = sorted(
            (one for one in lanes if (one.job, one.stage, one.step) == at), key=lambda one: one.index
        )
        group = tuple(peers[: self.width(first.tokens, len(peers))])
        return group if first in group else (first,)

    def width(self, tokens: int, lanes: int) -> int:
        """See `Policy.width`."""
        most = min(lanes, self.widest)
        return most if self.saturation.pays(tokens, most) else 1


def by_arrival(lane: Lane, _now: float) -> float:
    """First come, first served."""
    return lane.arrived


def by_turn(lane: Lane, _now: float) -> float:
    """Round robin between jobs: the one that has waited longest for its turn."""
    return lane.served


def by_rest(lane: Lane, _now: float) -> float:
    """Shortest remaining time first. Long jobs can starve: a baseline, not a default."""
    return lane.left


POLICIES: dict[str, Urgency] = {"arrival": by_arrival, "turn": by_turn, "rest": by_rest}
