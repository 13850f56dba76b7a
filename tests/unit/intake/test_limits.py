"""The rate limiter, on a time that the test moves."""

from __future__ import annotations

from danqing.core.models import Rate
from danqing.intake.limits import Limiter

TWO_A_MINUTE = Rate(2, 60.0)


def test_the_limit_passes_at_once_and_the_next_is_told_when_to_come() -> None:
    limiter = Limiter()
    assert limiter.admit("k", TWO_A_MINUTE, 100.0).admitted
    assert limiter.admit("k", TWO_A_MINUTE, 100.0).admitted
    refused = limiter.admit("k", TWO_A_MINUTE, 100.0)
    assert not refused.admitted
    assert refused.after == 30.0


def test_one_interval_later_one_more_passes_and_no_second() -> None:
    limiter = Limiter()
    for _ in range(3):
        limiter.admit("k", TWO_A_MINUTE, 0.0)
    assert not limiter.admit("k", TWO_A_MINUTE, 29.9).admitted
    assert limiter.admit("k", TWO_A_MINUTE, 30.0).admitted
    assert not limiter.admit("k", TWO_A_MINUTE, 30.0).admitted


def test_refused_requests_do_not_push_the_time_on() -> None:
    limiter = Limiter()
    for _ in range(100):
        limiter.admit("k", TWO_A_MINUTE, 0.0)
    assert limiter.admit("k", TWO_A_MINUTE, 30.0).admitted


def test_callers_do_not_share() -> None:
    limiter = Limiter()
    one = Rate(1, 60.0)
    assert limiter.admit(("a", "m"), one, 0.0).admitted
    assert limiter.admit(("b", "m"), one, 0.0).admitted
    assert not limiter.admit(("a", "m"), one, 0.0).admitted


def test_over_a_long_time_the_rate_holds() -> None:
    limiter = Limiter()
    admitted = sum(limiter.admit("k", Rate(2, 1.0), step / 100).admitted for step in range(1000))
    assert admitted in (20, 21)


def test_memory_is_bounded() -> None:
    limiter = Limiter(most=10)
    for caller in range(100):
        limiter.admit(caller, TWO_A_MINUTE, 0.0)
    assert len(limiter._arrivals) == 10
