"""Main memory that was freed, but that the C library keeps for later: given back, so that it counts as free again.

Works of many sizes leave holes between what stays, which fit no later work: after two hundred of them a process held
half a gigabyte that nobody used, and that no model of memory knows. And the compiled kernels of sizes that come once,
which oneDNN keeps by the thousand: few are kept here. Knows no work and no device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

SPARE = 128 << 20
"""Bytes that a process may grow by before holes are looked for: that takes some 20 ms, and what is given back must be
asked for again."""
KERNELS = 256
"""That oneDNN keeps compiled, those used last. A step of one size uses some ten, its autoencoder some thirty; of the
thousand and more that it keeps by itself, works of ever other sizes had filled fifty megabytes within a hundred, and
the holes between them more."""
_MEMORY = Path("/proc/self/status")


class Heap:
    """The memory of this process, as of now."""

    def __init__(self, spare: int = SPARE) -> None:
        """Grown by nothing yet. Where the system or its C library have no such call, nothing is ever given back."""
        self._spare = spare
        self._trim: Callable[[int], int] | None = getattr(_library(), "malloc_trim", None)
        self._known = resident() if self._trim else 0

    def give_back(self) -> bool:
        """Give back what is free, if there may be enough of it; whether it was done."""
        if self._trim is None:
            return False
        now = resident()
        if now - self._known <= self._spare:
            self._known = min(self._known, now)
            return False
        self._trim(0)
        self._known = resident()
        return True


def keep_few_kernels() -> None:
    """For this process, and only before it computes its first: who has named another number in
    ONEDNN_PRIMITIVE_CACHE_CAPACITY, the name that oneDNN reads, keeps that."""
    put = getattr(_library(), "setenv", None)
    if put is not None:
        put(b"ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS).encode(), 0)


def resident(name: str = "VmRSS") -> int:
    """Bytes of main memory that this process has, or by another name in /proc; 0 where the system does not tell."""
    try:
        with _MEMORY.open(encoding="ascii") as lines:
            told = dict(line.split(":", 1) for line in lines)
        return int(told[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0


def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # where there are no such libraries
        return None
