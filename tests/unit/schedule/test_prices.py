"""What jobs cost, learned from their ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danqing.core.order import Brief
from danqing.core.raster import Size
from danqing.schedule.prices import MOST, Prices, weight

BRIEF = Brief("painter", "a cat", None, (), 1, Size(1024, 1024), 1)


def test_nothing_is_known_of_a_model_whose_jobs_never_ended() -> None:
    prices = Prices()
    prices.learn(BRIEF, 4.0)
    assert prices.seconds(BRIEF) == 4.0
    assert prices.seconds(replace(BRIEF, model="other")) is None
    assert prices.weight(replace(BRIEF, model="other", count=3)) == 3.0


def test_a_kind_never_seen_is_priced_by_what_it_asks_for() -> None:
    prices = Prices()
    prices.learn(BRIEF, 4.0)
    assert prices.seconds(replace(BRIEF, count=2)) == pytest.approx(8.0)
    assert prices.seconds(replace(BRIEF, inputs=("a", "b"))) == pytest.approx(12.0)
    prices.learn(replace(BRIEF, inputs=("a", "b")), 30.0)
    assert prices.seconds(replace(BRIEF, inputs=("c", "d"))) == 30.0


def test_prices_follow_a_device_that_became_slower() -> None:
    prices = Prices()
    for seconds in (4.0, *[8.0] * 30):
        prices.learn(BRIEF, seconds)
    assert prices.seconds(BRIEF) == pytest.approx(8.0, rel=0.01)


def test_queue_weights_are_seconds_beside_those_of_the_others() -> None:
    prices = Prices()
    slow = replace(BRIEF, model="slow")
    for _ in range(40):
        prices.learn(BRIEF, 1.0)
        prices.learn(slow, 9.0)
    assert prices.weight(slow) / prices.weight(BRIEF) == pytest.approx(9.0)
    assert weight(slow) == weight(BRIEF) == 1.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_times_that_are_none_teach_nothing(seconds: float) -> None:
    prices = Prices()
    prices.learn(BRIEF, seconds)
    assert prices.seconds(BRIEF) is None


def test_only_so_many_kinds_are_remembered() -> None:
    prices = Prices()
    prices.learn(BRIEF, 5.0)
    for count in range(2, MOST + 3):
        prices.learn(replace(BRIEF, count=count), count * 1.0)
    assert prices.seconds(BRIEF) == pytest.approx(1.0, abs=0.01)
