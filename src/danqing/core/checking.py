"""What is asked of whoever looks at pictures before they come in or go out. Knows no model, no address and no word.

A checker says what it thinks of one picture; whoever has several of them, and a rule for when one is away, makes an
`Inspect` of them. `intake` and `work` are handed that and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from danqing.core.errors import Fault, InputRefused, OutputRefused, PromptRefused, Unchecked
from danqing.core.raster import Raster


class Role(StrEnum):
    """What a picture is: one that came with an order, or one that was made for it."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker thinks of a picture. `reason` is a word for the log, never shown to callers; `score` is how sure
    it is that the picture is not allowed, 0 to 1, where it says so."""

    allowed: bool
    reason: str = ""
    score: float | None = None


class CheckerAway(Exception):
    """No verdict came: nobody answers, not in time, or not in a way that can be understood."""


class Checker(Protocol):
    """Looks at pictures, one at a time, within a time limit of its own."""

    async def look(self, raster: Raster, role: Role, prompt: str) -> Verdict:
        """What it thinks of the picture; `prompt` is the order's. Raises CheckerAway."""
        ...


Inspect = Callable[[Raster, Role, str], Awaitable[None]]
"""Returns if a picture of that role may pass, in an order with that prompt. Raises InputRefused, OutputRefused, and
Unchecked where nobody could say."""


async def pass_all(raster: Raster, role: Role, prompt: str) -> None:
    """The `Inspect` that looks at nothing."""


KINDS = {
    PromptRefused.__name__: "prompt",
    InputRefused.__name__: "input",
    OutputRefused.__name__: "output",
    Unchecked.__name__: "unchecked",
}
"""What is counted of refusals, by the fault that tells of them."""


class Tally:
    """How often which kind of thing was refused since the start of this process."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._counts: Counter[str] = Counter()

    def note(self, fault: str) -> None:
        """Count a fault by the name of its class, if it is a refusal."""
        if fault in KINDS:
            self._counts[KINDS[fault]] += 1

    def figures(self) -> dict[str, float]:
        """Counts by kind, every kind there."""
        return {kind: float(self._counts[kind]) for kind in KINDS.values()}

    def counting(self, inspect: Inspect) -> Inspect:
        """The same, counted."""

        async def counted(raster: Raster, role: Role, prompt: str) -> None:
            try:
                await inspect(raster, role, prompt)
            except Fault as fault:
                self.note(type(fault).__name__)
                raise

        return counted

    def counting_texts(self, refuses: Callable[[str], bool]) -> Callable[[str], bool]:
        """The same, counted."""

        def counted(text: str) -> bool:
            refused = refuses(text)
            if refused:
                self.note(PromptRefused.__name__)
            return refused

        return counted
