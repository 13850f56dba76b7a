"""Accounts of tenants: nothing is saved up by being away, and nothing lost."""

from __future__ import annotations

from danqing.schedule.shares import Shares


def test_whoever_had_least_is_least() -> None:
    shares = Shares()
    shares.charge("ann", 5.0)
    shares.charge("bob", 2.0)
    assert shares.of("bob") < shares.of("ann")
    assert shares.of("nobody") == 0.0


def test_a_newcomer_starts_where_the_least_of_those_present_stands() -> None:
    shares = Shares()
    shares.charge("ann", 50.0)
    shares.charge("bob", 30.0)
    shares.enter("cal", ["ann", "bob"])
    assert shares.of("cal") == 30.0


def test_being_there_already_or_alone_changes_nothing() -> None:
    shares = Shares()
    shares.charge("ann", 5.0)
    shares.charge("bob", 50.0)
    shares.enter("ann", ["ann", "bob"])
    assert shares.of("ann") == 5.0
    shares.enter("ann", [])
    assert shares.of("ann") == 5.0


def test_having_had_much_is_not_forgiven_by_a_pause() -> None:
    shares = Shares()
    shares.charge("ann", 50.0)
    shares.charge("bob", 5.0)
    shares.enter("ann", ["bob"])
    assert shares.of("ann") == 50.0


def test_those_who_are_gone_are_forgotten() -> None:
    shares = Shares()
    shares.charge("ann", 5.0)
    shares.charge("bob", 7.0)
    shares.keep(["bob"])
    assert (shares.of("ann"), shares.of("bob")) == (0.0, 7.0)
