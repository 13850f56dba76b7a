"""Rewriters over anything that writes: short instructions to it, and hard looks at what it answers.

What a caller asks is material, never an instruction: it stands between marks of its own, and whatever comes back is
taken only in the shape that was asked for: one plain prompt, or a JSON list of a known length. Knows no model and no
address; what a model is told is in `instructions.toml`.
"""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TypeVar

from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite, Panel, Rewriter, Writer

MOST_SEEN = 3
"""Input pictures that a writer is shown."""

MOST_CHARS = 800
"""Of a rewritten prompt, where the model takes that many."""

_HAN = re.compile(r"[\u3400-\u9fff]")
_LETTER = re.compile(r"[A-Za-z]")
_FENCE = re.compile(r"\A```\w*\s*|\s*```\Z")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_OPENING = re.compile(
    r"\A(?:rewritten |improved )?(?:prompt|instruction|提示词|改写|指令)\s*[:：]\s*", re.IGNORECASE
)
_QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("「", "」"), ("『", "』"))

INSTRUCTIONS: dict[str, dict[str, str]] = tomllib.loads(
    resources.files(__package__).joinpath("instructions.toml").read_text("utf-8")
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for one rewriting in all, with a second try where there is one; and for one with time to think."""

    seconds: float = 10.0
    thinking: float = 30.0


class Extender:
    """See `core.writing.Rewriter`: any writer, told what to write."""

    def __init__(self, writer: Writer, patience: Patience = Patience(), *, most: int = MOST_CHARS) -> None:
        """`most` characters a prompt, which is no more than the model takes."""
        self._writer, self._patience, self._most = writer, patience, most

    async def extend(self, prompt: str, inputs: Sequence[Raster], *, think: bool = False) -> str:
        """See `Rewriter.extend`. One try: a poor answer is not worth a second wait."""
        language = spoken(prompt)
        parts = ("edit" if inputs else "draw", *(("think",) if think else ()), "only")
        system = told(*parts, language=language)
        seconds = self._patience.thinking if think else self._patience.seconds

        async def once() -> str:
            answer = await self._ask(system, prompt, inputs, tokens=600 if think else 400, seconds=seconds)
            return self._prompt(cleaned(answer), language)

        return await _within(seconds, once)

    async def series(self, prompt: str, inputs: Sequence[Raster], count: int) -> tuple[str, ...]:
        """See `Rewriter.series`."""
        language = spoken(prompt)

        def read(answer: object) -> tuple[str, ...]:
            if not isinstance(answer, list) or len(answer) != count:
                raise CannotWrite(f"not a list of {count}")
            return tuple(self._prompt(item, language) for item in answer)

        return await self._planned("series", prompt, inputs, count, read)

    async def story(self, prompt: str, inputs: Sequence[Raster], most: int) -> tuple[Panel, ...]:
        """See `Rewriter.story`."""
        language = spoken(prompt)

        def read(answer: object) -> tuple[Panel, ...]:
            if not isinstance(answer, list) or not 1 <= len(answer) <= most:
                raise CannotWrite(f"not a list of 1 to {most}")
            if not all(isinstance(item, dict) and set(item) == {"text", "prompt"} for item in answer):
                raise CannotWrite("not a list of texts with prompts")
            return tuple(
                Panel(self._prompt(item["text"], language), self._prompt(item["prompt"], language))
                for item in answer
            )

        return await self._planned("story", prompt, inputs, most, read)

    async def _planned(
        self,
        task: str,
        prompt: str,
        inputs: Sequence[Raster],
        count: int,
        read: Callable[[object], T],
    ) -> T:
        """A plan in JSON; one that is none is asked for once more."""
        language, seconds = spoken(prompt), self._patience.thinking
        system = told(task, "material", language=language).format(count=count)

        async def twice() -> T:
            for left in (1, 0):
                tokens = min(4000, 200 + 250 * count)
                answer = await self._ask(system, prompt, inputs, tokens=tokens, seconds=seconds)
                try:
                    return read(json.loads(cleaned(answer)))
                except (ValueError, RecursionError, CannotWrite) as why:
                    if not left:
                        raise CannotWrite(f"no plan: {why}") from why
            raise CannotWrite("no plan")

        return await _within(seconds, twice)

    async def _ask(
        self, system: str, prompt: str, inputs: Sequence[Raster], *, tokens: int, seconds: float
    ) -> str:
        # without its own marks, so that the material cannot end before its end
        wish = re.sub(r"</?\s*wish\s*>", "", prompt, flags=re.IGNORECASE)
        text = f"<wish>{wish}</wish>"
        return await self._writer.write(system, text, inputs[:MOST_SEEN], tokens=tokens, seconds=seconds)

    def _prompt(self, text: object, language: str) -> str:
        """A usable prompt in the caller's language. Raises CannotWrite."""
        if not isinstance(text, str) or not text.strip():
            raise CannotWrite("an empty prompt")
        text = " ".join(text.split())
        if len(text) > self._most:
            text = _cut(text, self._most)
        if spoken(text) != language:
            raise CannotWrite("not in the caller's language")
        if "<wish>" in text:
            raise CannotWrite("not a prompt")
        return text


class Screened:
    """See `core.writing.Rewriter`: another one, whose texts are looked through for what is not painted here."""

    def __init__(self, rewriter: Rewriter, refuses: Callable[[str], bool]) -> None:
        """`refuses` is the check that callers' own prompts go through."""
        self._rewriter, self._refuses = rewriter, refuses

    async def extend(self, prompt: str, inputs: Sequence[Raster], *, think: bool = False) -> str:
        """See `Rewriter.extend`."""
        return self._passed(await self._rewriter.extend(prompt, inputs, think=think))[0]

    async def series(self, prompt: str, inputs: Sequence[Raster], count: int) -> tuple[str, ...]:
        """See `Rewriter.series`."""
        return self._passed(*await self._rewriter.series(prompt, inputs, count))

    async def story(self, prompt: str, inputs: Sequence[Raster], most: int) -> tuple[Panel, ...]:
        """See `Rewriter.story`."""
        panels = await self._rewriter.story(prompt, inputs, most)
        for panel in panels:
            self._passed(panel.text, panel.prompt)
        return panels

    def _passed(self, *texts: str) -> tuple[str, ...]:
        if any(map(self._refuses, texts)):
            raise CannotWrite("it says what is not painted here")
        return texts


def told(*parts: str, language: str) -> str:
    """An instruction of these parts."""
    return ("" if language == "zh" else " ").join(INSTRUCTIONS[part][language].strip() for part in parts)


def spoken(text: str) -> str:
    """ "zh" for a text with Chinese characters that no letters outweigh, four to a character; else "en"."""
    han, letters = len(_HAN.findall(text)), len(_LETTER.findall(text))
    return "zh" if han and han * 4 >= letters else "en"


def cleaned(answer: str) -> str:
    """An answer without what models like to put around it: thoughts aloud, fences, an opening word, quotation
    marks."""
    text = _THOUGHT.sub("", answer).strip()
    text = _OPENING.sub("", _FENCE.sub("", text)).strip()
    for opening, closing in _QUOTES:
        inner = text[1:-1]
        if (
            len(text) > 2
            and text[0] == opening
            and text[-1] == closing
            and opening not in inner
            and closing not in inner
        ):
            return inner.strip()
    return text


def _cut(text: str, most: int) -> str:
    """At the end of the last sentence that fits; between two words where no sentence does."""
    head = text[:most]
    ends = [head.rfind(mark) + 1 for mark in ("。", "！", "？", ". ", "! ", "? ")]
    if max(ends) > most // 2:
        return head[: max(ends)].strip()
    return head.rsplit(" ", 1)[0] if " " in head[most // 2 :] else head


async def _within(seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await ask()
    except TimeoutError:
        raise CannotWrite(f"no answer within {seconds:g} s") from None
