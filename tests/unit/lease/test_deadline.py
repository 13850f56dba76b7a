from __future__ import annotations

import random

from danqing.lease.deadline import Deadline, jitter
from tests.support.clock import VirtualClock


def test_a_deadline_runs_down_to_nothing_and_no_further() -> None:
    clock = VirtualClock()
    deadline = Deadline.after(clock, 5.0)
    clock.advance(2.0)
    assert deadline.left() == 3.0
    clock.advance(10.0)
    assert deadline.left() == 0.0


def test_pauses_grow_are_spread_over_their_whole_range_and_are_bounded() -> None:
    dice = random.Random(1)
    for tries, most in ((0, 0.05), (3, 0.4), (5, 1.6), (6, 2.0), (10_000, 2.0)):
        pauses = [jitter(tries, dice) for _ in range(300)]
        assert 0 <= min(pauses) < most * 0.1
        assert most * 0.9 < max(pauses) <= most
