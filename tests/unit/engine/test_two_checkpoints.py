"""One API name, two checkpoints: one paints, the other takes the calls with input pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.core.events import Event, Failed, ImageReady
from danqing.core.raster import Raster
from danqing.engine.build import order_for
from danqing.engine.families.contract import plan
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Room
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from tests.support.tiny_1x import tiny_1x
from tests.unit.engine.conftest import make_work

NATIVE = Native(multiple=16, input_area=64 * 64)
PAINT, EDIT = Preset("paint", 3), Preset("edit", 2)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, Any]:
    def made(kind: str) -> QwenImage1:
        return QwenImage1(tiny_1x(tmp_path_factory.mktemp(kind), kind), torch.device("cpu"), torch.float32)

    return {"paint": made("paint"), "edit": made("edit_plus")}


def profile(**models: Preset) -> Profile:
    checkpoints = {
        name: Checkpoint(name, str(Path("/none") / name), NATIVE, Relation.NEAR, "Apache-2.0", language=False)
        for name in ("paint", "edit")
    }
    return Profile("two", "", checkpoints, models)


def run(families: dict[str, Any], models: dict[str, Preset], *, inputs: int) -> list[Event]:
    heard: list[Event] = []
    engine = StepEngine(profile(**models), families, policy=order_for("cpu"), room=Room(1 << 34))
    engine.listen(heard.append)
    engine.put(replace(make_work(inputs=inputs), model="both"))
    while engine.tick():
        pass
    return heard


def picture(heard: list[Event]) -> Raster:
    (event,) = [event for event in heard if isinstance(event, ImageReady)]
    return event.raster


def test_each_call_goes_to_the_checkpoint_for_its_kind(families: dict[str, Any]) -> None:
    both = {"both": replace(PAINT, edits=EDIT)}
    assert picture(run(families, both, inputs=0)) == picture(run(families, {"both": PAINT}, inputs=0))
    assert picture(run(families, both, inputs=2)) == picture(run(families, {"both": EDIT}, inputs=2))
    engine = StepEngine(profile(**both), families, policy=order_for("cpu"), room=Room(1 << 34))
    assert engine.most_inputs("both") == 3


@pytest.mark.parametrize(
    ("models", "inputs"), [({"both": replace(PAINT, edits=EDIT)}, 4), ({"both": PAINT}, 1)]
)
def test_more_inputs_than_a_checkpoint_looks_at_are_refused_in_words(
    models: dict[str, Preset], inputs: int, families: dict[str, Any]
) -> None:
    (event,) = run(families, models, inputs=inputs)
    assert isinstance(event, Failed)
    assert f"looks at {3 if inputs == 4 else 0} input pictures at most" in str(event.fault)


def test_a_preset_s_own_negative_prompt_gives_way_to_the_caller_s() -> None:
    guided = Preset("paint", 4, 4.0, 4.0, negative="blurred")
    assert plan(make_work(), guided, NATIVE).negative == "blurred"
    assert plan(make_work(negative=" "), guided, NATIVE).negative == "blurred"
    assert plan(make_work(negative="dark"), guided, NATIVE).negative == "dark"
    assert plan(make_work(), replace(guided, negative=""), NATIVE).negative == " "
    assert plan(make_work(), replace(guided, guidance=1.0), NATIVE).negative is None
