"""Time for tests: a clock that moves only when told, and the machine's own."""

from __future__ import annotations

import time


class VirtualClock:
    """Stands still until `advance`; `jump` moves the wall alone, as an operator or NTP would. Thread-safe enough:
    a test moves it between calls, never during one."""

    def __init__(self, *, monotonic: float = 1_000.0, wall: float = 1_790_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        assert seconds >= 0, "monotonic time does not go back"
        self._monotonic += seconds
        self._wall += seconds

    def jump(self, seconds: float) -> None:
        self._wall += seconds


class RealClock:
    """The machine's clocks, for tests that start processes."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
