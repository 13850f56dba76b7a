"""The cost model against the published numbers of the true-size transformer, and its calibration."""

from __future__ import annotations

import pytest

from danqing.schedule.cost import SLOWEST, Bill, BlockCausal, Costs, Saturation, Stage

TRUE_SIZE = BlockCausal(layers=32, width=4096, ratio=3, item=2)


def test_the_true_size_model_costs_14_gigaflop_a_token_and_half_a_megabyte_of_prefix() -> None:
    assert TRUE_SIZE.forward(1, 0) == pytest.approx(13.96e9, rel=1e-3)
    assert TRUE_SIZE.forward(1000, 1000) - TRUE_SIZE.forward(1000, 0) == 524_288 * 1000 * 1000
    assert TRUE_SIZE.prefix_bytes(1) == pytest.approx(0.524e6, rel=1e-3)


@pytest.mark.parametrize(("references", "tflop"), [(0, 66), (1, 75), (2, 84), (3, 93)])
def test_a_cached_step_at_a_megapixel_costs_what_the_design_says(references: int, tflop: float) -> None:
    assert TRUE_SIZE.forward(4096, 4096 * (references + 1) + 60) == pytest.approx(tflop * 1e12, rel=0.02)


def test_nothing_is_predicted_before_anything_was_measured() -> None:
    assert Costs().seconds(Bill(Stage.STEP, 1e9)) is None
    assert Costs().seconds(Bill(Stage.STEP, 0)) == 0


def test_how_long_to_wait_for_a_unit_is_known_before_anything_was_measured() -> None:
    """A step of the true-size editing model on a processor: 336 TFLOP."""
    costs, step = Costs(), Bill(Stage.STEP, 336e12)
    assert costs.patience(step) == pytest.approx(336e12 / SLOWEST["cpu"])
    costs.learn(Bill(Stage.ENCODE, 1e12), 1e12 / 5e9)
    assert costs.patience(step) == pytest.approx(336e12 / 5e9), "slower than what was taken for possible"
    costs.learn(Bill(Stage.DECODE, 1e12), 1.0)
    assert costs.patience(step) == pytest.approx(336e12 / 5e9), "one quick stage says nothing of another"
    costs.learn(step, 3.0)
    assert costs.patience(step) == costs.seconds(step) == pytest.approx(3.0)
    assert costs.patience(Bill(Stage.PREFILL, 0.0)) == 0.0


def test_predictions_follow_the_nearest_measured_size_of_the_stage() -> None:
    costs = Costs()
    costs.learn(Bill(Stage.STEP, 1e9), 1.0)
    costs.learn(Bill(Stage.STEP, 1e12), 10.0)
    assert costs.seconds(Bill(Stage.STEP, 1.5e9)) == pytest.approx(1.5)
    assert costs.seconds(Bill(Stage.STEP, 2e12)) == pytest.approx(20)


def test_a_stage_never_measured_is_predicted_by_the_slowest_other_of_its_size() -> None:
    costs = Costs()
    costs.learn(Bill(Stage.STEP, 1e9), 1.0)
    costs.learn(Bill(Stage.ENCODE, 1e9), 4.0)
    assert costs.seconds(Bill(Stage.DECODE, 1e9)) == pytest.approx(4)


def test_small_work_that_a_device_is_slow_at_says_little_of_large_work() -> None:
    costs = Costs()
    costs.learn(Bill(Stage.PREFILL, 1e6), 0.01)
    costs.learn(Bill(Stage.STEP, 1e12), 1.0)
    assert costs.seconds(Bill(Stage.DECODE, 1e11)) == pytest.approx(0.1)


def test_a_guess_from_another_stage_is_no_price() -> None:
    costs = Costs()
    costs.learn(Bill(Stage.STEP, 1e9), 1.0)
    assert costs.known(Bill(Stage.DECODE, 1e9)) is None
    assert costs.known(Bill(Stage.STEP, 2e9)) == costs.seconds(Bill(Stage.STEP, 2e9)) == pytest.approx(2)
    costs.learn(Bill(Stage.DECODE, 1e9), 50.0)
    assert costs.error is None, "what was guessed was not mispredicted"


def test_one_interruption_is_not_what_a_step_takes_now() -> None:
    costs, step = Costs(), Bill(Stage.STEP, 1e9)
    for _ in range(20):
        costs.learn(step, 0.25)
    costs.learn(step, 600.0)
    assert costs.seconds(step) < 0.36
    for _ in range(5):
        costs.learn(step, 0.25)
    assert costs.seconds(step) == pytest.approx(0.25, rel=0.15)


def test_three_in_a_row_are() -> None:
    costs, step = Costs(), Bill(Stage.STEP, 1e9)
    costs.learn(step, 0.25)
    for _ in range(20):
        costs.learn(step, 2.5)
    assert costs.seconds(step) == pytest.approx(2.5, rel=0.05)


def test_a_cold_first_time_is_forgotten_with_the_second() -> None:
    costs, step = Costs(), Bill(Stage.STEP, 1e9)
    costs.learn(step, 60.0)
    costs.learn(step, 0.25)
    assert costs.seconds(step) == pytest.approx(0.25)


def test_calibration_settles_on_a_device_that_became_slower() -> None:
    costs = Costs()
    costs.learn(Bill(Stage.STEP, 1e9), 1.0)
    for _ in range(30):
        costs.learn(Bill(Stage.STEP, 1e9), 2.0)
    assert costs.seconds(Bill(Stage.STEP, 1e9)) == pytest.approx(2, rel=0.01)


def test_clocks_that_stood_still_and_empty_bills_teach_nothing() -> None:
    costs = Costs()
    costs.learn(Bill(Stage.STEP, 1e9), 0)
    costs.learn(Bill(Stage.STEP, 0), 1)
    assert costs.seconds(Bill(Stage.STEP, 1)) is None


def test_batches_pay_for_small_pictures_and_not_for_large_ones() -> None:
    cpu = Saturation(half=36)
    assert cpu.pays(64, 2)
    assert cpu.together(64, 4) == pytest.approx(0.73, abs=0.01)
    assert not cpu.pays(4096, 4)
    assert not cpu.pays(64, 1)
