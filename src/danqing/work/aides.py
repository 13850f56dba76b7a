"""What helps a worker beside its engine. Everything here is optional: without it jobs are made all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from danqing.core.checking import Inspect, pass_all
from danqing.core.writing import Rewriter

MOST_INPUTS = 10
"""Of the families that take the most input pictures."""


def _nobody(_model: str) -> None:
    """Stands for a rewriter where there is none."""


async def _nothing() -> None:
    """There is nothing to hang up."""


def _usual(_model: str) -> int:
    return MOST_INPUTS


def _unlabelled(_number: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Aides:
    """By API name: who writes prompts, if anybody, and the most input pictures that the checkpoint behind it knows.
    And who looks at pictures before they are worked on, and before they leave."""

    rewriter: Callable[[str], Rewriter | None] = _nobody
    most_inputs: Callable[[str], int] = _usual
    look_in: Inspect = pass_all
    look_out: Inspect = pass_all
    label: Callable[[str], str] = _unlabelled
    """By the number of a picture, of the job and its index: the XMP packet that its previews carry; empty for none."""
    shows: bool = True
    """Whether pictures may be seen before they are finished; not where somebody looks at finished ones first."""
    close: Callable[[], Awaitable[None]] = _nothing
