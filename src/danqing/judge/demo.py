"""The fixed cases the demonstration sends to a running service, and the verdict on what comes back.

Drawn from held-out seeds at sizes a person would send, and chosen among the questions the miniature answers whatever
the noise: a demonstration shows the service at work, `bench/eval.py` says how often the model is right. Knows no
network: somebody else carries the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

from danqing.judge.scenes import Case, draw_case
from danqing.judge.score import judge

__all__ = ["DemoCase", "demo_cases", "judge"]


@dataclass(frozen=True, slots=True)
class DemoCase:
    """What is asked and how many pictures of it; judge each with `judge(demo.case, picture)`."""

    name: str
    case: Case
    count: int = 1


# name, row, held-out seed, language, side of the drawn inputs, pictures wanted
_CHOSEN: tuple[tuple[str, str, int, str, int, int], ...] = (
    ("text to image", "text_to_image", 3, "zh", 512, 1),
    ("edit one picture", "recolour", 5, "zh", 512, 1),
    ("three pictures into one, twice", "fusion_three", 4, "zh", 1024, 2),
)


def demo_cases() -> tuple[DemoCase, ...]:
    """All of them, drawn."""
    return tuple(
        DemoCase(name, draw_case(row, seed, language, size=(side, side)), count)
        for name, row, seed, language, side, count in _CHOSEN
    )
