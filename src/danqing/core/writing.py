"""What is asked of whoever writes texts for pictures, and of whoever looks at them. Knows no model and no word.

`work` asks, `prompts` answers, and something that can write or see stands behind it: the checkpoint's own encoder, a
chat endpoint, a list of words. Every answer is optional: who asks always has something to go on with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from danqing.core.raster import Raster


class CannotWrite(Exception):
    """No usable text came: nothing here can write, it was away or too slow, or what it wrote makes no sense."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of a story: a text for the reader, and the prompt of the picture that follows it."""

    text: str
    prompt: str


class Writer(Protocol):
    """A language model, which may be able to see."""

    async def write(
        self, system: str, text: str, pictures: Sequence[Raster] = (), *, tokens: int, seconds: float
    ) -> str:
        """The answer to `text` (and `pictures`, in order) under the instruction `system`, at most `tokens` tokens of
        it, within `seconds`. Raises CannotWrite."""
        ...


class Judge(Protocol):
    """A model that sees, and answers with yes or no."""

    async def agrees(self, question: str, pictures: Sequence[Raster], *, seconds: float) -> float:
        """How likely the answer to the question is "yes", 0 to 1. Raises CannotWrite."""
        ...


class Rewriter(Protocol):
    """Makes prompts out of prompts, in the caller's language. Each method raises CannotWrite, within a time limit of
    the rewriter's own."""

    async def extend(self, prompt: str, inputs: Sequence[Raster], *, think: bool = False) -> str:
        """The prompt as the checkpoint understands it best: an instruction if there are inputs, else a caption.
        `think` allows more time for it."""
        ...

    async def series(self, prompt: str, inputs: Sequence[Raster], count: int) -> tuple[str, ...]:
        """Exactly `count` prompts for pictures of one subject in one style; each stands by itself."""
        ...

    async def story(self, prompt: str, inputs: Sequence[Raster], most: int) -> tuple[Panel, ...]:
        """One to `most` panels that tell the story asked for, in order."""
        ...
