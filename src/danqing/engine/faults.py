"""What goes wrong in a unit of work, sorted by what can be done about it, and as text: an exception's traceback would
keep the tensors of every frame alive, just when memory may be what is missing. Knows no job and no family."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import torch

from danqing.core.errors import EngineFailed
from danqing.engine.families.contract import NotFinite

T = TypeVar("T")

_SHORTAGES = ("out of memory", "can't allocate memory", "alloc_failed")
"""How devices and libraries say it that have no exception of their own for it: the CPU's allocator, MPS, cuBLAS."""


class Kind(StrEnum):
    """What sort of trouble it is."""

    MEMORY = "memory"
    """The device had no room: it may go well when there is more."""
    NUMBERS = "numbers"
    """NaN or infinity: it would come out the same again."""
    OTHER = "other"
    """Anything else: a kernel, a module, a bug."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """What went wrong: its kind, why in a few words that a caller may read, and the trace for the log."""

    kind: Kind
    why: str
    trace: str


def tried(work: Callable[[], T]) -> T | Mishap:
    """What `work` answers, or what went wrong. When this returns, nothing that went wrong holds on to anything."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  # boundary: what one job or talk raises ends that, never the engine
        kind = kind_of(error)
        why = str(error) if kind is Kind.NUMBERS else type(error).__name__
        return Mishap(kind, why, "".join(traceback.format_exception(error)))


def not_made(mishap: Mishap) -> EngineFailed:
    """What a caller is told of it."""
    why = "the device has too little memory for it" if mishap.kind is Kind.MEMORY else mishap.why
    return EngineFailed(f"The picture could not be made: {why}.")


def kind_of(error: BaseException) -> Kind:
    """The kind of trouble that an exception tells of."""
    if isinstance(error, NotFinite):
        return Kind.NUMBERS
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return Kind.MEMORY
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return Kind.MEMORY if any(words in text for words in _SHORTAGES) else Kind.OTHER
