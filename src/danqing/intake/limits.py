"""How often a caller may submit. Pure arithmetic on a given time; quotas of pictures are the store's account.

The generic cell rate algorithm (ITU-T I.371, annex A): each admitted request moves a theoretical arrival time on by
one interval, and a request is early when that time lies further ahead than the burst allows. One float a caller.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from danqing.core.errors import RateExceeded
from danqing.core.models import Rate

MOST_CALLERS = 65_536


@dataclass(frozen=True, slots=True)
class Pace:
    """The outcome of one request: admitted, or in how many seconds it would be."""

    admitted: bool
    after: float = 0.0


class Limiter:
    """Counts requests by any key, such as (API key, model); refused ones leave no trace."""

    def __init__(self, most: int = MOST_CALLERS) -> None:
        """`most` bounds the memory: the callers longest unseen are forgotten first."""
        self._arrivals: OrderedDict[Hashable, float] = OrderedDict()
        self._most = most

    def admit(self, caller: Hashable, rate: Rate, now: float) -> Pace:
        """One request at `now` (monotonic seconds): at most `rate.limit` at once, refilled evenly."""
        interval = rate.seconds / rate.limit
        arrival = max(self._arrivals.get(caller, now), now)
        early = arrival - now - (rate.seconds - interval)
        if early > 1e-9:  # a request exactly on time must not fail by rounding
            return Pace(False, early)
        self._arrivals[caller] = arrival + interval
        self._arrivals.move_to_end(caller)
        while len(self._arrivals) > self._most:
            self._arrivals.popitem(last=False)
        return Pace(True)

    def require(self, caller: Hashable, rate: Rate, now: float) -> None:
        """Count one request at `now`. Raises RateExceeded."""
        pace = self.admit(caller, rate, now)
        if not pace.admitted:
            raise RateExceeded(after=pace.after)
