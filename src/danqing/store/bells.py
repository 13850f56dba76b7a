"""Wake-ups inside the process: who waits for which job, which worker polls, what each worker must drop. Lives on
the loop, needs no lock; a bell is a hint to look at the row, never the truth."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from danqing.store.life import Outcome

_REMEMBERED = 4096


class Bells:
    """Rung with every committed outcome."""

    def __init__(self) -> None:
        self._ends: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._polls: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        # bounded: a worker that never asks again leaves its tokens behind, and learns by its beats if it does
        self._dropped: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)

    def ring(self, outcome: Outcome[Any]) -> None:
        """Wake whoever should look again."""
        for job_id in outcome.ended:
            for bell in self._ends.get(job_id, ()):
                bell.set()
        self._dropped.extend(outcome.dropped)
        workers = self._polls if outcome.queued else [worker for worker, _ in outcome.dropped]
        for worker in workers:
            for bell in self._polls.get(worker, ()):
                bell.set()

    def take_dropped(self, worker: str) -> tuple[str, ...]:
        """The tokens this worker has lost since it last asked."""
        mine = tuple(token for owner, token in self._dropped if owner == worker)
        if mine:
            others = [pair for pair in self._dropped if pair[0] != worker]
            self._dropped = deque(others, maxlen=_REMEMBERED)
        return mine

    @contextmanager
    def at_end(self, job_id: str) -> Iterator[asyncio.Event]:
        """A bell for the end of a job."""
        with _hung(self._ends, job_id) as bell:
            yield bell

    @contextmanager
    def at_news(self, worker: str) -> Iterator[asyncio.Event]:
        """A bell for new work, and for a loss of this worker."""
        with _hung(self._polls, worker) as bell:
            yield bell


@contextmanager
def _hung(bells: defaultdict[str, set[asyncio.Event]], name: str) -> Iterator[asyncio.Event]:
    bell = asyncio.Event()
    bells[name].add(bell)
    try:
        yield bell
    finally:
        bells[name].discard(bell)
        if not bells[name]:
            del bells[name]
