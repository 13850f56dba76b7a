"""Can a picture be made right now? The facts are handed in; knows neither workers nor HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerVital:
    """One worker process: whether its models are loaded and it takes jobs, and what it is doing otherwise."""

    name: str
    ready: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Vital:
    """What the server knows of itself. `warnings` do not stop pictures (an old SQLite); `troubles` do (no room on
    the disk, a server that is stopping)."""

    profile: str = ""
    workers: tuple[WorkerVital, ...] = ()
    warnings: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()

    def reasons(self) -> tuple[str, ...]:
        """Why no picture can be made; empty when one can."""
        if any(worker.ready for worker in self.workers):
            return self.troubles
        if not self.workers:
            return (*self.troubles, "no worker is running")
        details = [
            f"{worker.name}: {worker.detail}" if worker.detail else worker.name for worker in self.workers
        ]
        return (*self.troubles, f"no worker is ready ({'; '.join(details)})")


Probe = Callable[[], Vital]
"""Asked at every look at the health; must not block."""
