"""Where changing checkpoints takes long, one stays for a while."""

from __future__ import annotations

import torch
from torch import nn

from danqing.engine.residence import Residence
from danqing.engine.stay import PATIENCE, Stay
from danqing.schedule.cost import Stage
from danqing.schedule.policy import Lane


def lane(job: str) -> Lane:
    return Lane(job, 0, Stage.STEP, 0, 64, 0.0, 0.0, 1.0)


def of(one: Lane) -> str:
    return one.job.partition("/")[0]


A, B = lane("a/1"), lane("b/1")


def idle() -> Residence:
    """One that brings nothing: tests say what it would have taken."""
    return Residence(1 << 20, torch.Tensor.clone)


def test_after_a_change_a_checkpoint_stays_for_what_it_cost_and_then_any_may_be_next() -> None:
    clock, residence = [100.0], idle()
    stay = Stay({"a": residence, "b": residence}, lambda: clock[0])
    assert list(stay.offer([A, B], of)) == [A, B]
    stay.turn("a")
    residence.brought += 4.0
    clock[0] += 4.0
    assert list(stay.offer([A, B], of)) == [A]
    clock[0] += (PATIENCE - 1) * 4.0 - 0.1
    assert list(stay.offer([A, B], of)) == [A]
    clock[0] += 0.2
    assert list(stay.offer([A, B], of)) == [A, B]
    stay.turn("b")
    assert list(stay.offer([A, B], of)) == [A, B], "nothing had to be brought"


def test_who_has_nothing_to_do_keeps_nobody_out() -> None:
    clock, residence = [0.0], idle()
    stay = Stay({"a": residence}, lambda: clock[0])
    stay.turn("a")
    residence.brought += 4.0
    assert list(stay.offer([B], of)) == [B]


def test_where_all_stay_on_the_device_everybody_may_be_next() -> None:
    stay = Stay({}, lambda: 0.0)
    stay.turn("a")
    assert list(stay.offer([A, B], of)) == [A, B]
    assert stay.brought == 0


def test_what_bringing_took_is_counted() -> None:
    module = nn.Linear(4, 4)
    residence = Residence(1 << 20, lambda tensor: tensor.clone())
    residence.add("it", module)
    module(torch.ones(1, 4))
    once = residence.brought
    assert once > 0
    module(torch.ones(1, 4))
    assert residence.brought == once
