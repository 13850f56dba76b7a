"""The judge lets right answers pass and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from danqing.judge.draw import Pixels, render
from danqing.judge.exam import Paper, sit
from danqing.judge.rows import ROWS
from danqing.judge.scenes import Case, draw_case
from danqing.judge.score import judge
from danqing.judge.world import COLOURS, SHAPES, Scene, Thing

SIZES = ((128, 128), (160, 96), (96, 160))
EACH = 3


def _cases(*rows: str) -> Iterator[Case]:
    for row in rows or ROWS:
        for seed in range(EACH):
            yield draw_case(row, 200 + seed, ("en", "zh")[seed % 2], size=SIZES[seed % 3])


def _share(answer: Callable[[Case], Pixels | None], *rows: str) -> float:
    answers = [(case, answer(case)) for case in _cases(*rows)]
    verdicts = [judge(case, picture).right for case, picture in answers if picture is not None]
    assert verdicts
    return sum(verdicts) / len(verdicts)


def _blurred(picture: Pixels, sigma: float) -> Pixels:
    reach = int(3 * sigma)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma * sigma))
    weights /= weights.sum()
    wide = np.pad(picture.astype(float), ((reach, reach), (reach, reach), (0, 0)), "edge")
    high = sum(w * wide[i : i + picture.shape[0]] for i, w in enumerate(weights))
    both = sum(w * high[:, i : i + picture.shape[1]] for i, w in enumerate(weights))
    return np.asarray(both, dtype=np.uint8)


def _wrong_colour(case: Case) -> Pixels:
    thing = case.truth_scene.things[-1]
    other = next(c for c in COLOURS if c not in {t.colour for t in case.truth_scene.things})
    changed = Thing(thing.shape, other, thing.place, thing.shift, thing.scale)
    return render(case.truth_scene.swap(thing, changed), *case.size)


def _wrong_shape(case: Case) -> Pixels:
    thing = case.truth_scene.things[-1]
    other = SHAPES[(SHAPES.index(thing.shape) + 1) % len(SHAPES)]
    changed = Thing(other, thing.colour, thing.place, thing.shift, thing.scale)
    return render(case.truth_scene.swap(thing, changed), *case.size)


def _beside(case: Case) -> tuple[Case, Thing]:
    """The same question with somebody standing by who must be left alone."""
    scene = case.truth_scene
    free = [
        place for place in scene.free_places() if place not in {t.place for t in case.before_scenes[0].things}
    ]
    taken = {(t.colour, t.shape) for each in (scene, *case.before_scenes) for t in each.things}
    colour = next(c for c in COLOURS if c not in {colour for colour, _ in taken})
    other = Thing(next(s for s in SHAPES if s not in {shape for _, shape in taken}), colour, free[0])
    after = scene.with_things(*scene.things, other)
    befores = tuple(each.with_things(*each.things, other) for each in case.before_scenes)
    return replace(case, truth_scene=after, truth=render(after, *case.size), before_scenes=befores), other


def _on_the_wrong_object(case: Case) -> bool:
    """What was asked of one thing is done to the other: whether the judge lets it pass."""
    asked, other = _beside(case)
    before = asked.before_scenes[0]
    was = next(t for t in before.things if t not in asked.truth_scene.things)
    now = next((t for t in asked.truth_scene.things if t not in before.things), None)
    if now is None:
        after = before.without(other)
    elif now.place != was.place:
        after = before.swap(other, other.at(now.place))
    else:
        after = before.swap(other, Thing(other.shape, now.colour, other.place))
    assert judge(asked, asked.truth).right
    return judge(asked, render(after, *case.size)).right


def test_the_true_answer_passes() -> None:
    assert _share(lambda case: case.truth) == 1


def test_the_true_answer_passes_when_drawn_larger_and_a_little_soft() -> None:
    some = ("text_to_image", "move", "fusion_three")
    assert _share(lambda case: render(case.truth_scene, *(2 * side for side in case.size)), *some) == 1
    assert _share(lambda case: _blurred(case.truth, 1.0), *some) == 1


def test_the_unedited_input_fails() -> None:
    assert _share(lambda case: case.inputs[0] if case.inputs else None) == 0


def test_a_blurred_answer_fails() -> None:
    def blurred(case: Case) -> Pixels | None:
        return _blurred(case.truth, 4.5) if case.truth_scene.things else None

    assert _share(blurred) <= 0.02


def test_the_mean_of_question_and_answer_fails() -> None:
    def mean(case: Case) -> Pixels | None:
        if not case.inputs:
            return None
        return ((case.truth.astype(int) + case.inputs[0]) // 2).astype(np.uint8)

    assert _share(mean) <= 0.02


def test_a_wrong_colour_fails() -> None:
    assert _share(_wrong_colour, "text_to_image", "recolour", "replace", "add") == 0


def test_a_wrong_shape_fails() -> None:
    assert _share(_wrong_shape, "text_to_image", "replace", "fusion_object", "fusion_three") == 0


def test_the_right_edit_on_the_wrong_object_fails() -> None:
    assert not any(_on_the_wrong_object(case) for case in _cases("recolour", "delete", "move"))


def test_a_thing_too_many_and_a_thing_too_few_fail() -> None:
    def more(case: Case) -> Pixels:
        scene = case.truth_scene
        extra = Thing("circle", "red", scene.free_places()[0])
        return render(scene.with_things(*scene.things, extra), *case.size)

    def fewer(case: Case) -> Pixels:
        return render(case.truth_scene.without(case.truth_scene.things[0]), *case.size)

    assert _share(more, "text_to_image", "delete", "background") == 0
    assert _share(fewer, "text_to_image", "recolour", "background") == 0


def test_another_background_and_another_aspect_fail() -> None:
    def elsewhere(case: Case) -> Pixels:
        name = "grey" if case.truth_scene.background != "grey" else "snow"
        return render(Scene(name, case.truth_scene.things), *case.size)

    assert _share(elsewhere, "text_to_image", "background") == 0
    case = draw_case("add", 1, "en")
    assert not judge(case, render(case.truth_scene, 192, 128)).right


def test_a_wrong_answer_comes_with_its_reason() -> None:
    case = draw_case("recolour", 1, "en")
    assert judge(case, case.inputs[0]).reasons


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_exam_counts_by_row_and_language(language: str) -> None:
    paper = Paper(rows=("add", "delete"), languages=(language,), count=2)
    tally = sit(paper, lambda case: case.truth if case.row == "add" else case.inputs[0])
    assert tally.share("add") == 1
    assert tally.share("delete", language) == 0
    assert len(tally.faults) == 2
