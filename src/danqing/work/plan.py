"""What the pictures of a job are to show, where they are not all of one prompt: a panel a picture, in order.

A rewriter plans if there is one; without it, or when it cannot, the caller's own words are the plan. Knows no engine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import structlog

from danqing.core.order import Brief
from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite, Panel, Rewriter

SERIES, STORY = "enable_sequential", "enable_interleave"
"""The knobs that ask for a series of pictures of one subject, and for text and pictures in turn."""

_SENTENCE = re.compile(r"(?<=[。！？!?…])\s*|(?<=\.)\s+|\n+")
"""Where one sentence ends and the next begins: a full stop within a word or number is none."""

_CLAUSE = re.compile(
    r"(?<=[；;，])\s*|(?<=,)\s+(?=(?:and )?(?:then|next|finally|later|afterwards)\b)", re.IGNORECASE
)
"""Within a sentence only what surely begins something new: a Chinese comma does, an English one alone does not."""

_log = structlog.get_logger("danqing.work")


async def planned(
    brief: Brief, inputs: Sequence[Raster], rewriter: Rewriter | None
) -> tuple[Panel, ...] | None:
    """The panels of a series or a story, at most as many as pictures were ordered; None for any other job, whose
    pictures share its prompt. A panel's text is empty where nothing is told."""
    if not any(brief.knobs.get(knob) is True for knob in (SERIES, STORY)):
        return None
    try:
        if rewriter is None:
            raise CannotWrite("nothing here writes")
        if brief.knobs.get(STORY) is True:
            panels = await rewriter.story(brief.prompt, inputs, brief.count)
        else:
            prompts = await rewriter.series(brief.prompt, inputs, brief.count)
            panels = tuple(Panel("", prompt) for prompt in prompts)
        if not panels:
            raise CannotWrite("an empty plan")
    except CannotWrite as why:
        _log.info("planned in the caller's own words", model=brief.model, reason=str(why))
        panels = in_its_own_words(brief)
    return panels[: brief.count]


def in_its_own_words(brief: Brief) -> tuple[Panel, ...]:
    """The plan that needs no writer: a series repeats its prompt, a story is cut into what it tells one by one."""
    if brief.knobs.get(STORY) is True:
        return tuple(Panel(part, part) for part in told(brief.prompt, brief.count))
    return (Panel("", brief.prompt),) * brief.count


def told(text: str, most: int) -> tuple[str, ...]:
    """The text in one to `most` parts, in order, nothing left out: its sentences, or the clauses of the only one;
    neighbours stay together where there are more."""
    parts = _cut(_SENTENCE, text)
    if len(parts) < 2:
        parts = _cut(_CLAUSE, text)
    if len(parts) < 2:
        return (text,)
    wanted = min(most, len(parts))
    bounds = [len(parts) * place // wanted for place in range(wanted + 1)]
    return tuple(_joined(parts[start:end]) for start, end in pairwise(bounds))


def _cut(where: re.Pattern[str], text: str) -> list[str]:
    """The pieces with a letter or a number in them; what has none, such as a lone mark, stays with the one before."""
    pieces: list[str] = []
    for piece in filter(None, map(str.strip, where.split(text))):
        if pieces and not re.search(r"\w", piece):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces


def _joined(parts: Sequence[str]) -> str:
    """Parts as one text: with a space, but not after the marks of a script that has none."""
    text = parts[0]
    for part in parts[1:]:
        text += part if text[-1] in "。！？…；，" else f" {part}"
    return text
