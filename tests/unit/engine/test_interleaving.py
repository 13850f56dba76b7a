"""Whatever comes between, a picture is the one that its work alone would have given.

Hypothesis drives arrivals, cancels, policies, the width of batches, who is stepped together, and what is remembered,
where, and forgotten again; every picture that is delivered is compared with its solo run. `DANQING_INTERLEAVINGS` sets
how many runs (the default is for every day).
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

PRESETS = {"*": Preset("tiny", STEPS, 1.0, 3.0), "quick": Preset("tiny", STEPS - 1, 1.0, 2.0)}
WORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two": {"count": 2, "seed": 3, "prompt": "two blue boats on a lake"},
    "edit": {"inputs": 1, "seed": 5},
    "guided": {"inputs": 1, "negative": "grey", "prompt": "another word about the same picture"},
    "three": {"inputs": 3, "count": 3, "prompt": "all of them"},
    "sharp": {"inputs": 1, "model": "quick", "prompt": "another one again", "seed": 2},
    "quick": {"model": "quick", "seed": 11},
    "other": {"inputs": 2, "seed": 8, "negative": "dull", "model": "quick", "count": 2},
}
TENANTS = ("ann", "bob")
BUDGETS = (Budget(), Budget(1 << 16), Budget(1 << 26), Budget(1 << 14, 1 << 26), Budget(1 << 15, 1 << 16))
"""None, some and all of what is read is remembered, on the device alone or in host memory, too."""


class House:
    """One family and the pictures of every work alone."""

    def __init__(self, kind: str, folder: Path, family: Callable[..., Any], native: Native) -> None:
        self.kind = kind
        checkpoint = Checkpoint("tiny", str(folder), native, Relation.MINIATURE, "Apache-2.0")
        self.profile = Profile("tiny", "", {"tiny": checkpoint}, PRESETS)
        cpu = torch.device("cpu")
        self.families = [family(folder, cpu, torch.float32, budget) for budget in BUDGETS]
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
        return House("2.1", tiny_checkpoint(folder), QwenImage21, Native())
    return House(
        "1.x",
        tiny_1x(folder, "edit_plus", told_clean=True),
        QwenImage1,
        Native(multiple=16, input_area=SIDE * SIDE),
    )


def share(one: Raster, other: Raster) -> float:
    """Of the samples that differ."""
    return sum(a != b for a, b in zip(one.data, other.data, strict=True)) / len(one.data)


def evict(family: Any, how_many: int, tenant: str) -> None:
    """Some of what is remembered makes way, or all of one tenant's does."""
    near = family._memory._near
    for key in list(near)[:how_many]:
        near.pop(key)
    if not how_many:
        family._memory.forget(tenant)


def within(family: Any, budget: Budget) -> bool:
    near, far = family._memory.sizes
    return near <= budget.near and far <= budget.far


DOINGS = st.one_of(
    st.tuples(st.just("come"), st.sampled_from(sorted(WORKS)), st.sampled_from(TENANTS)),
    st.tuples(st.just("turn"), st.integers(1, 6), st.just("")),
    st.tuples(st.just("cancel"), st.integers(0, 5), st.just("")),
    st.tuples(st.just("forget"), st.integers(0, 3), st.sampled_from(TENANTS)),
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
    half=st.sampled_from([0.0, 8.0, 1000.0]),
    keep=st.integers(0, len(BUDGETS) - 1),
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
        elif doing == "forget":
            evict(house.families[keep], what, tenant)
        else:
            made.engine.cancel(str(what))
    made.turn()
    assert within(house.families[keep], BUDGETS[keep])
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


def test_works_of_unlike_prompts_inputs_steps_and_guidance_go_through_one_step(house: House) -> None:
    """And are, in the last bits of their latents at most, what they are alone."""
    made = Crank(house.profile, house.families[0], urgency=POLICIES["turn"], half=1000.0)
    together: list[set[str]] = []
    step = made.engine._step

    def watched(parts: Any) -> Any:
        together.append({running.token for running, _ in parts})
        return step(parts)

    made.engine._step = watched  # type: ignore[method-assign]
    alike = ("edit", "guided", "sharp") if house.kind == "1.x" else ("plain", "quick", "guided", "three")
    for name in alike:
        made.start(house.work(name, name))
    made.turn()
    assert max(map(len, together)) >= 3
    for event in made.of(ImageReady):
        alone = house.alone[event.token, event.index]
        assert difference(event.raster, alone) <= LEVEL
        assert share(event.raster, alone) <= SHARE
    assert {event.token for event in made.of(Finished)} == set(alike)
