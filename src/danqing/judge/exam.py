"""Held-out cases put to anybody who answers with pictures, counted by row, language and novelty. Knows no model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from danqing.judge.scenes import LANGUAGES, ROWS, Case, draw_case
from danqing.judge.score import Verdict, judge
from danqing.judge.wrong import wrong_answers

Question = tuple[str, int, str]
Z = 1.959964  # of the normal distribution, for 95 % intervals


@dataclass(frozen=True, slots=True)
class Paper:
    """Which questions are asked: held-out seeds from `first` on, `count` for each row, the same in each language."""

    rows: tuple[str, ...] = tuple(ROWS)
    languages: tuple[str, ...] = LANGUAGES
    count: int = 10
    first: int = 0
    size: tuple[int, int] = (128, 128)

    def questions(self) -> Iterator[Question]:
        """Task, seed and language of each: all languages of one before the next, the tasks of a row in turn."""
        for row in self.rows:
            tasks = ROWS[row]
            for seed in range(self.first, self.first + self.count):
                for language in self.languages:
                    yield tasks[seed % len(tasks)], seed, language

    def cases(self) -> Iterator[Case]:
        """The questions, drawn."""
        return map(self.draw, self.questions())

    def draw(self, question: Question) -> Case:
        """One of them."""
        return draw_case(*question, size=self.size)


@dataclass(slots=True)
class Tally:
    """Every question with its verdict; shares of right answers of any part of them."""

    answered: list[tuple[Case, Verdict]] = field(default_factory=list)

    def add(self, case: Case, verdict: Verdict) -> None:
        """One more question."""
        self.answered.append((case, verdict))

    def share(self, row: str | None = None, language: str | None = None, unseen: bool | None = None) -> float:
        """Right answers to a row, in one language, to pairs of shape and colour that were or were not taught."""
        return _share(self._some(row, language, unseen))

    def asked(self, row: str | None = None, language: str | None = None) -> int:
        """How many questions."""
        return len(self._some(row, language, None))

    def interval(self, row: str) -> tuple[float, float]:
        """The 95 % interval of a row (Wilson, 1927). Two languages ask about one scene, and are mostly right together:
        so many answers count as independent ones would have that scatter as the scenes' means do."""
        by_scene: dict[tuple[str, int], list[bool]] = {}
        for case, verdict in self.answered:
            if case.row == row:
                by_scene.setdefault((case.task, case.seed), []).append(verdict.right)
        means = [_share(right) for right in by_scene.values()]
        share, asked = _share(self._some(row, None, None)), self.asked(row)
        alone = share * (1 - share)  # the variance of one answer
        scatter = sum((mean - share) ** 2 for mean in means) / max(1, len(means) * (len(means) - 1))
        count = min(asked, max(len(means), alone / scatter if scatter else asked)) if alone else len(means)
        return wilson(share * count, count)

    def novelty(self) -> tuple[float, float]:
        """Right answers where the pair of shape and colour was taught, and where it was not: of the tasks that ask
        about both, or the tasks are compared and not the pairs."""
        both = {case.task for case, _ in self.answered if case.plan.unseen}
        some = [(case.plan.unseen, verdict.right) for case, verdict in self.answered if case.task in both]
        taught, new = ([right for unseen, right in some if unseen is kind] for kind in (False, True))
        return _share(taught), _share(new)

    def faults(self) -> Iterator[tuple[Case, Verdict]]:
        """What was answered wrongly."""
        return ((case, verdict) for case, verdict in self.answered if not verdict.right)

    def gap(self, one: str, other: str) -> tuple[float, float]:
        """How much more often the first language was answered rightly on the same scenes, and half the width of
        the 95 % interval of that difference."""
        by_scene: dict[tuple[str, int], dict[str, bool]] = {}
        for case, verdict in self.answered:
            by_scene.setdefault((case.task, case.seed), {})[case.language] = verdict.right
        pairs = [
            int(both[one]) - int(both[other]) for both in by_scene.values() if one in both and other in both
        ]
        if not pairs:
            return 0.0, 0.0
        mean = sum(pairs) / len(pairs)
        spread = sum((pair - mean) ** 2 for pair in pairs) / max(1, len(pairs) - 1)
        return mean, Z * math.sqrt(spread / len(pairs))

    def _some(self, row: str | None, language: str | None, unseen: bool | None) -> list[bool]:
        return [
            verdict.right
            for case, verdict in self.answered
            if row in (None, case.row)
            and language in (None, case.language)
            and unseen in (None, case.plan.unseen)
        ]


def _share(right: list[bool]) -> float:
    return sum(right) / max(1, len(right))


def wilson(right: float, asked: float) -> tuple[float, float]:
    """The 95 % interval of a share: E. B. Wilson, 1927."""
    if not asked:
        return 0.0, 1.0
    share, weight = right / asked, Z * Z / asked
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / asked + weight / (4 * asked)) / (1 + weight)
    return middle - half, middle + half


def judge_judge(cases: Iterable[Case]) -> tuple[float, float, Counter[str]]:
    """How often the judge passes the truth, how often a wrong answer, and which wrong answers it passed."""
    true: list[bool] = []
    false: list[bool] = []
    passed: Counter[str] = Counter()
    for case in cases:
        true.append(judge(case, case.truth).right)
        for name, picture in wrong_answers(case):
            right = judge(case, picture).right
            false.append(right)
            if right:
                passed[f"{case.task}: {name}"] += 1
    return _share(true), _share(false), passed
