"""Keeps a device with one checkpoint for a while, where modules come and go and each change costs seconds.

What is fair from step to step would otherwise swap two large transformers with every step. Knows no policy: it only
leaves out the lanes of others for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from danqing.engine.residence import Residence
from danqing.schedule.policy import Lane

PATIENCE = 5.0
"""A checkpoint stays for so many times what it took to bring it: at most a sixth of the time goes into changing."""


class Stay:
    """For the engine's thread alone."""

    def __init__(self, moving: Mapping[str, Residence], now: Callable[[], float]) -> None:
        """`moving` are the checkpoints whose modules come and go, with the residence that they share."""
        self._residence, self._now = next(iter(moving.values()), None), now
        self._with, self._since, self._before = "", 0.0, 0.0

    @property
    def brought(self) -> float:
        """Seconds spent on bringing modules so far."""
        return 0.0 if self._residence is None else self._residence.brought

    def offer(self, lanes: Sequence[Lane], checkpoint: Callable[[Lane], str]) -> Sequence[Lane]:
        """Those that may be chosen: for a while after a change only the same checkpoint's, while it has any."""
        if self._residence is None or self._now() - self._since >= PATIENCE * (self.brought - self._before):
            return lanes
        return [lane for lane in lanes if checkpoint(lane) == self._with] or lanes

    def turn(self, checkpoint: str) -> None:
        """A unit of that checkpoint's comes next."""
        if checkpoint != self._with:
            self._with, self._since, self._before = checkpoint, self._now(), self.brought
