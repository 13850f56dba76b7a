"""Who is next, as tables: the policies are pure functions of the lanes and the time."""

from __future__ import annotations

import pytest

from danqing.schedule.cost import Saturation, Stage
from danqing.schedule.policy import POLICIES, InOrder, Lane, by_arrival

ALONE = Saturation(half=0)
EAGER = Saturation(half=1000)


def lane(job: str, index: int = 0, *, stage: Stage = Stage.STEP, step: int = 0, **more: float) -> Lane:
    given = {"arrived": 0.0, "served": 0.0, "left": 0.0, **more}
    return Lane(job=job, index=index, stage=stage, step=step, tokens=64, **given)


A = lane("a", arrived=1, served=9, left=5)
B = lane("b", arrived=2, served=3, left=8)
C = lane("c", arrived=3, served=4, left=1)


@pytest.mark.parametrize(
    ("policy", "next_job"), [("promise", "a"), ("arrival", "a"), ("turn", "b"), ("rest", "c")]
)
def test_each_policy_has_its_own_next_job_whatever_the_order_of_the_lanes(policy: str, next_job: str) -> None:
    for lanes in ([A, B, C], [C, B, A], [B, A, C]):
        assert InOrder(POLICIES[policy], ALONE).choose(lanes, 10)[0].job == next_job


def test_nothing_to_do_chooses_nothing() -> None:
    assert InOrder(by_arrival, ALONE).choose([], 0) == ()


def test_first_come_is_served_to_its_end_picture_by_picture() -> None:
    lanes = [lane("a", 1, step=0), lane("a", 0, step=3), lane("b", 0, arrived=1)]
    assert InOrder(by_arrival, ALONE).choose(lanes, 0) == (lanes[1],)


@pytest.mark.parametrize(
    ("lanes", "together"),
    [
        ([lane("a", 0), lane("a", 1), lane("a", 2)], [0, 1, 2]),
        ([lane("a", 0, step=1), lane("a", 1), lane("a", 2, step=1)], [0, 2]),
        ([lane("a", 0), lane("b", 1)], [0]),
        ([lane("a", 0, stage=Stage.DECODE), lane("a", 1, stage=Stage.DECODE)], [0]),
        ([lane("a", 0, stage=Stage.ENCODE)], [0]),
        ([lane("a", place) for place in range(10)], [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_lanes_of_one_job_at_one_step_go_together_where_it_pays(
    lanes: list[Lane], together: list[int]
) -> None:
    assert [chosen.index for chosen in InOrder(by_arrival, EAGER).choose(lanes, 0)] == together
    assert len(InOrder(by_arrival, ALONE).choose(lanes, 0)) == 1


def promised(job: str, **more: float) -> Lane:
    return lane(job, **{"solo": 10.0, "left": 5.0, **more})


@pytest.mark.parametrize(
    ("lanes", "now", "first"),
    [
        ([promised("early", arrived=0), promised("late", arrived=1)], 2, "early"),
        ([promised("long", solo=40, left=30), promised("short", arrived=9, solo=2, left=2)], 10, "short"),
        ([promised("hopeless", left=20), promised("hopeful", arrived=14)], 15, "hopeful"),
        ([promised("hopeless", left=8), promised("less so", left=7)], 60, "less so"),
        ([promised("forgotten", left=9), promised("due", arrived=190)], 191, "forgotten"),
        ([promised("low"), promised("high", arrived=5, priority=1)], 6, "high"),
        ([promised("forgotten", left=9), promised("high", arrived=190, priority=9)], 191, "forgotten"),
        ([promised("served", spent=3.0), promised("waiting", arrived=9, spent=2.0)], 10, "waiting"),
        ([lane("unknown", arrived=3), promised("known", arrived=0)], 4, "unknown"),
    ],
)
def test_the_promise_that_can_be_kept_comes_first(lanes: list[Lane], now: float, first: str) -> None:
    for given in (lanes, lanes[::-1]):
        assert InOrder(POLICIES["promise"], ALONE).choose(given, now)[0].job == first
