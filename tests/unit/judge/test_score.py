"""The judge lets right answers pass and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from danqing.judge.backdrops import SHOWS, Pixels
from danqing.judge.draw import render
from danqing.judge.exam import Paper, Tally, judge_judge, wilson
from danqing.judge.scenes import TASKS, Case, draw_case
from danqing.judge.score import Verdict, judge
from danqing.judge.styles import blur
from danqing.judge.world import COLOURS, SHAPES, Thing, clear_of

SIZES = ((128, 128), (192, 128), (96, 128), (224, 96))
EACH = 3
OBJECTS = ("text_to_image", "recolour", "replace", "add", "move", "fusion_three")


def _cases(*tasks: str, each: int = EACH) -> Iterator[Case]:
    for task in tasks:
        for seed in range(each):
            yield draw_case(task, 200 + seed, ("en", "zh")[seed % 2], size=SIZES[seed % len(SIZES)])


def _passed(answer: Callable[[Case], Pixels], *tasks: str) -> list[str]:
    return [f"{case.task} {case.seed}" for case in _cases(*tasks) if judge(case, answer(case)).right]


def test_on_every_row_the_truth_passes_and_every_wrong_answer_fails() -> None:
    true, false, passed = judge_judge(_cases(*TASKS, each=2))
    assert true >= 0.99
    assert false <= 0.02, passed


def test_the_true_answer_passes_when_drawn_larger_and_a_little_soft() -> None:
    def larger(case: Case) -> Pixels:
        return render(case.truth_scene, *(2 * side for side in case.size))

    def soft(case: Case) -> Pixels:
        wide = np.pad(case.truth.astype(np.float32), ((1, 1), (1, 1), (0, 0)), "edge")
        around = wide[1:-1, :-2] + wide[1:-1, 2:] + wide[:-2, 1:-1] + wide[2:, 1:-1]
        return ((4 * wide[1:-1, 1:-1] + around) / 8).astype(np.uint8)

    for answer in (larger, soft):
        assert len(_passed(answer, *OBJECTS)) == EACH * len(OBJECTS)


def _changed(case: Case, **what: str) -> Pixels:
    thing = case.truth_scene.things[-1]
    return render(case.truth_scene.swap(thing, replace(thing, **what)), *case.size)


def test_a_wrong_colour_a_wrong_shape_and_a_wrong_size_fail() -> None:
    def colour(case: Case) -> Pixels:
        thing, background = case.truth_scene.things[-1], case.truth_scene.background
        return _changed(case, colour=next(c for c in COLOURS if c in SHOWS[background] and c != thing.colour))

    def shape(case: Case) -> Pixels:
        thing = case.truth_scene.things[-1]
        return _changed(case, shape=SHAPES[(SHAPES.index(thing.shape) + 1) % len(SHAPES)])

    def size(case: Case) -> Pixels:
        return _changed(case, size="small" if case.truth_scene.things[-1].size != "small" else "medium")

    for answer in (colour, shape, size):
        assert _passed(answer, *OBJECTS) == []


def test_every_shape_is_told_from_every_other() -> None:
    case = draw_case("text_to_image", 201, "en")
    for shape in SHAPES:
        scene = case.truth_scene.with_things(Thing(shape, "red", "centre", "small"))
        asked = replace(case, plan=replace(case.plan, after=replace(scene, background="white")))
        for other in SHAPES:
            picture = render(
                asked.truth_scene.with_things(Thing(other, "red", "centre", "small")), *case.size
            )
            assert judge(asked, picture).right == (other == shape), (shape, other)


def test_a_thing_too_many_and_a_thing_too_few_fail() -> None:
    def more(case: Case) -> Pixels:
        scene = case.truth_scene
        colour = next(c for c in COLOURS if c in SHOWS[scene.background])
        extra = (
            Thing("circle", colour, place, "small") for place in ("centre", "left", "top_right", "bottom")
        )
        fits = next(thing for thing in extra if clear_of(thing, scene.things))
        return render(scene.with_things(*scene.things, fits), *case.size)

    def fewer(case: Case) -> Pixels:
        return render(case.truth_scene.without(case.truth_scene.things[0]), *case.size)

    assert _passed(more, "recolour", "delete", "background") == []
    assert _passed(fewer, "text_to_image", "recolour", "background") == []


def test_another_background_and_another_aspect_fail() -> None:
    def elsewhere(case: Case) -> Pixels:
        name = "grey" if case.truth_scene.background != "grey" else "snow"
        return render(replace(case.truth_scene, background=name), *case.size)

    def turned(case: Case) -> Pixels:
        height, width = case.truth.shape[:2]
        return render(case.truth_scene, 2 * width, height)

    assert _passed(elsewhere, "text_to_image", "background", "pose", "sign_word") == []
    assert _passed(turned, "text_to_image", "pose") == []


def test_a_sign_with_another_word_fails_and_a_reason_names_it() -> None:
    case = draw_case("sign_word", 8, "en")
    other = next(wrong for wrong in case.plan.wrongs)
    verdict = judge(case, render(other, *case.size))
    assert not verdict.right
    assert any("the sign says" in reason for reason in verdict.reasons)


def test_damage_that_is_half_mended_fails() -> None:
    def half(case: Case) -> Pixels:
        return ((case.truth.astype(int) + case.inputs[0]) // 2).astype(np.uint8)

    assert _passed(half, "restore", "enhance") == []


def test_a_picture_blurred_beyond_use_fails() -> None:
    def blurred(case: Case) -> Pixels:
        radius = max(1, round(min(case.size) * 5 / 128))
        return blur(blur(case.truth.astype(np.float32), radius), radius).astype(np.uint8)

    assert _passed(blurred, "recolour", "pose", "goods", "sign_word") == []


def test_a_paper_asks_the_same_scenes_in_every_language_and_each_task_of_a_row() -> None:
    cases = list(Paper(rows=("fusion_object",), count=3).cases())
    assert [case.language for case in cases] == ["en", "zh"] * 3
    assert {case.task for case in cases} == {"fusion_object", "fusion_background", "fusion_three"}


def test_a_tally_counts_by_row_language_and_novelty() -> None:
    tally = Tally()
    for seed in range(4):
        for language in ("en", "zh"):
            case = draw_case("delete", seed, language)
            tally.add(case, Verdict(language == "en" or seed == 0))
    assert tally.share("delete", "en") == 1
    assert tally.share("delete", "zh") == 0.25
    assert tally.share(unseen=True) == 1
    assert tally.gap("en", "zh")[0] == 0.75
    low, high = tally.interval("delete")
    assert low < tally.share("delete") < high


def test_answers_in_two_languages_that_are_always_right_together_count_as_one() -> None:
    together, apart = Tally(), Tally()
    for seed in range(20):
        for language in ("en", "zh"):
            case = draw_case("delete", seed, language)
            together.add(case, Verdict(seed % 2 == 0))
            apart.add(case, Verdict((seed % 2 == 0) == (language == "en")))
    assert together.interval("delete") == pytest.approx(wilson(10, 20), abs=0.01)
    assert apart.interval("delete") == pytest.approx(wilson(20, 40), abs=0.01)


def test_novelty_compares_pairs_within_the_tasks_that_ask_about_both() -> None:
    tally = Tally()
    for seed in range(8):
        tally.add(draw_case("delete", seed, "en"), Verdict(seed % 2 == 0))
        tally.add(draw_case("style", seed, "en"), Verdict(right=False))
    taught, new = tally.novelty()
    assert taught == pytest.approx(2 / 6)
    assert new == 1


@pytest.mark.parametrize(("right", "asked", "low", "high"), [(0, 10, 0.0, 0.2775), (90, 100, 0.8256, 0.9448)])
def test_intervals_are_wilsons(right: int, asked: int, low: float, high: float) -> None:
    assert wilson(right, asked) == pytest.approx((low, high), abs=1e-3)
