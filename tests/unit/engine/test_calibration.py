"""What was learned of a device's speed outlives the process, and belongs to that device alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from danqing.core.events import Finished
from danqing.engine.calibration import keep, recalled
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Room
from danqing.schedule.cost import Bill, Costs, Saturation, Stage
from danqing.schedule.policy import InOrder, by_arrival
from tests.unit.engine.conftest import Crank, make_work

STEP = Bill(Stage.STEP, 1e9)


def learned() -> Costs:
    costs = Costs()
    costs.learn(STEP, 0.5)
    costs.learn(Bill(Stage.DECODE, 1e6), 0.1)
    return costs


def test_what_was_kept_is_recalled(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "kept.json"
    keep(file, "a card", learned().rates())
    assert recalled(file, "a card").seconds(STEP) == pytest.approx(0.5)
    assert list(file.parent.iterdir()) == [file]


def test_another_device_starts_afresh(tmp_path: Path) -> None:
    keep(tmp_path / "kept.json", "a card", learned().rates())
    assert recalled(tmp_path / "kept.json", "another card").seconds(STEP) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "device": "a card"}',
        '{"version": 2, "device": "a card", "rates": [["dream", 1, 1.0]]}',
        '{"version": 2, "device": "a card", "rates": [["step", 1, 0]]}',
        '{"version": 2, "device": "a card", "rates": [["step", 1, NaN]]}',
        '{"version": 2, "device": "a card", "rates": [["step", 1, 5.0], ["step", 2, -1.0]]}',
        '{"version": 2, "device": "a card", "rates": [["step", 1e999, 1.0]]}',
        '{"version": 2, "device": "a card", "rates": [["step", 1, 1e-300]]}',
        '{"version": 1, "device": "a card", "rates": [["step", 1, 1.0]]}',
    ],
)
def test_a_file_that_makes_no_sense_is_a_fresh_start(text: str, tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text(text)
    assert recalled(tmp_path / "kept.json", "a card").rates() == ()


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep(tmp_path / "file" / "kept.json", "a card", learned().rates())
    assert recalled(tmp_path / "file" / "kept.json", "a card").rates() == ()


def test_predictions_know_by_how_much_they_were_wrong() -> None:
    costs = Costs()
    assert costs.error is None
    costs.learn(STEP, 1.0)
    assert costs.error is None
    costs.learn(STEP, 2.0)
    assert costs.error == pytest.approx(0.5)
    for _ in range(400):
        costs.learn(STEP, 2.0)
    assert costs.error is not None
    assert costs.error < 0.01


def test_an_engine_hands_over_what_it_learned_at_its_end(crank: Callable[..., Crank]) -> None:
    made = crank()
    kept: list[int] = []
    engine = StepEngine(
        made.engine.profile,
        made.engine._families,
        policy=InOrder(by_arrival, Saturation(half=0)),
        room=Room(1 << 34),
        costs=learned(),
        keep=lambda costs: kept.append(len(costs.rates())),
    )
    heard: list[object] = []
    engine.listen(heard.append)
    engine.start(make_work("a"))
    end = time.monotonic() + 60
    while not any(isinstance(event, Finished) for event in heard):
        assert time.monotonic() < end
        time.sleep(0.01)
    engine.close()
    assert kept
    assert kept[-1] > 2
