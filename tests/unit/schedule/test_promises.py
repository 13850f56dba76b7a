"""What the default policy promises, over whatever lanes and traffics there may be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from danqing.schedule.cost import Saturation, Stage
from danqing.schedule.policy import PATIENCE, PROMISE, InOrder, Lane, by_promise
from danqing.schedule.simulate import Request, simulate

ORDER = InOrder(by_promise, Saturation(half=0))
NOW = 1000.0
seconds = some.floats(0.1, 60.0)


@some.composite
def lane(draw: some.DrawFn, job: int) -> Lane:
    solo = draw(seconds)
    promised = draw(some.none() | some.floats(-10.0, 300.0))
    return Lane(
        job=str(job),
        index=0,
        stage=draw(some.sampled_from([Stage.ENCODE, Stage.STEP, Stage.DECODE])),
        step=0,
        tokens=64,
        arrived=NOW - draw(some.floats(0.0, 25.0)) * solo,
        served=NOW,
        left=solo * draw(some.floats(0.01, 1.0)),
        solo=solo,
        tenant=draw(some.sampled_from("ab")),
        priority=draw(some.integers(0, 2)),
        spent=draw(some.sampled_from([0.0, 5.0])),
        promised=None if promised is None else NOW + promised,
    )


@some.composite
def many(draw: some.DrawFn) -> list[Lane]:
    lanes = [draw(lane(job)) for job in range(draw(some.integers(1, 8)))]
    spent = {"a": draw(some.sampled_from([0.0, 5.0])), "b": 2.0}
    return [Lane(**{**_members(one), "spent": spent[one.tenant]}) for one in lanes]


def _members(one: Lane) -> dict[str, object]:
    return {name: getattr(one, name) for name in Lane.__slots__}


def impatient(one: Lane) -> bool:
    """Its patience is at an end: another's turn could let it wait beyond that many times its own time."""
    return one.arrived + PATIENCE * one.solo - one.left <= NOW


def hopeful(one: Lane) -> bool:
    """It can still be done on time, or when it was said to be."""
    on_time = NOW + one.left <= one.arrived + PROMISE * one.solo
    return on_time or (one.promised is not None and NOW + one.left <= one.promised)


@given(many())
def test_nobody_waits_beyond_patience_while_others_of_its_tenant_are_served(lanes: list[Lane]) -> None:
    (chosen,) = ORDER.choose(lanes, NOW)
    waiting = [one for one in lanes if one.tenant == chosen.tenant and impatient(one)]
    assert impatient(chosen) or not waiting


def due(one: Lane) -> float:
    """The earlier of its ends that can still be kept."""
    ends = [one.arrived + PROMISE * one.solo, *([] if one.promised is None else [one.promised])]
    return min(end for end in ends if NOW + one.left <= end)


@given(many())
def test_who_can_no_longer_be_on_time_yields_to_those_who_would_lose_by_it(lanes: list[Lane]) -> None:
    (chosen,) = ORDER.choose(lanes, NOW)
    alike = [one for one in lanes if (one.tenant, one.priority) == (chosen.tenant, chosen.priority)]
    if hopeful(chosen) or impatient(chosen):
        return
    end = NOW + chosen.left
    for one in sorted(filter(hopeful, alike), key=due):
        end += one.left
        assert end <= due(one), "it could have been kept, had it been served first"


def test_who_is_late_goes_first_where_nobody_in_time_loses_by_it() -> None:
    def job(name: str, *, solo: float, arrived: float) -> Lane:
        given = {"arrived": arrived, "served": NOW, "left": solo, "solo": solo}
        return Lane(job=name, index=0, stage=Stage.ENCODE, step=0, tokens=64, **given)

    long, late = job("long", solo=40.0, arrived=NOW), job("late", solo=4.0, arrived=NOW - 9.0)
    pressed = job("pressed", solo=10.0, arrived=NOW - 17.0)
    assert ORDER.choose([long, late], NOW) == (late,)
    assert ORDER.choose([long, late, pressed], NOW) == (pressed,)


@given(many())
def test_no_priority_overtakes_another_tenants_share(lanes: list[Lane]) -> None:
    (chosen,) = ORDER.choose(lanes, NOW)
    assert chosen.spent == min(one.spent for one in lanes)
    if not impatient(chosen):
        peers = [one for one in lanes if one.spent == chosen.spent]
        assert chosen.priority == max(one.priority for one in peers)


@some.composite
def traffics(draw: some.DrawFn) -> list[Request]:
    now, made = 0.0, []
    for _ in range(draw(some.integers(1, 25))):
        now += draw(some.floats(0.0, 20.0))
        made.append(Request(now, draw(seconds), draw(some.integers(1, 12)), draw(some.sampled_from("ab"))))
    return made


@settings(deadline=None)
@given(traffics())
def test_nobody_is_refused_or_dropped_and_the_device_never_rests_beside_work(asked: list[Request]) -> None:
    outcomes = simulate(asked, ORDER).outcomes
    assert [one.request for one in outcomes] == asked
    assert all(one.took >= one.request.seconds - 1e-9 for one in outcomes)
    busy = 0.0
    for request in asked:
        busy = max(busy, request.arrived) + request.seconds
    assert max(one.finished for one in outcomes) == pytest.approx(busy)


@settings(deadline=None)
@given(traffics(), seconds)
def test_what_comes_later_never_makes_an_earlier_one_wait_for_more_than_patience(
    asked: list[Request], solo: float
) -> None:
    """One tenant, a device with time to spare for the first: it is done within patience and what was late before it."""
    first = Request(0.0, solo, 8)
    later = [Request(one.arrived, min(one.seconds, solo), one.units) for one in asked]
    outcome = simulate([first, *later], ORDER).outcomes[0]
    longest_unit = max([solo / 8, *(one.seconds / one.units for one in later)])
    overdue = sum(one.seconds for one in later if one.arrived + PATIENCE * one.seconds < PATIENCE * solo)
    assert outcome.took <= PATIENCE * solo + longest_unit + overdue
