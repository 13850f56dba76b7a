"""What is remembered of input pictures: exactly as if it were computed anew, for one tenant, within its bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.core.events import ImageReady, Work
from danqing.core.raster import Raster
from danqing.engine.cache import Recent
from danqing.engine.families.contract import Plan
from danqing.engine.families.qwen_image_21 import Head, QwenImage21
from tests.unit.engine.conftest import Crank, make_work, picture


class Counting(QwenImage21):
    """Counts how often input pictures were read."""

    looks = 0

    def _look(self, plan: Plan) -> Head:
        self.looks += 1
        return super()._look(plan)


@pytest.fixture
def counting(tiny: Path) -> Counting:
    return Counting(tiny, torch.device("cpu"), torch.float32, 1 << 20)


def drawn(made: Crank, work: Work) -> list[Raster]:
    made.start(work)
    made.turn()
    found: list[Any] = made.of(ImageReady, work.token)
    return [event.raster for event in found]


@pytest.mark.parametrize("negative", [None, "dull"], ids=["plain", "guided"])
def test_a_remembered_head_gives_the_same_pictures_to_the_bit(
    crank: Callable[..., Crank], family: QwenImage21, counting: Counting, negative: str | None
) -> None:
    warm, cold = crank(counting), crank(family)
    drawn(warm, make_work("first", inputs=2, prompt="something else entirely", seed=1))
    again = make_work("second", inputs=2, count=2, negative=negative)
    assert drawn(warm, again) == drawn(cold, again)
    assert counting.looks == 1


def test_a_head_is_read_once_for_the_same_pictures_and_again_for_others(
    crank: Callable[..., Crank], counting: Counting
) -> None:
    made = crank(counting)
    for token, prompt in (("a", "red"), ("b", "blue"), ("c", "green and gold")):
        drawn(made, make_work(token, inputs=1, prompt=prompt))
    assert counting.looks == 1
    drawn(made, make_work("d", inputs=2))
    drawn(made, make_work("e", inputs=0))
    swapped = make_work("f", inputs=0)
    drawn(made, Work("g", "any", "x", None, (picture(1), picture(0)), 1, swapped.size, 1))
    assert counting.looks == 3


def test_one_tenants_pictures_are_not_remembered_for_another(
    crank: Callable[..., Crank], counting: Counting
) -> None:
    made = crank(counting)
    drawn(made, make_work("a", inputs=1, tenant="one"))
    drawn(made, make_work("b", inputs=1, tenant="two"))
    assert counting.looks == 2


def test_without_room_to_remember_nothing_is(crank: Callable[..., Crank], tiny: Path) -> None:
    family = Counting(tiny, torch.device("cpu"), torch.float32)
    made = crank(family)
    drawn(made, make_work("a", inputs=1))
    drawn(made, make_work("b", inputs=1))
    assert family.looks == 2


def test_the_least_recently_used_goes_first_and_sizes_stay_within_the_limit() -> None:
    kept: Recent[str] = Recent(100)
    kept.put("a", "A", 40)
    kept.put("b", "B", 40)
    assert kept.get("a") == "A"
    kept.put("c", "C", 40)
    assert ("a" in kept, "b" in kept, "c" in kept) == (True, False, True)
    kept.put("a", "AA", 90)
    assert kept.get("c") is None
    assert (kept.get("a"), kept.size) == ("AA", 90)
    kept.put("huge", "H", 101)
    assert "huge" not in kept
    kept.put("a", "gone", 101)
    assert (kept.get("a"), kept.size) == (None, 0)
