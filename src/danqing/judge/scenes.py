"""Every picture of the world with its instruction and its right answer. Refuses to know who made an answer.

`draw_case(row, seed, language, size=(w, h))` is the whole of it. The same seed gives the same scene at every size.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from danqing.judge.draw import Pixels, render
from danqing.judge.rows import INPUTS, ROWS, Plan
from danqing.judge.words import LANGUAGES
from danqing.judge.world import Scene

# Seeds below this are held out: no training draw has one, nor asks the same of the same scenes.
FIRST_TRAINING_SEED = 1_000_000
_HELD_OUT_SHARE = 16

__all__ = ["FIRST_TRAINING_SEED", "INPUTS", "LANGUAGES", "ROWS", "Case", "draw_case", "plan_case"]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One request with its right answer. Pictures are uint8, height x width x 3."""

    row: str
    language: str
    seed: int
    instruction: str
    inputs: tuple[Pixels, ...]
    truth: Pixels
    before_scenes: tuple[Scene, ...]
    truth_scene: Scene

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the truth."""
        height, width = self.truth.shape[:2]
        return width, height


def plan_case(row: str, seed: int, language: str) -> Plan:
    """Held-out and training plans never coincide, whatever the deviations: a digest of the content parts them."""
    wants_held_out = seed < FIRST_TRAINING_SEED
    rng = np.random.default_rng([zlib.crc32(row.encode()), LANGUAGES.index(language), seed])
    while True:
        plan = ROWS[row](rng, language)
        held_out = zlib.crc32(plan.key().encode()) % _HELD_OUT_SHARE == 0
        if held_out == wants_held_out:
            return plan


def draw_case(row: str, seed: int, language: str, *, size: tuple[int, int] = (128, 128)) -> Case:
    """`size` is (width, height), for the inputs and the truth alike."""
    plan = plan_case(row, seed, language)
    return Case(
        row=row,
        language=language,
        seed=seed,
        instruction=plan.instruction,
        inputs=tuple(render(scene, *size) for scene in plan.befores),
        truth=render(plan.after, *size),
        before_scenes=plan.befores,
        truth_scene=plan.after,
    )
