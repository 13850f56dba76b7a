"""Checks of pictures: a classifier over HTTP, plug-ins, the checkpoint's own encoder, and what they say together.

Knows no protocol and no job. A refusal of any checker refuses; where none refuses and one did not answer, the
operator's rule decides. A log line tells which checker refused, never a prompt and never a picture.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import orjson
import structlog

from danqing.core.checking import Checker, CheckerAway, Role, Verdict
from danqing.core.errors import InputRefused, OutputRefused, Unchecked
from danqing.core.raster import Raster
from danqing.core.texts import sayable
from danqing.core.writing import CannotWrite, Judge
from danqing.outbound.post import Poster, Unanswered
from danqing.pixels.png import encode
from danqing.pixels.views import view

GROUP = "danqing.checkers"
"""The entry points that are plug-ins."""

SIDE = 1024
"""The longer side of the copy that a classifier sees; those in use work on far smaller ones."""

LONGEST_REASON = 64

Post = Callable[[bytes], Awaitable[bytes]]
"""A question in JSON to its answer. Raises Unanswered."""
Plugin = Callable[[bytes, str, str], Mapping[str, Any]]
"""PNG file, "input" or "output", and prompt to the answer that a classifier gives."""

_log = structlog.get_logger(room="checks")


class BadChecker(ValueError):
    """A checker that is not there or cannot be used; a start must stop on it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which checkers there are: a classifier's URL and its bearer token, plug-ins by name, questions for a judge if
    there is one, and how likely its "yes" must be. Seconds are for one picture, the judge's for one question;
    `at_once` pictures are with a classifier or a plug-in at a time; `lenient` lets pass what could not be checked."""

    classifier: str | None = None
    token: str = field(default="", repr=False)
    plugins: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    threshold: float = 0.5
    seconds: float = 5.0
    judge_seconds: float = 30.0
    at_once: int = 4
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class Classifier:
    """Whatever the operator runs behind an address: `{"image", "role", "prompt"}` there, `{"allowed"}` back."""

    post: Post

    async def look(self, raster: Raster, role: Role, prompt: str) -> Verdict:
        """See `Checker`."""
        body = await asyncio.to_thread(_question, raster, role, prompt)
        try:
            answer = orjson.loads(await self.post(body))
        except (Unanswered, orjson.JSONDecodeError) as problem:
            raise CheckerAway(str(problem)) from problem
        return verdict(answer)


class Plugged:
    """A plug-in of the operator's own, in threads of its own."""

    def __init__(self, look: Plugin, *, seconds: float, at_once: int) -> None:
        """One that does not come back keeps its thread; when all are gone there are no verdicts any more."""
        self._look, self._seconds = look, seconds
        self._threads = ThreadPoolExecutor(at_once, "checker")

    async def look(self, raster: Raster, role: Role, prompt: str) -> Verdict:
        """See `Checker`."""

        def ask() -> Verdict:
            return verdict(self._look(_file(raster), role.value, prompt))

        asked = asyncio.get_running_loop().run_in_executor(self._threads, ask)
        try:
            await asyncio.wait({asked}, timeout=self._seconds)
            if not asked.done():
                raise CheckerAway(f"no answer within {self._seconds:g} s")
        finally:
            asked.cancel()
        problem = asked.exception()
        if isinstance(problem, CheckerAway):
            raise problem
        if problem is not None:
            raise CheckerAway(type(problem).__name__) from problem
        return asked.result()

    async def close(self) -> None:
        """Begin nothing new."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Judged:
    """A model that sees, asked one question after the other: a "yes" at least as likely as `threshold` refuses."""

    judge: Judge
    questions: Sequence[str]
    threshold: float
    seconds: float

    async def look(self, raster: Raster, role: Role, prompt: str) -> Verdict:  # noqa: ARG002 (it is not told)
        """See `Checker`. What the order said cannot talk the judge out of what it sees: it never reads it."""
        worst = 0.0
        for number, question in enumerate(self.questions, 1):
            try:
                yes = await self.judge.agrees(question, (raster,), seconds=self.seconds)
            except CannotWrite as problem:
                raise CheckerAway(str(problem)) from problem
            if yes >= self.threshold:
                return Verdict(allowed=False, reason=f"question {number}", score=yes)
            worst = max(worst, yes)
        return Verdict(allowed=True, score=worst)


class Checks:
    """Several checkers and the rule for those that are away. `inspect` is an `Inspect`."""

    def __init__(
        self,
        checkers: Mapping[str, Checker],
        *,
        lenient: bool = False,
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """Checkers by the name that the log tells; `lenient` lets a picture pass that a checker could not be asked
        about; `closing` is what `close` does."""
        self._checkers = dict(checkers)
        self._lenient = lenient
        self._closing = tuple(closing)

    def __bool__(self) -> bool:
        return bool(self._checkers)

    async def close(self) -> None:
        """Hang up."""
        for close in self._closing:
            await close()

    async def inspect(self, raster: Raster, role: Role, prompt: str) -> None:
        """Ask all at the same time. Raises InputRefused, OutputRefused, Unchecked."""
        found = await asyncio.gather(
            *(self._ask(name, raster, role, prompt) for name in self._checkers), return_exceptions=True
        )
        for problem in found:
            if isinstance(problem, BaseException) and not isinstance(problem, CheckerAway):
                raise problem
        for name, told in zip(self._checkers, found, strict=True):
            if isinstance(told, Verdict) and not told.allowed:
                _log.info("picture refused", checker=name, role=role, reason=told.reason, score=told.score)
                raise InputRefused if role is Role.INPUT else OutputRefused
        if any(isinstance(told, CheckerAway) for told in found) and not self._lenient:
            raise Unchecked

    async def _ask(self, name: str, raster: Raster, role: Role, prompt: str) -> Verdict:
        try:
            return await self._checkers[name].look(raster, role, prompt)
        except CheckerAway as away:
            _log.warning("checker away", checker=name, role=role, error=str(away), passed=self._lenient)
            raise


def open_checks(wanted: Wanted, judge: Judge | None = None) -> Checks:
    """Everything that is wanted; the questions only if there is a judge. Raises BadChecker."""
    checkers: dict[str, Checker] = {}
    closing: list[Callable[[], Awaitable[None]]] = []
    if wanted.classifier is not None:
        headers = {"Authorization": f"Bearer {wanted.token}"} if wanted.token else {}
        poster = Poster(wanted.classifier, seconds=wanted.seconds, at_once=wanted.at_once, headers=headers)
        checkers["classifier"] = Classifier(poster.post)
        closing.append(poster.close)
    for name in wanted.plugins:
        plugged = Plugged(plugin(name), seconds=wanted.seconds, at_once=wanted.at_once)
        checkers[f"plug-in {name}"] = plugged
        closing.append(plugged.close)
    if judge is not None:
        checkers["judge"] = Judged(judge, wanted.questions, wanted.threshold, wanted.judge_seconds)
    return Checks(checkers, lenient=wanted.lenient, closing=closing)


def plugin(name: str) -> Plugin:
    """The installed plug-in of that name. Raises BadChecker."""
    found = entry_points(group=GROUP, name=name)
    if not found:
        others = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP))) or "none"
        raise BadChecker(f"no checker {name!r} is installed (entry points {GROUP}; installed: {others})")
    try:
        look = next(iter(found)).load()
    except (ImportError, AttributeError) as problem:
        raise BadChecker(f"checker {name!r} cannot be loaded: {problem}") from problem
    if not callable(look):
        raise BadChecker(f"checker {name!r} cannot be called")
    return look  # type: ignore[no-any-return]  # a plug-in's own type is not ours to know


def verdict(answer: object) -> Verdict:
    """A classifier's answer: `allowed`, and perhaps `reason` and `score`. Raises CheckerAway for one without."""
    if not isinstance(answer, Mapping) or type(answer.get("allowed")) is not bool:
        raise CheckerAway("an answer without 'allowed'")
    reason, score = answer.get("reason"), answer.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        score = None
    return Verdict(answer["allowed"], reason[:LONGEST_REASON] if isinstance(reason, str) else "", score)


def _question(raster: Raster, role: Role, prompt: str) -> bytes:
    image = base64.b64encode(_file(raster)).decode("ascii")
    return orjson.dumps({"role": role.value, "prompt": sayable(prompt), "image": image})


def _file(raster: Raster) -> bytes:
    return encode(view(raster, SIDE))
