"""The simulator: sums that must come out, and the order of policies that the engine relies on."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from danqing.cli.main import app
from danqing.schedule.cost import SATURATION, Saturation
from danqing.schedule.policy import PATIENCE, POLICIES, InOrder, by_arrival, by_promise
from danqing.schedule.simulate import Kind, Report, Request, keeps, needed, simulate, traffic

MIX = (Kind(0.6, 1.0, 4), Kind(0.3, 20.0, 40), Kind(0.1, 55.0, 40))


def order(name: str) -> InOrder:
    return InOrder(POLICIES[name], Saturation(half=0))


def test_a_request_alone_takes_its_own_time() -> None:
    report = simulate([Request(5.0, 20.0, 40)], order("promise"))
    assert report.outcomes[0].finished == pytest.approx(25.0)
    assert report.on_time() == 1.0


def test_in_order_of_arrival_each_waits_for_those_before() -> None:
    asked = [Request(0.0, 4.0, 4), Request(1.0, 2.0, 2), Request(20.0, 1.0, 1)]
    report = simulate(asked, order("arrival"))
    assert [one.finished for one in report.outcomes] == pytest.approx([4.0, 6.0, 21.0])


def test_a_short_request_goes_before_the_rest_of_a_long_one_that_has_time() -> None:
    asked = [Request(0.0, 40.0, 40), Request(0.5, 1.0, 2)]
    report = simulate(asked, order("promise"))
    assert report.outcomes[1].finished == pytest.approx(2.0)
    assert report.outcomes[0].finished == pytest.approx(41.0)


def test_requests_go_where_they_are_done_first() -> None:
    asked = [Request(0.0, 10.0, 1), Request(0.0, 1.0, 1), Request(0.0, 1.0, 1)]
    report = simulate(asked, order("arrival"), devices=2)
    assert [one.finished for one in report.outcomes] == pytest.approx([10.0, 1.0, 2.0])


def test_no_policy_makes_or_loses_work() -> None:
    asked = traffic(MIX, load=0.9, devices=3, count=400, seed=3, tenants=3)
    ends = {
        name: max(one.finished for one in simulate(asked, order(name), devices=3).outcomes)
        for name in POLICIES
    }
    assert max(ends.values()) == pytest.approx(min(ends.values()))


def test_the_promise_is_kept_where_arrival_order_breaks_it() -> None:
    asked = traffic(MIX, load=0.7, devices=1, count=3000, seed=1)
    met = {name: simulate(asked, order(name)).on_time() for name in POLICIES}
    assert met["promise"] >= 0.95
    assert met["promise"] >= met["rest"]
    assert met["arrival"] < 0.6 > met["turn"]


def test_nobody_is_passed_over_beyond_patience_by_those_who_are_not() -> None:
    long = Request(0.0, 10.0, 10)
    short = [Request(0.6 * place, 0.6, 3) for place in range(1000)]
    report = simulate([long, *short], order("promise"))
    worst = report.outcomes[0]
    # all the device can do is asked for by the short ones: the long one is late, and then it is its turn
    assert worst.stretch <= PATIENCE + 0.5
    by_rest = simulate([long, *short], order("rest")).outcomes[0]
    assert by_rest.stretch > 2 * PATIENCE


def test_one_who_sends_singly_is_not_held_up_by_one_who_floods() -> None:
    flood = [Request(0.0, 10.0, 20, "flood") for _ in range(20)]
    single = [Request(30.0 * place, 5.0, 10, "single") for place in range(5)]
    report = simulate([flood[0], single[0], *flood[1:], *single[1:]], order("promise"))
    mine = [one for one in report.outcomes if one.request.tenant == "single"]
    assert len(mine) == 5
    assert max(one.stretch for one in mine) <= 2.5
    first_come = simulate([flood[0], *flood[1:], *single], order("arrival")).outcomes
    assert max(one.stretch for one in first_come if one.request.tenant == "single") > 10


def test_as_many_devices_as_needed_and_no_more() -> None:
    found = needed(MIX, order("promise"), rate=0.5, goal=0.95, count=600)
    assert found is not None
    mean = sum(kind.share * kind.seconds for kind in MIX)
    for devices, kept in ((found, True), (found - 1, False)):
        load = 0.5 * mean / devices
        asked = traffic(MIX, load=load, devices=devices, count=600)
        assert (load < 1 and simulate(asked, order("promise"), devices=devices).on_time() >= 0.95) is kept
    assert needed(MIX, InOrder(by_arrival, Saturation(half=0)), rate=50.0, count=50, most=8) is None


TOGETHER = InOrder(POLICIES["arrival"], SATURATION["cuda"])
SMALL = 256
"""Tokens of 256², two of which take a GPU 1.3 times as long as one."""


def test_requests_of_one_size_step_together_and_take_what_the_table_says() -> None:
    two = [Request(0.0, 8.0, 8, tokens=SMALL), Request(0.0, 8.0, 8, tokens=SMALL)]
    report = simulate(two, TOGETHER)
    both = 16.0 * SATURATION["cuda"].together(SMALL, 2)
    assert [one.finished for one in report.outcomes] == pytest.approx([both, both])
    assert both < 10.5


@pytest.mark.parametrize("tokens", [(SMALL, SMALL + 1), (0, 0), (4096, 4096)], ids=str)
def test_what_cannot_or_should_not_share_a_step_does_not(tokens: tuple[int, int]) -> None:
    two = [Request(0.0, 8.0, 8, tokens=one) for one in tokens]
    assert [one.finished for one in simulate(two, TOGETHER).outcomes] == pytest.approx([8.0, 16.0])


def test_units_before_the_steps_are_not_shared() -> None:
    two = [Request(0.0, 8.0, 8, tokens=SMALL, before=2) for _ in range(2)]
    in_turn = InOrder(POLICIES["turn"], SATURATION["cuda"])
    end = 4.0 + 12.0 * SATURATION["cuda"].together(SMALL, 2)
    assert [one.finished for one in simulate(two, in_turn).outcomes] == pytest.approx([end, end])


def test_sharing_steps_saves_devices_and_keeps_every_request() -> None:
    kinds = (Kind(1.0, 4.0, 8, tokens=SMALL),)
    order = InOrder(POLICIES["promise"], SATURATION["cuda"])
    alone = needed((Kind(1.0, 4.0, 8),), order, rate=2.0, count=400)
    shared = needed(kinds, order, rate=2.0, count=400)
    assert shared is not None
    assert alone is not None
    assert shared < alone
    asked = traffic(kinds, load=1.1, devices=2, count=400, seed=5, tenants=2)
    assert len(simulate(asked, order, devices=2).outcomes) == 400


def test_a_goal_is_kept_or_not_as_the_whole_play_says() -> None:
    asked = traffic(MIX, load=0.8, devices=4, count=400, seed=2)
    for name in POLICIES:
        met = simulate(asked, order(name), devices=4).on_time()
        assert keeps(asked, order(name), devices=4, goal=met)
        assert not keeps(asked, order(name), devices=4, goal=met + 0.01)


@pytest.mark.parametrize("wrong", [{"load": 0.0}, {"devices": 0}, {"count": 0}, {"tenants": 0}])
def test_a_traffic_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    given = {"load": 0.5, "devices": 1, "count": 1, **wrong}
    with pytest.raises(ValueError, match="a traffic needs"):
        traffic(MIX, **given)


def test_the_same_seed_is_the_same_traffic() -> None:
    assert traffic(MIX, load=0.5, devices=1, count=20, seed=4) == traffic(
        MIX, load=0.5, devices=1, count=20, seed=4
    )
    assert traffic(MIX, load=0.5, devices=1, count=20, seed=4) != traffic(
        MIX, load=0.5, devices=1, count=20, seed=5
    )


def test_waits_are_percentiles_of_what_came_on_top() -> None:
    report = simulate([Request(0.0, 1.0, 1) for _ in range(100)], order("arrival"))
    assert report.waits(0.0, 0.5, 0.99) == pytest.approx((0.0, 50.0, 99.0))
    assert Report(()).on_time() == 0.0


def test_the_command_prints_every_policy_or_one() -> None:
    done = CliRunner().invoke(app, ["simulate", "--requests", "200", "--json"])
    rows = json.loads(done.stdout)["policies"]
    assert [row["policy"] for row in rows] == list(POLICIES)
    one = CliRunner().invoke(
        app, ["simulate", "--requests", "200", "--policy", "promise", "--goal", "0.9", "--json"]
    )
    [row] = json.loads(one.stdout)["policies"]
    assert row["devices"] >= 1
    assert row["on_time"] == rows[0]["on_time"]
    shown = CliRunner().invoke(app, ["simulate", "--requests", "50", "--goal", "0.9"])
    assert "devices for goal" in shown.stdout


def test_the_command_knows_pictures_that_step_together() -> None:
    def waits(mix: str) -> float:
        asked = [
            "simulate",
            "--requests",
            "300",
            "--load",
            "0.9",
            "--policy",
            "arrival",
            "--mix",
            mix,
            "--json",
        ]
        [row] = json.loads(CliRunner().invoke(app, asked).stdout)["policies"]
        return float(row["wait_p50"])

    assert waits("1x1/8@256") < waits("1x1/8")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--mix", "60x0/4"], "--mix"),
        (["--mix", "a lot"], "--mix"),
        (["--mix", "1x1/4@8"], "--mix"),
        (["--policy", "luck"], "--policy"),
        (["--device", "abacus"], "--device"),
    ],
)
def test_the_command_says_what_is_wrong(given: list[str], named: str) -> None:
    done = CliRunner().invoke(app, ["simulate", *given])
    assert done.exit_code == 2
    assert named in done.output


def test_the_default_policy_is_the_first() -> None:
    assert next(iter(POLICIES.values())) is by_promise
