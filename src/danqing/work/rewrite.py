"""Whether a job's prompt is to be rewritten, and what becomes of it. Knows no rewriter's insides.

Rewriting is a help that may fail: nobody there, too slow, or nothing usable written. Then the caller's own prompt is
used and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from danqing.core.order import Brief
from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite, Rewriter
from danqing.lease.messages import End, Outcome
from danqing.work.plan import SERIES, STORY

EXTEND, THINK, THINKING = "prompt_extend", "thinking_mode", "enable_thinking"
"""The knobs that ask for it: for any picture; for pictures from words alone, with time to think; and the one that gives
the first that time."""
DEPTH, DEEP = "prompt_extend_mode", "agent"
"""Another that does, by its value."""

_log = structlog.get_logger("danqing.work")


def wanted(brief: Brief) -> bool:
    """Whether the job asks for it. What is planned as a series or a story is written there."""
    knobs = brief.knobs
    if knobs.get(SERIES) is True or knobs.get(STORY) is True:
        return False
    return knobs.get(EXTEND) is True or (knobs.get(THINK) is True and not brief.inputs)


def slowly(brief: Brief) -> bool:
    """Whether it may take longer."""
    knobs = brief.knobs
    return knobs.get(THINK) is True or knobs.get(THINKING) is True or knobs.get(DEPTH) == DEEP


async def rewritten(brief: Brief, inputs: Sequence[Raster], rewriter: Rewriter | None) -> str | None:
    """The prompt to draw from instead of the caller's, which may say the same; None where that one is to be used."""
    if rewriter is None or not wanted(brief):
        return None
    try:
        prompt = await rewriter.extend(brief.prompt, inputs, think=slowly(brief))
    except CannotWrite as why:
        _log.info("the prompt is used as given", model=brief.model, reason=str(why))
        return None
    return prompt


def drawn_from(prompt: str | None, end: End) -> End:
    """The end of an attempt, which tells what its pictures were drawn from if that was not the caller's own prompt."""
    return end if end.outcome is not Outcome.SUCCEEDED else replace(end, prompt=prompt)
