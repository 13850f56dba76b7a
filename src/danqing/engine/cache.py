"""Keeps what was computed from inputs, for later works with the same ones. Knows neither what it keeps nor
whose it is.

Keys carry the tenant: what one tenant's pictures cost must not be told to another by the time a request
takes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


class Recent(Generic[Kept]):
    """Values by key, the least recently used dropped first, so that their sizes stay within `limit` bytes."""

    def __init__(self, limit: int) -> None:
        """An empty cache; a limit of 0 keeps nothing."""
        self.limit, self.size = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Kept, int]] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> Kept | None:
        """The value, from now on the most recently used; None if it is not kept."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: Hashable, value: Kept, size: int) -> None:
        """Keep a value of `size` bytes, unless it alone is too large."""
        if key in self._kept:
            self.size -= self._kept.pop(key)[1]
        if size > self.limit:
            return
        self._kept[key] = (value, size)
        self.size += size
        while self.size > self.limit:
            self.size -= self._kept.popitem(last=False)[1][1]

    def forget(self, key: Hashable | None = None) -> None:
        """Keep that one no longer; all of them without a key."""
        for one in [*self._kept] if key is None else [key]:
            if one in self._kept:
                self.size -= self._kept.pop(one)[1]
