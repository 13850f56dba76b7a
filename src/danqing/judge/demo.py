"""The fixed cases the demonstration sends to a running service, and the verdict on what comes back.

Simple scenes at sizes a person would send, chosen among what the bundled miniature answers whatever the noise: a
demonstration shows the service at work, `bench/eval.py` says how often the model is right. Knows no network: somebody
else carries the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

from danqing.judge import words
from danqing.judge.draw import render
from danqing.judge.scenes import Case, Plan, draw_case
from danqing.judge.score import judge
from danqing.judge.world import Scene, Thing

__all__ = ["DemoCase", "demo_cases", "judge"]


@dataclass(frozen=True, slots=True)
class DemoCase:
    """What is asked and how many pictures of it; judge each with `judge(demo.case, picture)`."""

    name: str
    case: Case
    count: int = 1


def _three(side: int) -> Case:
    """The heart of image 2 comes into image 1, before the background of image 3."""
    circle, heart = Thing("circle", "black", "right"), Thing("heart", "red", "centre")
    moved = Thing("heart", "red", "bottom")
    befores = (Scene("snow", (circle,)), Scene("beach", (heart,)), Scene("grass"))
    slots = {"thing": words.thing(heart), "on": words.PLACE[moved.place].on}
    plan = Plan(befores, Scene("grass", (circle, moved)), slots)
    return Case(
        task="fusion_three",
        language="zh",
        seed=0,
        instruction=words.say("fusion_three", 0, "zh", slots),
        inputs=tuple(render(scene, side, side) for scene in befores),
        truth=render(plan.after, side, side),
        plan=plan,
    )


def demo_cases() -> tuple[DemoCase, ...]:
    """All of them, drawn."""
    drawn = draw_case("text_to_image", 74, "zh", size=(512, 512), least=1, most=1)
    edited = draw_case("recolour", 162, "zh", size=(512, 512), least=1, most=1)
    return (
        DemoCase("text to image", drawn),
        DemoCase("edit one picture", edited),
        DemoCase("three pictures into one, twice", _three(1024), 2),
    )
