"""One moment by which something must be over, and how long to wait between tries until then. Knows no I/O."""

from __future__ import annotations

import random
from dataclasses import dataclass

from danqing.core.ports import Clock

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on `clock`'s monotonic scale, in seconds. Every timeout of one undertaking is asked of one of these."""

    clock: Clock
    at: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        """The deadline that many seconds from now."""
        return cls(clock, clock.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until then, never below 0."""
        return max(0.0, self.at - self.clock.monotonic())


def jitter(tries: int, dice: random.Random, *, longest: float = LONGEST_PAUSE) -> float:
    """Seconds to wait after `tries` failures (0 for the first): full jitter, uniform between 0 and
    min(longest, 0.05·2^tries), so that many callers that failed together do not come back together."""
    return dice.uniform(0.0, min(longest, FIRST_PAUSE * 2.0 ** min(tries, 30)))
