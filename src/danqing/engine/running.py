"""What the loop holds of a job while it is being made. Plain data; knows no policy and no device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from danqing.core.job import Contract, Quality
from danqing.engine.families.contract import Family, Plan
from danqing.schedule.cost import Bill, Stage


@dataclass(slots=True)
class Picture:
    """One output picture of a running job: the family's own lane, and how far it is."""

    index: int
    lane: Any = None
    done: int = 0


@dataclass(slots=True)
class Running:
    """A job taken in: its plan, what its pictures share, and the pictures still to deliver."""

    plan: Plan
    checkpoint: str
    family: Family
    arrived: float
    served: float
    steps: int
    narrowed: bool = False
    """See `Contract.NARROWED`."""
    stage: Stage = Stage.ENCODE
    conditions: Any = None
    prefix: Any = None
    pictures: list[Picture] = field(default_factory=list)
    stepped: int = 0
    seconds: float = 0.0
    units: int = 0
    """Units of work done for it."""
    alone: bool = False
    """It ran out of memory beside others: it is made anew with the whole room to itself."""
    apart: bool = False
    """A step together with other jobs broke off: its pictures are stepped without company."""
    promised: float | None = None
    """See `Lane.promised`."""
    told: float | None = None
    """The end that was foretold last, on the engine's clock."""
    _rest: tuple[tuple[Bill, float], ...] = ()
    _rest_at: tuple[Stage, int, int, int] | None = None

    @property
    def quality(self) -> Quality:
        """How its pictures are made."""
        contract = Contract.NARROWED if self.narrowed else Contract.EXACT
        return Quality(contract, self.checkpoint, self.plan.preset, self.steps)

    def bill(self, stage: Stage, lanes: int = 1) -> Bill:
        """See `Family.bill`."""
        return self.family.bill(self.plan, stage, lanes)

    def rest(self, width: int) -> tuple[tuple[Bill, float], ...]:
        """The units that are still to come, and how many of each; `width` pictures go through a step together. Counted
        anew only when it may have changed: every job's is asked for before every step of any."""
        at = (self.stage, self.stepped, len(self.pictures), self.family.changes)
        if at != self._rest_at:
            before = {Stage.ENCODE: [Stage.ENCODE, Stage.PREFILL], Stage.PREFILL: [Stage.PREFILL]}
            steps = self.steps * self.plan.work.count - self.stepped
            self._rest = (
                *((self.bill(stage), 1.0) for stage in before.get(self.stage, [])),
                (self.bill(Stage.STEP, width), steps / width),
                (self.bill(Stage.DECODE), float(len(self.pictures))),
            )
            self._rest_at = at
        return self._rest

    @property
    def token(self) -> str:
        """The job's lease token."""
        return self.plan.work.token


@dataclass(frozen=True, slots=True)
class Cancel:
    """A wish to drop a work: when it came, and how many units the work had had by then."""

    at: float
    units: int


Part = tuple[Running, list[Picture]]
"""Pictures of a job that advance together."""
