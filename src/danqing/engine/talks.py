"""Texts asked of the engine beside its pictures. Knows threads and time limits; refuses to know models.

Whoever asks waits on an event loop; the encoder belongs to the engine's thread. Between two units of work on pictures
at most one unit of one talk is done, so talks slow pictures down by a known share and never stop them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass

from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite
from danqing.engine.faults import Mishap, tried
from danqing.engine.language import Language

_CLOSED = "the engine was closed"


@dataclass(slots=True)
class _Talk:
    """What is left to do, one unit a `next`; the last value is the answer."""

    units: Iterator[str | float]
    answer: Future[str | float]
    last: str | float = ""


class Talks:
    """The texts in progress. `put` from any thread, `turn` from the engine's."""

    def __init__(self) -> None:
        """Nobody has asked."""
        self._lock = threading.Lock()
        self._talks: deque[_Talk] = deque()
        self._ended = False

    def __bool__(self) -> bool:
        return bool(self._talks)

    def put(self, units: Iterator[str | float]) -> Future[str | float]:
        """Ask; the answer comes with the last unit, and a cancelled future ends the talk."""
        talk = _Talk(units, Future())
        with self._lock:
            if self._ended:
                talk.answer.set_exception(CannotWrite(_CLOSED))
            else:
                self._talks.append(talk)
        return talk.answer

    def turn(self) -> bool:
        """One unit of the talk that waited longest; False if there was none."""
        with self._lock:
            talk = self._talks.popleft() if self._talks else None
        if talk is None:
            return False
        if talk.answer.cancelled() or self._is_done(talk):
            return True
        with self._lock:
            self._talks.append(talk)
        return True

    def end(self) -> None:
        """Nobody will answer any more."""
        with self._lock:
            left, self._talks, self._ended = self._talks, deque(), True
        for talk in left:
            with suppress(InvalidStateError):
                talk.answer.set_exception(CannotWrite(_CLOSED))

    @staticmethod
    def _is_done(talk: _Talk) -> bool:
        given = tried(lambda: next(talk.units, None))
        if given is None:
            with suppress(InvalidStateError):  # given up meanwhile
                talk.answer.set_result(talk.last)
            return True
        if isinstance(given, Mishap):
            with suppress(InvalidStateError):
                talk.answer.set_exception(CannotWrite(f"the encoder failed: {given.why}"))
            return True
        talk.last = given
        return False


class Speaker:
    """A checkpoint's encoder as `core.writing.Writer` and `core.writing.Judge`, for whoever is on an event loop."""

    def __init__(
        self, language: Language | None, ask: Callable[[Iterator[str | float]], Future[str | float]]
    ) -> None:
        """`ask` hands units of work to the engine's thread. Without a language every call raises at once."""
        self._language, self._ask = language, ask

    async def write(
        self, system: str, text: str, pictures: Sequence[Raster] = (), *, tokens: int, seconds: float
    ) -> str:
        """See `core.writing.Writer`."""
        return str(await self._answer(self._speaking().write(system, text, pictures, tokens), seconds))

    async def agrees(self, question: str, pictures: Sequence[Raster], *, seconds: float) -> float:
        """See `core.writing.Judge`."""
        language = self._speaking()

        def units() -> Iterator[float]:
            yield language.agree(question, pictures)

        return float(await self._answer(units(), seconds))

    def _speaking(self) -> Language:
        if self._language is None:
            raise CannotWrite("this checkpoint's encoder is no language model")
        return self._language

    async def _answer(self, units: Iterator[str | float], seconds: float) -> str | float:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(self._ask(units))
        except TimeoutError:
            raise CannotWrite(f"no answer within {seconds:g} s") from None
