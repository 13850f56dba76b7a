"""The drawn world: what is drawn, what is said, and that nothing held out is ever taught."""

from __future__ import annotations

import string
import zlib

import numpy as np
import pytest

from danqing.judge import words
from danqing.judge.backdrops import SHOWS
from danqing.judge.draw import render, silhouette
from danqing.judge.glyphs import WORDS_EN, WORDS_ZH
from danqing.judge.scenes import ALL_LANGUAGES, FIRST_TRAINING_SEED, ROWS, TASKS, draw_case, plan_case
from danqing.judge.tasks.plan import Plan
from danqing.judge.world import (
    BACKGROUNDS,
    COLOURS,
    EYES,
    FACINGS,
    GARMENTS,
    GOODS,
    HAIR,
    HELD_OUT_PAIRS,
    MATERIALS,
    PLACES,
    POSES,
    SHAPES,
    SIZES,
    STYLES,
    clear_of,
)

SOME = ("text_to_image", "recolour", "move", "fusion_three", "goods")


def test_the_world_is_as_wide_as_it_is_said_to_be() -> None:
    assert len(SHAPES) >= 12
    assert len(COLOURS) >= 10
    assert len(SIZES) == 4
    assert len(WORDS_EN) >= 40
    assert len(set("".join(WORDS_ZH))) >= 60
    assert len(ROWS) == 22


def test_every_entry_of_the_world_has_words() -> None:
    tables = (
        (words.COLOUR, COLOURS),
        (words.SHAPE, SHAPES),
        (words.SIZE, SIZES),
        (words.PLACE, PLACES),
        (words.BACKGROUND, BACKGROUNDS),
        (words.STYLE, STYLES),
        (words.GARMENT, GARMENTS),
        (words.HAIR, HAIR),
        (words.POSE, POSES),
        (words.FACING, FACINGS),
        (words.EYES, EYES),
        (words.GOODS, GOODS),
        (words.MATERIAL, MATERIALS),
    )
    for said, nouns in tables:
        assert set(said) == set(nouns)


def test_every_task_is_asked_in_six_ways_in_each_language_with_the_same_slots_to_fill() -> None:
    assert set(words.PHRASES) == set(TASKS)
    for task, ways in words.PHRASES.items():
        assert set(ways) == set(words.LANGUAGES)
        given = set(plan_case(task, FIRST_TRAINING_SEED).slots)
        asked = {}
        for language in words.LANGUAGES:
            assert len(ways[language]) == len(set(ways[language])) == 6, task
            asked[language] = [
                {name for _, name, _, _ in string.Formatter().parse(way) if name} for way in ways[language]
            ]
            assert all(slots <= given for slots in asked[language]), task
        assert asked["en"] == asked["zh"], task


@pytest.mark.parametrize("task", TASKS)
def test_a_case_has_the_inputs_its_task_names_and_no_open_slot(task: str) -> None:
    for language in ALL_LANGUAGES:
        case = draw_case(task, 3, language)
        assert len(case.inputs) == TASKS[task].inputs
        assert "{" not in case.instruction
        assert (language != "en") == any(
            "\u4e00" <= letter <= "\u9fff" for letter in case.instruction
        ) or "sign" in task
        assert all(not np.array_equal(picture, case.truth) for picture in case.inputs)


def test_traditional_chinese_has_other_letters_and_leaves_signs_as_they_are() -> None:
    case = draw_case("recolour", 3, "zh-Hant")
    assert case.instruction == words.traditional(draw_case("recolour", 3, "zh").instruction)
    slots = {"word": words.Said("开门", "开门"), "old": words.Said("书店", "书店")}
    assert words.say("sign_word", 4, "zh-Hant", slots) == "把“书店”改成“开门”。"
    assert words.traditional("红色圆形") == "紅色圓形"


def test_the_same_scene_is_asked_about_in_every_language() -> None:
    for task in SOME:
        english, chinese = draw_case(task, 7, "en"), draw_case(task, 7, "zh")
        assert np.array_equal(english.truth, chinese.truth)
        assert all(np.array_equal(a, b) for a, b in zip(english.inputs, chinese.inputs, strict=True))
        assert english.instruction != chinese.instruction


def test_a_scene_is_the_same_at_every_size() -> None:
    small, large = draw_case("recolour", 5, "en"), draw_case("recolour", 5, "en", size=(512, 512))
    shrunk = large.truth.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert small.truth_scene == large.truth_scene
    assert np.abs(shrunk - small.truth).mean() < 1


def test_held_out_questions_are_never_taught() -> None:
    """Chance alone would keep a few hundred questions apart, so what is held to is what parts them."""

    def held_out(plan: Plan) -> bool:
        return zlib.crc32(plan.key().encode()) % 16 == 0

    for task in TASKS:
        for plan in (plan_case(task, seed) for seed in range(12)):
            assert plan.unseen or held_out(plan), task
        for seed in range(40):
            assert not held_out(plan_case(task, FIRST_TRAINING_SEED + seed)), task


def test_held_out_pairs_are_asked_for_and_never_taught() -> None:
    assert {shape for shape, _ in HELD_OUT_PAIRS} == set(SHAPES)
    unseen = 0
    for task in SOME:
        for seed in range(40):
            taught = plan_case(task, FIRST_TRAINING_SEED + seed)
            things = [thing for scene in (*taught.befores, taught.after) for thing in scene.things]
            assert not {thing.pair for thing in things} & HELD_OUT_PAIRS
        for seed in range(0, 40, 4):
            plan = plan_case(task, seed)
            scenes = (*plan.befores, plan.after)
            unseen += plan.unseen and any(t.pair in HELD_OUT_PAIRS for scene in scenes for t in scene.things)
    assert unseen == 10 * len(SOME)


def test_things_touch_nothing_and_can_be_told_from_what_is_behind_them() -> None:
    for task in ("text_to_image", "add", "move", "fusion_three"):
        for seed in range(20):
            scene = plan_case(task, seed).after
            for thing in scene.things:
                others = [other for other in scene.things if other != thing]
                assert clear_of(thing, others), scene
                assert thing.colour in SHOWS[scene.background]
            assert len({thing.pair for thing in scene.things}) == len(scene.things)


def test_scenes_have_two_to_five_things_with_some_alike() -> None:
    scenes = [plan_case("recolour", seed).befores[0] for seed in range(60)]
    counts = {len(scene.things) for scene in scenes}
    assert counts == {2, 3, 4, 5}
    alike = [len({t.colour for t in s.things}) < len(s.things) for s in scenes]
    assert 10 < sum(alike) < 55


def test_no_shape_leaves_the_picture_at_any_place() -> None:
    for seed in range(40):
        for thing in plan_case("text_to_image", seed).after.things:
            for size in ((128, 128), (224, 96), (96, 128)):
                mask = silhouette(thing, *size)
                assert mask.any()
                border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
                assert not border.any(), thing


def test_a_drawn_background_cannot_be_spoilt_by_the_next_drawing() -> None:
    scene = plan_case("add", 1).after
    before = render(scene, 96, 128)
    before[:] = 0
    assert render(scene, 96, 128).any()
