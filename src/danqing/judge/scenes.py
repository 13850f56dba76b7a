"""Every picture of the world with its instruction and its right answer. Refuses to know who made an answer.

`draw_case(task, seed, language, size=(w, h))` is the whole of it. The same seed gives the same scene at every size
and in every language; only the words differ.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from danqing.judge.backdrops import Pixels
from danqing.judge.deal import Dealer, NoRoom
from danqing.judge.draw import render, render_depth
from danqing.judge.styles import spoil
from danqing.judge.tasks import people, pictures, things
from danqing.judge.tasks.plan import Plan, Task
from danqing.judge.words import ALL_LANGUAGES, LANGUAGES, say
from danqing.judge.world import MOST_THINGS, Scene

# Seeds below this are held out: no training draw has one, nor asks the same of the same scenes.
FIRST_TRAINING_SEED = 1_000_000
_HELD_OUT_SHARE = 16
UNSEEN_EVERY = 4  # of held-out seeds one in so many asks for a shape and colour never shown together

TASKS: dict[str, Task] = things.TASKS | pictures.TASKS | people.TASKS
ROWS: dict[str, tuple[str, ...]] = {
    row: tuple(name for name, task in TASKS.items() if task.row == row)
    for row in dict.fromkeys(task.row for task in TASKS.values())
    if row != "text_to_image_loose"
}
"""The tasks of every row of the table."""

__all__ = [
    "ALL_LANGUAGES",
    "FIRST_TRAINING_SEED",
    "LANGUAGES",
    "ROWS",
    "TASKS",
    "Case",
    "Plan",
    "draw_case",
    "plan_case",
]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One request with its right answer. Pictures are uint8, height x width x 3."""

    task: str
    language: str
    seed: int
    instruction: str
    inputs: tuple[Pixels, ...]
    truth: Pixels
    plan: Plan

    @property
    def row(self) -> str:
        """The line of the table it counts for."""
        return TASKS[self.task].row

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the truth."""
        height, width = self.truth.shape[:2]
        return width, height

    @property
    def truth_scene(self) -> Scene:
        """What the right answer shows."""
        return self.plan.after


def _rng(task: str, seed: int, what: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(task.encode()), seed, what])


def plan_case(task: str, seed: int, *, least: int = 2, most: int = MOST_THINGS) -> Plan:
    """Held-out and training plans never coincide, whatever the deviations: a digest of the content parts them."""
    held_out = seed < FIRST_TRAINING_SEED
    dealer = Dealer(_rng(task, seed, 0), least, most, unseen=held_out and seed % UNSEEN_EVERY == 0)
    while True:
        try:
            plan = TASKS[task].deal(dealer)
        except NoRoom:
            continue
        if plan.unseen or (zlib.crc32(plan.key().encode()) % _HELD_OUT_SHARE == 0) == held_out:
            return plan


def draw_case(
    task: str,
    seed: int,
    language: str,
    *,
    size: tuple[int, int] = (128, 128),
    input_sizes: Sequence[tuple[int, int]] | None = None,
    least: int = 2,
    most: int = MOST_THINGS,
) -> Case:
    """Sizes are (width, height); inputs have the truth's size unless theirs are given."""
    plan = plan_case(task, seed, least=least, most=most)
    words = _rng(task, seed, 1)
    sizes = input_sizes or [size] * len(plan.befores)
    return Case(
        task=task,
        language=language,
        seed=seed,
        instruction=say(task, int(words.integers(6)), language, dict(plan.slots)),
        inputs=tuple(
            _as_given(scene, plan, one, _rng(task, seed, 2))
            for scene, one in zip(plan.befores, sizes, strict=True)
        ),
        truth=render(plan.after, *size),
        plan=plan,
    )


def _as_given(scene: Scene, plan: Plan, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    if plan.spoilt == "depth":
        return render_depth(scene, *size)
    clean = render(scene, *size)
    return spoil(plan.spoilt, clean, rng) if plan.spoilt else clean
