"""The fixed cases the demonstration sends to a running service, and the verdict on what comes back.

Held-out scenes at sizes a person would send, chosen among what the bundled miniature answers whatever the noise: a
demonstration shows the service at work, `bench/eval.py` says how often the model is right. Knows no network: somebody
else carries the pictures.
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


_SQUARE, _WIDE = (1024, 1024), (1664, 928)
_ASKED = (
    ("three pictures into one, twice", "fusion_headline", 3, "zh", _SQUARE, 2),
    ("text to image", "text_to_image", 9, "en", _WIDE, 1),
    ("replace a thing", "replace", 3, "zh", _SQUARE, 1),
    ("a thing and a background of others", "fusion_three", 0, "en", _SQUARE, 1),
    ("a print on a bag", "goods", 4, "zh", _SQUARE, 1),
    ("another view", "viewpoint", 5, "zh", _SQUARE, 1),
    ("the material of a sign", "sign_material", 0, "en", _SQUARE, 1),
    ("an old picture", "restore", 2, "en", _SQUARE, 1),
)
"""Name, task, held-out seed, language, size, and how many pictures."""


def demo_cases() -> tuple[DemoCase, ...]:
    """All of them, drawn; the documentation's own first example, three pictures into one, goes first."""
    return tuple(
        DemoCase(name, draw_case(task, seed, language, size=size), count)
        for name, task, seed, language, size, count in _ASKED
    )
