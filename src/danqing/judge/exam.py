"""Held-out cases put to anybody who answers with pictures, counted by row and language. Knows no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from danqing.judge.draw import Pixels
from danqing.judge.scenes import LANGUAGES, ROWS, Case, draw_case
from danqing.judge.score import Verdict, judge

Answer = Callable[[Case], Pixels]


@dataclass(frozen=True, slots=True)
class Paper:
    """Which questions are asked: held-out seeds from `first` on, `count` for each row and language."""

    rows: tuple[str, ...] = tuple(ROWS)
    languages: tuple[str, ...] = LANGUAGES
    count: int = 10
    first: int = 0
    size: tuple[int, int] = (128, 128)

    def cases(self) -> Iterable[Case]:
        """The questions, in order."""
        for row in self.rows:
            for language in self.languages:
                for seed in range(self.first, self.first + self.count):
                    yield draw_case(row, seed, language, size=self.size)


@dataclass(slots=True)
class Tally:
    """Right answers and questions by (row, language), and what went wrong."""

    right: Counter[tuple[str, str]] = field(default_factory=Counter)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[tuple[Case, Verdict]] = field(default_factory=list)

    def add(self, case: Case, verdict: Verdict) -> None:
        """Count one verdict."""
        key = (case.row, case.language)
        self.asked[key] += 1
        self.right[key] += verdict.right
        if not verdict.right:
            self.faults.append((case, verdict))

    def share(self, row: str, language: str | None = None) -> float:
        """Right answers to a row, in one language or in all."""
        keys = [key for key in self.asked if key[0] == row and language in (None, key[1])]
        return sum(self.right[key] for key in keys) / max(1, sum(self.asked[key] for key in keys))


def sit(paper: Paper, answer: Answer) -> Tally:
    """Put every question of the paper to `answer`."""
    tally = Tally()
    for case in paper.cases():
        tally.add(case, judge(case, answer(case)))
    return tally
