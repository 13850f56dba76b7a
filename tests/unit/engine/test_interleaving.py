"""Whatever comes between, a picture is the one that its work alone would have given.

Hypothesis drives arrivals, cancels, policies, the width of batches and the size of the cache; every picture that is
delivered is compared with its solo run. `DANQING_INTERLEAVINGS` sets how many runs (the default is for every day).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danqing.core.events import Cancelled, Failed, Finished, ImageReady, Work
from danqing.core.raster import Raster
from danqing.engine.cache import Budget
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from danqing.schedule.policy import POLICIES
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_1x import tiny_1x
from tests.unit.engine.conftest import SIDE, Crank, make_work
from tests.unit.engine.test_exactness import difference

RUNS = int(os.environ.get("DANQING_INTERLEAVINGS", "40"))
STEPS = 3
LEVEL, SHARE = 1, 0.001
"""Pictures of one work may be stepped together or apart, and their latents then differ in the last bits: by at most one
level, in at most so many of a picture's samples."""

WORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two": {"count": 2, "seed": 3, "prompt": "two blue boats on a lake"},
    "edit": {"inputs": 1, "seed": 5},
    "guided": {"inputs": 1, "negative": "grey", "prompt": "another word about the same picture"},
    "three": {"inputs": 3, "count": 3, "prompt": "all of them"},
}
TENANTS = ("ann", "bob")


class House:
    """One family and the pictures of every work alone."""

    def __init__(self, folder: Path, family: Callable[..., Any], native: Native) -> None:
        checkpoint = Checkpoint("tiny", str(folder), native, Relation.MINIATURE, "Apache-2.0")
        self.profile = Profile("tiny", "", {"tiny": checkpoint}, {"*": Preset("tiny", STEPS, 1.0, 3.0)})
        cpu = torch.device("cpu")
        # none, some and all of the inputs' conditions are remembered
        self.families = [family(folder, cpu, torch.float32, Budget(keep)) for keep in (0, 1 << 16, 1 << 26)]
        self.alone: dict[tuple[str, int], Raster] = {}
        for name in WORKS:
            made = Crank(self.profile, self.families[0])
            made.start(self.work(name, name))
            made.turn()
            self.alone |= {(name, event.index): event.raster for event in made.of(ImageReady)}

    @staticmethod
    def work(token: str, name: str, tenant: str = "") -> Work:
        return make_work(token, tenant=tenant, **WORKS[name])


@pytest.fixture(scope="module", params=["2.1", "1.x"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> House:
    folder = tmp_path_factory.mktemp("house")
    if request.param == "2.1":
        return House(tiny_checkpoint(folder), QwenImage21, Native())
    return House(
        tiny_1x(folder, "edit_plus", told_clean=True),
        QwenImage1,
        Native(multiple=16, input_area=SIDE * SIDE),
    )


def share(one: Raster, other: Raster) -> float:
    """Of the samples that differ."""
    return sum(a != b for a, b in zip(one.data, other.data, strict=True)) / len(one.data)


DOINGS = st.one_of(
    st.tuples(st.just("come"), st.sampled_from(sorted(WORKS)), st.sampled_from(TENANTS)),
    st.tuples(st.just("turn"), st.integers(1, 6), st.just("")),
    st.tuples(st.just("cancel"), st.integers(0, 5), st.just("")),
)


@settings(
    max_examples=RUNS,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    doings=st.lists(DOINGS, min_size=2, max_size=12),
    policy=st.sampled_from(sorted(POLICIES)),
    half=st.sampled_from([0.0, 1000.0]),
    keep=st.integers(0, 2),
)
def test_every_picture_is_that_of_its_work_alone(
    house: House, doings: list[tuple[str, Any, str]], policy: str, half: float, keep: int
) -> None:
    made = Crank(house.profile, house.families[keep], urgency=POLICIES[policy], half=half)
    names: dict[str, str] = {}
    for doing, what, tenant in doings:
        if doing == "come":
            token = f"{len(names)}"
            names[token] = what
            made.start(house.work(token, what, tenant))
        elif doing == "turn":
            made.turn(what)
        else:
            made.engine.cancel(str(what))
    made.turn()
    assert not made.of(Failed)
    for event in made.of(ImageReady):
        alone = house.alone[names[event.token], event.index]
        assert difference(event.raster, alone) <= LEVEL
        assert share(event.raster, alone) <= SHARE
    ended = {event.token for kind in (Finished, Cancelled) for event in made.of(kind)}
    assert ended == set(names)
    for event in made.of(Finished):
        count = WORKS[names[event.token]].get("count", 1)
        assert len(made.of(ImageReady, event.token)) == count
