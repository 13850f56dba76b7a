from __future__ import annotations

from collections.abc import Sequence

import pytest

from danqing.core.order import Brief
from danqing.core.raster import Raster, Size
from danqing.core.writing import CannotWrite, Panel
from danqing.work.plan import planned, told


class Planner:
    """A rewriter that plans what it was given, or cannot."""

    def __init__(self, *panels: Panel) -> None:
        self.panels, self.asked = panels, list[tuple[str, int, int]]()

    async def extend(self, prompt: str, inputs: Sequence[Raster], *, think: bool = False) -> str:
        raise NotImplementedError

    async def series(self, prompt: str, inputs: Sequence[Raster], count: int) -> tuple[str, ...]:
        return tuple(panel.prompt for panel in await self.story(prompt, inputs, count))

    async def story(self, prompt: str, inputs: Sequence[Raster], most: int) -> tuple[Panel, ...]:
        self.asked.append((prompt, len(inputs), most))
        if not self.panels:
            raise CannotWrite("away")
        return self.panels


def brief(prompt: str = "a fox", count: int = 3, **knobs: bool) -> Brief:
    return Brief("wan", prompt, None, (), count, Size(8, 8), 7, knobs=knobs)


A_PICTURE = Raster(Size(1, 1), 3, bytes(3))


async def test_a_job_that_asks_for_neither_has_no_plan() -> None:
    planner = Planner(Panel("", "a fox"))
    assert await planned(brief(enable_sequential=False, enable_interleave=False), (), planner) is None
    assert planner.asked == []


async def test_a_series_has_the_planner_s_prompts_and_no_text() -> None:
    planner = Planner(Panel("", "a fox wakes"), Panel("", "a fox runs"), Panel("", "a fox sleeps"))
    panels = await planned(brief(enable_sequential=True), (A_PICTURE,), planner)
    assert panels == planner.panels
    assert planner.asked == [("a fox", 1, 3)]


async def test_a_story_has_the_planner_s_panels_and_no_more_than_ordered() -> None:
    planner = Planner(*(Panel(f"text {place}", f"prompt {place}") for place in range(5)))
    assert await planned(brief(enable_interleave=True), (), planner) == planner.panels[:3]


@pytest.mark.parametrize("planner", [None, Planner()], ids=["none", "away"])
async def test_a_series_without_a_planner_repeats_its_prompt(planner: Planner | None) -> None:
    panels = await planned(brief(count=2, enable_sequential=True), (), planner)
    assert panels == (Panel("", "a fox"), Panel("", "a fox"))


@pytest.mark.parametrize("planner", [None, Planner()], ids=["none", "away"])
async def test_a_story_without_a_planner_tells_the_caller_s_own_words(planner: Planner | None) -> None:
    panels = await planned(brief("A fox wakes. It runs!", enable_interleave=True), (), planner)
    assert panels == (Panel("A fox wakes.", "A fox wakes."), Panel("It runs!", "It runs!"))


@pytest.mark.parametrize(
    ("text", "most", "parts"),
    [
        ("A fox wakes. It runs. It sleeps.", 5, ["A fox wakes.", "It runs.", "It sleeps."]),
        ("A fox wakes. It runs. It sleeps.", 2, ["A fox wakes.", "It runs. It sleeps."]),
        ("一只狐狸醒来。它奔跑。它睡着了。", 2, ["一只狐狸醒来。", "它奔跑。它睡着了。"]),
        ("一只狐狸醒来，走到河边，喝水", 5, ["一只狐狸醒来，", "走到河边，", "喝水"]),
        ("A fox wakes, then runs, and finally it sleeps", 5, ["A fox wakes,", "then runs,", "and finally it sleeps"]),
        ("A fox wakes; it runs", 5, ["A fox wakes;", "it runs"]),
        ("First line\nsecond line", 5, ["First line", "second line"]),
        ("A red, round ball of version 2.5", 5, ["A red, round ball of version 2.5"]),
        ("What?! Really... yes", 5, ["What?!", "Really...", "yes"]),
        ("  ", 5, ["  "]),
        ("a. b. c. d. e.", 1, ["a. b. c. d. e."]),
    ],
)  # fmt: skip
def test_a_text_is_cut_into_what_it_tells_one_by_one(text: str, most: int, parts: list[str]) -> None:
    assert list(told(text, most)) == parts


def test_nothing_of_a_text_is_left_out() -> None:
    text = "。".join(f"第{number}句" for number in range(23)) + "。"
    for most in range(1, 13):
        parts = told(text, most)
        assert len(parts) == most
        assert "".join(parts) == text
