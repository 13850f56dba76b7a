"""How much a device holds, and which works fit beside each other on it. Knows no family and no policy."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from danqing.engine.load import Device

_SHARE = 0.85
"""Of what is free once the modules are loaded, works may take this much; the rest is the allocator's and
others'."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one work: `lasting` from its start to its end, `passing` while one of its units runs."""

    lasting: int
    passing: int


class Room:
    """Admits works while their needs fit into `limit` bytes and there are at most `works` of them. Units run
    one at a time, so of the passing needs only the largest counts."""

    def __init__(self, limit: int, works: int = 16) -> None:
        """An empty room."""
        self.limit, self.works = limit, works
        self._held: dict[str, Need] = {}

    @property
    def most_of_one(self) -> int:
        """How many works one tenant may have in: three quarters, so that somebody else's need not wait for an end."""
        return self.works - self.works // 4

    @property
    def held(self) -> int:
        """How many works are in."""
        return len(self._held)

    def ever(self, need: Need) -> bool:
        """Whether the work could run here alone."""
        return need.lasting + need.passing <= self.limit

    def enter(self, token: str, need: Need | None) -> bool:
        """Admit the work now, or answer False. One whose need is not known (None) has the room to itself."""
        if need is None and not self._held:
            need = Need(self.limit, 1)
            self._held[token] = need
            return True
        if need is None or len(self._held) >= self.works:
            return False
        needs = [*self._held.values(), need]
        if sum(one.lasting for one in needs) + max(one.passing for one in needs) > self.limit:
            return False
        self._held[token] = need
        return True

    def leave(self, token: str) -> None:
        """The work is gone and its memory free; unknown tokens are ignored."""
        self._held.pop(token, None)


def find_device(kind: str = "auto") -> Device:
    """The device of that kind, or the best there is. Raises ValueError if this machine has none of that
    kind."""
    if kind not in {"auto", "cpu", "cuda", "mps"}:
        raise ValueError(f"a device is auto, cpu, cuda or mps, not {kind!r}")
    if kind in {"auto", "cuda"} and torch.cuda.is_available():
        free, memory = torch.cuda.mem_get_info()
        return Device("cuda", torch.cuda.get_device_name(), memory, free)
    if kind in {"auto", "mps"} and torch.backends.mps.is_available():
        memory = int(torch.mps.recommended_max_memory())
        return Device("mps", "Apple GPU", memory, memory - int(torch.mps.driver_allocated_memory()))
    if kind in {"cuda", "mps"}:
        raise ValueError(f"this machine has no {kind} device")
    return Device("cpu", f"{os.cpu_count() or 1} CPU cores", *_main_memory())


def make_room(kind: str, works: int = 16, promised: int = 0) -> Room:
    """Room for works on a device whose modules are loaded already. So many bytes are `promised` to others: modules
    that are not there yet, and what will be remembered."""
    return Room(int((find_device(kind).free - promised) * _SHARE), works)


def _main_memory() -> tuple[int, int]:
    """Bytes in all, and free (half of all where the system does not tell)."""
    page = os.sysconf("SC_PAGE_SIZE")
    memory = os.sysconf("SC_PHYS_PAGES") * page
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            told = dict(line.split(":", 1) for line in lines)
        return memory, int(told["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return memory, memory // 2
