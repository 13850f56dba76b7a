"""The drawn world: what is drawn, what is said, and that nothing held out is ever taught."""

from __future__ import annotations

import numpy as np
import pytest

from danqing.judge.draw import render
from danqing.judge.rows import INPUTS, ROWS
from danqing.judge.scenes import FIRST_TRAINING_SEED, draw_case, plan_case
from danqing.judge.words import (
    BACKGROUND_EN,
    BACKGROUND_ZH,
    COLOUR_ZH,
    LANGUAGES,
    PHRASES,
    PLACE_WORDS,
    SHAPE_ZH,
)
from danqing.judge.world import BACKGROUNDS, COLOURS, PLACES, SHAPES


def test_every_entry_of_the_world_has_words_in_both_languages() -> None:
    assert set(COLOUR_ZH) == set(COLOURS)
    assert set(SHAPE_ZH) == set(SHAPES)
    assert set(PLACE_WORDS) == set(PLACES)
    assert set(BACKGROUND_EN) == set(BACKGROUND_ZH) == set(BACKGROUNDS)
    assert set(PHRASES) == set(ROWS) == set(INPUTS)
    assert all(set(phrases) == set(LANGUAGES) for phrases in PHRASES.values())


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_case_has_the_inputs_its_row_names_and_no_open_slot(row: str, language: str) -> None:
    case = draw_case(row, 3, language)
    assert len(case.inputs) == INPUTS[row] == len(case.before_scenes)
    assert "{" not in case.instruction
    assert (language == "zh") == any("\u4e00" <= letter <= "\u9fff" for letter in case.instruction)
    assert all(not np.array_equal(picture, case.truth) for picture in case.inputs)


def test_the_same_seed_gives_the_same_case() -> None:
    once, again = draw_case("move", 5, "en"), draw_case("move", 5, "en")
    assert once.instruction == again.instruction
    assert np.array_equal(once.truth, again.truth)


def test_a_scene_is_the_same_at_every_size() -> None:
    small, large = draw_case("recolour", 5, "en"), draw_case("recolour", 5, "en", size=(512, 512))
    shrunk = large.truth.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert small.truth_scene == large.truth_scene
    assert np.abs(shrunk - small.truth).mean() < 1


def test_held_out_questions_are_never_taught() -> None:
    for row in ROWS:
        held = {plan_case(row, seed, "en").key() for seed in range(20)}
        taught = {plan_case(row, FIRST_TRAINING_SEED + seed, "en").key() for seed in range(60)}
        assert not held & taught


def test_things_of_a_scene_differ_in_colour_shape_and_place() -> None:
    for seed in range(30):
        things = plan_case("fusion_three", seed, "en").after.things
        for trait in ("colour", "shape", "place"):
            assert len({getattr(thing, trait) for thing in things}) == len(things)


def test_a_drawn_background_cannot_be_spoilt_by_the_next_drawing() -> None:
    scene = plan_case("add", 1, "en").after
    before = render(scene, 96, 128)
    before[:] = 0
    assert render(scene, 96, 128).any()
