"""An engine without a model: pixels from the seed, and every way in which an engine can misbehave.

A work's own prompt chooses the mode when it begins with one in brackets (`[abort] a cat`), else the engine's does.

    ok      steps, pictures, the end               slow    the same, 0.2 s a step
    fail    ends with EngineFailed                 nan     ends with EngineFailed after some steps: not finite
    oom     MemoryError in the engine's thread, told as EngineFailed
    fewer   one picture less than asked            other   pictures of another size
    abort   the process dies                       hang    the thread never comes back
    stray   previews of a picture that was not ordered
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping

from danqing.core.errors import EngineFailed
from danqing.core.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    ImageReady,
    Preview,
    Started,
    Stepped,
    Work,
)
from danqing.core.job import Contract, Quality
from danqing.core.raster import Raster, Size

MODES = ("ok", "slow", "fail", "nan", "oom", "fewer", "other", "abort", "hang", "stray")
SLOW_STEP = 0.2
QUALITY = Quality(Contract.EXACT, "fake", "default", 4)
PREVIEW = Size(64, 48)


def picture(seed: int, size: Size) -> Raster:
    """The picture of that seed: the same in every process, another for another seed."""
    row = hashlib.shake_256(f"{seed} {size}".encode()).digest(size.width * 3)
    return Raster(size, 3, row * size.height)


class FakeEngine:
    """`core.ports.Engine`; one work after the other, `steps` steps of `step_seconds` a picture."""

    def __init__(self, mode: str = "ok", *, steps: int = 4, step_seconds: float = 0.0) -> None:
        assert mode in MODES
        self.mode, self.steps, self.step_seconds = mode, steps, step_seconds
        self.started: list[Work] = []
        self.cancelled: set[str] = set()
        self.watched: set[str] = set()
        self._hear: Callable[[Event], None] = lambda event: None
        self._works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="fake-engine")
        self._thread.start()

    def start(self, work: Work) -> None:
        self.started.append(work)
        self._works.put(work)

    def cancel(self, token: str) -> None:
        self.cancelled.add(token)

    def watch(self, token: str, *, on: bool) -> None:
        (self.watched.add if on else self.watched.discard)(token)

    def listen(self, hear: Callable[[Event], None]) -> None:
        self._hear = hear

    def figures(self) -> Mapping[str, float]:
        return {"works": float(len(self.started))}

    def close(self) -> None:
        self._closed.set()
        self._works.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            work = self._works.get()
            if work is None:
                return
            try:
                self._make(work, self._mode(work))
            except MemoryError:
                self._hear(Failed(work.token, EngineFailed("MemoryError")))

    def _mode(self, work: Work) -> str:
        word = work.prompt[1:].partition("]")[0] if work.prompt.startswith("[") else self.mode
        assert word in MODES
        return word

    def _make(self, work: Work, mode: str) -> None:
        began = time.monotonic()
        pictures = work.count - (mode == "fewer")
        total = work.count * self.steps
        self._hear(Started(work.token, total))
        for index in range(pictures):
            for step in range(self.steps):
                self._misbehave(work, mode, step)
                if self._closed.wait(SLOW_STEP if mode == "slow" else self.step_seconds):
                    return
                if work.token in self.cancelled:
                    self._hear(Cancelled(work.token))
                    return
                if mode in ("fail", "nan") and step == self.steps // 2:
                    self._hear(Failed(work.token, EngineFailed("not finite" if mode == "nan" else None)))
                    return
                done = index * self.steps + step + 1
                if work.token.partition("/")[0] in self.watched:
                    seen = picture(work.seed + index, PREVIEW)
                    shown = work.count if mode == "stray" else index
                    self._hear(Preview(work.token, shown, step + 1, self.steps, seen))
                self._hear(Stepped(work.token, done, total, left=0.01 * (total - done)))
            size = Size(work.size.width + 1, work.size.height) if mode == "other" else work.size
            self._hear(ImageReady(work.token, index, picture(work.seed + index, size)))
        self._hear(Finished(work.token, time.monotonic() - began, QUALITY))

    def _misbehave(self, work: Work, mode: str, step: int) -> None:
        if step < self.steps // 2:
            return
        if mode == "oom":
            raise MemoryError
        if mode == "abort":
            os._exit(134)  # as abort() would end it, without the core dump
        if mode == "hang":
            threading.Event().wait()
