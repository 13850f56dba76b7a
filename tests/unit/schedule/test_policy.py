"""Who is next, as tables: the policies are pure functions of the lanes and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from danqing.schedule.cost import Saturation, Stage
from danqing.schedule.policy import POLICIES, InOrder, Lane, by_arrival, by_rest

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


LONG = {"solo": 40.0, "left": 40.0}
SHORT = {"arrived": 45.0, "solo": 2.0, "left": 2.0}


@pytest.mark.parametrize(
    ("now", "first"), [(50, "short"), (77, "short"), (78.5, "long a")], ids=["of two", "just", "pressed"]
)
def test_a_late_job_yields_only_where_somebody_in_time_gains_by_it(now: float, first: str) -> None:
    """Of two long ones the second will be late in any case: that is no reason to let a short one wait for both."""
    lanes = [promised("long a", **LONG), promised("long b", **LONG), promised("short", **SHORT)]
    for given in (lanes, lanes[::-1]):
        assert InOrder(POLICIES["promise"], ALONE).choose(given, now)[0].job == first


# lanes of several jobs in one step

FULL_AT_36 = Saturation(half=36, most=512)


def crowd(*lefts: float, tokens: int = 64, **more: Any) -> list[Lane]:
    """A lane a job, before a step, in the order of their rests; all company."""
    return [
        Lane(
            job=f"{place}",
            index=0,
            stage=Stage.STEP,
            step=place,
            tokens=tokens,
            arrived=0.0,
            served=0.0,
            left=left,
            company="c",
            **more,
        )
        for place, left in enumerate(lefts)
    ]


def jobs(group: Sequence[Lane]) -> list[str]:
    return [lane.job for lane in group]


def test_lanes_of_other_jobs_go_along_where_that_shortens_the_waits() -> None:
    policy = InOrder(by_rest, FULL_AT_36)
    assert jobs(policy.choose(crowd(1, 2, 3, 4), 0.0)) == ["0", "1"]
    assert jobs(policy.choose(crowd(1, 2), 0.0)) == ["0"]
    assert jobs(policy.choose(crowd(1, 2, tokens=8), 0.0)) == ["0", "1"]


def test_what_is_not_company_goes_alone() -> None:
    policy = InOrder(by_rest, FULL_AT_36)
    alone = [replace(lane, company=None) for lane in crowd(1, 2, 3, 4)]
    assert jobs(policy.choose(alone, 0.0)) == ["0"]
    unlike = [replace(lane, company=lane.job) for lane in crowd(1, 2, 3, 4)]
    assert jobs(policy.choose(unlike, 0.0)) == ["0"]
    other_stage = [
        replace(lane, stage=Stage.DECODE) if lane.job != "0" else lane for lane in crowd(1, 2, 3, 4)
    ]
    assert jobs(policy.choose(other_stage, 0.0)) == ["0"]


def test_a_batch_holds_no_more_tokens_than_a_device_takes_well() -> None:
    many = crowd(*range(1, 9), tokens=16)
    assert len(InOrder(by_rest, Saturation(half=36, most=48)).choose(many, 0.0)) == 3
    assert len(InOrder(by_rest, Saturation(half=1e6, most=10_000), widest=5).choose(many, 0.0)) == 5
    assert len(InOrder(by_rest, Saturation(half=1e6)).choose(crowd(1, 2, 3, tokens=4096), 0.0)) == 1


def test_at_the_side_of_one_tenant_s_lane_no_other_tenant_gets_more() -> None:
    """Else who has more lanes stepping would get more of every step, and the one who has had least stays behind."""
    policy = InOrder(POLICIES["promise"], FULL_AT_36)
    ann, *rest = crowd(1, 2, 3, 4, 5, 6, tokens=8)
    mine = replace(ann, tenant="ann", spent=1.0)
    others = [replace(lane, tenant="bob", spent=2.0) for lane in rest]
    assert jobs(policy.choose([mine, *others], 0.0)) == ["0", "1"]
    second = replace(others[0], tenant="ann", spent=1.0)
    assert jobs(policy.choose([mine, second, *others[1:]], 0.0)) == ["0", "1", "2", "3"]
    assert jobs(policy.choose([replace(lane, tenant="bob") for lane in (mine, *others)], 0.0)) != ["0", "1"]


def test_company_breaks_no_promise() -> None:
    """The first job's rest is stretched by half by one at its side."""
    policy = InOrder(by_rest, Saturation(half=64))
    promised = crowd(1, 2, 3, 4, 5, 6)
    promised[0] = replace(promised[0], promised=1.4)
    assert jobs(policy.choose(promised, 0.0)) == ["0"]
    promised[0] = replace(promised[0], promised=1.6)
    assert jobs(policy.choose(promised, 0.0)) == ["0", "1"]
    promised[0] = replace(promised[0], promised=0.9)
    assert jobs(policy.choose(promised, 0.0)) != ["0"], "a promise that is broken already binds nobody"


def test_pictures_of_one_job_go_before_those_of_others() -> None:
    policy = InOrder(by_rest, Saturation(half=1000), widest=4)
    first, *others = crowd(1, 2, 3, 4)
    group = policy.choose([first, replace(first, index=1), replace(first, index=2, step=3), *others], 0.0)
    assert [(lane.job, lane.index) for lane in group] == [("0", 0), ("0", 1), ("1", 0), ("2", 0)]
