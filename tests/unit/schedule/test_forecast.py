"""Looking ahead: sums that must come out, and a play of merged units against one of single units."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from danqing.schedule.cost import Saturation, Stage
from danqing.schedule.forecast import Ahead, Outlook, ends
from danqing.schedule.policy import POLICIES, SLACK, InOrder, Lane


def order(name: str) -> InOrder:
    return InOrder(POLICIES[name], Saturation(half=0))


def ahead(job: str, left: float, *, unit: float = 1.0, arrived: float = 0.0, **more: object) -> Ahead:
    given_lane = {"solo": left, "served": arrived, "stage": Stage.STEP, "step": 0, "tokens": 64, **more}
    return Ahead(Lane(job=job, index=0, arrived=arrived, left=left, **given_lane), unit)  # type: ignore[arg-type]


def test_a_job_alone_is_done_when_its_own_work_is() -> None:
    assert ends([ahead("a", 7.0)], order("promise"), 100.0) == {"a": pytest.approx(7.0)}


def test_in_order_of_arrival_each_waits_for_those_before() -> None:
    jobs = [ahead("late", 2.0, arrived=3.0), ahead("early", 5.0, arrived=1.0)]
    assert ends(jobs, order("arrival"), 4.0) == {"early": pytest.approx(5.0), "late": pytest.approx(7.0)}


def test_a_short_job_is_foretold_to_go_before_a_long_one_that_has_time() -> None:
    jobs = [ahead("long", 40.0), ahead("short", 1.0, arrived=2.0)]
    foretold = ends(jobs, order("promise"), 2.0)
    assert foretold == {"short": pytest.approx(1.0), "long": pytest.approx(41.0)}


def test_tenants_share_the_device_half_and_half() -> None:
    jobs = [
        ahead("ann", 10.0, unit=0.1, tenant="ann"),
        ahead("bob", 20.0, unit=0.1, tenant="bob"),
    ]
    foretold = ends(jobs, order("promise"), 0.0)
    assert foretold["ann"] == pytest.approx(20.0, rel=0.1)
    assert foretold["bob"] == pytest.approx(30.0)


def test_who_is_not_on_the_device_yet_enters_as_others_leave() -> None:
    jobs = [ahead("a", 10.0), ahead("b", 10.0, arrived=0.5), ahead("short", 0.5, unit=0.5, arrived=0.6)]
    assert ends(jobs, order("promise"), 1.0, room=3)["short"] == pytest.approx(0.5)
    assert ends(jobs, order("promise"), 1.0, room=2)["short"] == pytest.approx(10.5)


def test_what_is_done_ends_at_once_and_nobody_looks_further_than_asked() -> None:
    jobs = [ahead("done", 0.0), ahead("first", 1.0), ahead("last", 50.0, arrived=1.0)]
    assert ends(jobs, order("arrival"), 1.0, until="first") == {"done": 0.0, "first": pytest.approx(1.0)}


def test_jobs_that_step_together_end_when_those_steps_have_been_done() -> None:
    policy = InOrder(
        POLICIES["promise"], Saturation(half=96)
    )  # two lanes of 64 tokens at once: 0.7 of the time
    jobs = [ahead("a", 4.0, company="one"), ahead("b", 6.0, company="one", arrived=0.5)]
    assert ends(jobs, policy, 1.0) == {"a": pytest.approx(5.6), "b": pytest.approx(7.6)}
    strangers = [ahead("a", 4.0, company="one"), ahead("b", 6.0, company="other", arrived=0.5)]
    assert ends(strangers, policy, 1.0) == {"a": pytest.approx(4.0), "b": pytest.approx(10.0)}


def test_a_job_that_waits_joins_once_it_has_come_to_its_steps() -> None:
    policy = InOrder(POLICIES["promise"], Saturation(half=96))
    jobs = [
        ahead("new", 4.0, company="one", stage=Stage.ENCODE, arrived=0.5),
        ahead("old", 40.0, company="one"),
    ]
    foretold = ends(jobs, policy, 1.0)
    assert foretold["new"] == pytest.approx(1.0 + 3 * 1.4)
    assert foretold["old"] == pytest.approx(foretold["new"] + 37.0)


def one_by_one(jobs: list[Ahead], policy: InOrder, now: float) -> dict[str, float]:
    """The same play without merging, a unit at a time."""
    lanes = {one.lane.job: (one.lane, one.unit) for one in jobs}
    passed, done = 0.0, {}
    while lanes:
        group = policy.choose([lane for lane, _ in lanes.values()], now + passed)
        saved = policy.together(group[0].tokens, len(group))
        passed += saved * sum(min(lanes[lane.job][1], lane.left) for lane in group)
        for chosen in group:
            unit = lanes[chosen.job][1]
            if chosen.left - unit <= 1e-9:
                done[chosen.job] = passed
                del lanes[chosen.job]
            else:
                moved = replace(lanes[chosen.job][0], left=chosen.left - unit, served=now + passed)
                lanes[chosen.job] = moved, unit
            for name, (lane, its) in lanes.items():
                if lane.tenant == chosen.tenant:
                    lanes[name] = replace(lane, spent=lane.spent + saved * unit), its
    return done


@settings(max_examples=60, deadline=None)
@given(
    some.sampled_from(["promise", "arrival", "rest"]),
    some.lists(some.tuples(some.integers(1, 60), some.integers(0, 9)), min_size=1, max_size=6),
    some.booleans(),
)
def test_merged_units_foretell_what_single_ones_do(
    policy: str, asked: list[tuple[int, int]], company: bool
) -> None:
    jobs = [
        ahead(str(place), float(units), arrived=float(arrived), company="one" if company else None)
        for place, (units, arrived) in enumerate(asked)
    ]
    chosen = InOrder(POLICIES[policy], Saturation(half=96))
    fine, merged = one_by_one(jobs, chosen, 10.0), ends(jobs, chosen, 10.0)
    assert merged == {job: pytest.approx(end, rel=0.13, abs=1e-6) for job, end in fine.items()}


class Watch:
    """A clock that moves when told, and with every look by `cost`."""

    def __init__(self, cost: float = 0.0) -> None:
        self.now, self.cost = 0.0, cost

    def __call__(self) -> float:
        return self.now

    def jobs(self, *jobs: Ahead) -> list[Ahead]:
        self.now += self.cost
        return list(jobs)


def test_looking_ahead_takes_no_more_than_its_share_of_the_time() -> None:
    watch = Watch(cost=0.004)
    outlook = Outlook(order("promise"), watch, share=0.01)
    looked = 0
    for _ in range(2000):
        looked += outlook.look(lambda: watch.jobs(ahead("a", 50.0)))
        watch.now += 0.02
    assert looked * watch.cost <= 0.01 * watch.now + 0.06
    assert looked * watch.cost >= 0.005 * watch.now


def test_between_looks_what_was_foretold_runs_down() -> None:
    watch = Watch()
    outlook = Outlook(order("promise"), watch)
    assert outlook.left("a") is None
    assert outlook.look(lambda: [ahead("a", 8.0)])
    watch.now += 3.0
    assert outlook.left("a") == pytest.approx(5.0)
    watch.now += 9.0
    assert outlook.left("a") == 0.0


def test_what_jobs_take_beyond_what_was_foretold_is_allowed_for_later() -> None:
    watch = Watch()
    outlook = Outlook(order("promise"), watch)
    for place in range(60):
        name = str(place)
        outlook.look(lambda name=name: [ahead(name, 10.0)])  # type: ignore[misc]
        assert outlook.begin(name) == pytest.approx(watch.now + 10.0 * outlook.allowance * (1 + SLACK))
        watch.now += 11.0
        outlook.end(name, finished=True)
    assert outlook.allowance == pytest.approx(1.1, abs=0.01)


def test_a_job_that_was_cancelled_or_never_foretold_teaches_nothing() -> None:
    watch = Watch()
    outlook = Outlook(order("promise"), watch)
    assert outlook.begin("unknown") is None
    outlook.look(lambda: [ahead("a", 10.0)])
    outlook.begin("a")
    watch.now += 100.0
    outlook.end("a", finished=False)
    outlook.end("unknown", finished=True)
    assert outlook.allowance == 1.0
