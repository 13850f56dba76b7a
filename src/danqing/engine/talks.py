"""Texts asked of the engine beside its pictures. Knows threads and time limits; refuses to know models.

Whoever asks waits on an event loop; the encoder belongs to the engine's thread. Between two units of work on pictures
at most one unit of one talk is done, so talks slow pictures down by a known share and never stop them. What goes wrong
in one is sorted as it is for pictures (`faults`).
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

Units = Iterator[str | float]
"""One unit of work a `next`; the last value is the answer."""
Begin = Callable[[], Units]


@dataclass(slots=True)
class _Talk:
    """How it begins, and what is left to do."""

    begin: Begin
    units: Units
    answer: Future[str | float]
    last: str | float = ""
    again: bool = False
    """It was begun anew once, and is not a second time."""


class Talks:
    """The texts in progress. `put` from any thread, `turn` from the engine's."""

    def __init__(self, mend: Callable[[Mishap], bool]) -> None:
        """Nobody has asked. `mend` is called on the engine's thread when something goes wrong in a talk, and answers
        whether that may go well from its beginning."""
        self._mend = mend
        self._lock = threading.Lock()
        self._talks: deque[_Talk] = deque()
        self._ended = False

    def __bool__(self) -> bool:
        return bool(self._talks)

    def put(self, begin: Begin) -> Future[str | float]:
        """Ask; the answer comes with the last unit, and a cancelled future ends the talk."""
        talk = _Talk(begin, begin(), Future())
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

    def _is_done(self, talk: _Talk) -> bool:
        given = tried(lambda: next(talk.units, None))
        if given is None:
            with suppress(InvalidStateError):  # given up meanwhile
                talk.answer.set_result(talk.last)
            return True
        if isinstance(given, Mishap):
            if self._mend(given) and not talk.again:
                talk.units, talk.last, talk.again = talk.begin(), "", True
                return False
            with suppress(InvalidStateError):
                talk.answer.set_exception(CannotWrite(f"the encoder failed: {given.why}"))
            return True
        talk.last = given
        return False


class Speaker:
    """A checkpoint's encoder as `core.writing.Writer` and `core.writing.Judge`, for whoever is on an event loop."""

    def __init__(self, language: Language | None, ask: Callable[[Begin], Future[str | float]]) -> None:
        """`ask` hands units of work to the engine's thread. Without a language every call raises at once."""
        self._language, self._ask = language, ask

    async def write(
        self, system: str, text: str, pictures: Sequence[Raster] = (), *, tokens: int, seconds: float
    ) -> str:
        """See `core.writing.Writer`."""
        language = self._speaking()
        return str(await self._answer(lambda: language.write(system, text, pictures, tokens), seconds))

    async def agrees(self, question: str, pictures: Sequence[Raster], *, seconds: float) -> float:
        """See `core.writing.Judge`."""
        language = self._speaking()

        def units() -> Iterator[float]:
            yield language.agree(question, pictures)

        return float(await self._answer(units, seconds))

    def _speaking(self) -> Language:
        if self._language is None:
            raise CannotWrite("this checkpoint's encoder is no language model")
        return self._language

    async def _answer(self, begin: Begin, seconds: float) -> str | float:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(self._ask(begin))
        except TimeoutError:
            raise CannotWrite(f"no answer within {seconds:g} s") from None
