"""Keeps what was computed from inputs and prompts, for later works with the same ones: on the device first, then in
host memory. Knows neither what it keeps nor whose it is.

Keys carry the tenant: what one tenant's pictures cost must not be told to another by the time a request takes. What
comes back from host memory is the same to the bit: it is moved, never made smaller."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch

Kept = TypeVar("Kept")
Key = tuple[Any, ...]
Move = Callable[[torch.Tensor], torch.Tensor]


class Recent(Generic[Kept]):
    """Values by key, the least recently used dropped first, so that their sizes stay within `limit` bytes. Keys are
    tuples, whose first member says of what kind the value is."""

    def __init__(self, limit: int) -> None:
        """An empty cache; a limit of 0 keeps nothing."""
        self.limit, self.size = limit, 0
        self.kinds: Counter[str] = Counter()
        """Bytes by kind."""
        self._kept: OrderedDict[Key, tuple[Kept, int]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[Key]:
        """The keys, the next to be dropped first."""
        return iter(tuple(self._kept))

    def get(self, key: Key) -> Kept | None:
        """The value, from now on the most recently used; None if it is not kept."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def pop(self, key: Key) -> Kept | None:
        """Keep it no longer; answers what it was."""
        if key not in self._kept:
            return None
        value, size = self._kept.pop(key)
        self._weigh(key, -size)
        return value

    def put(self, key: Key, value: Kept, size: int) -> list[tuple[Key, Kept]]:
        """Keep a value of `size` bytes. Answers what is kept no longer for its sake, the value itself if it alone is
        too large."""
        self.pop(key)
        if size > self.limit:
            return [(key, value)]
        dropped: list[tuple[Key, Kept]] = []
        while self.size + size > self.limit:
            oldest, (gone, weight) = self._kept.popitem(last=False)
            self._weigh(oldest, -weight)
            dropped.append((oldest, gone))
        self._kept[key] = (value, size)
        self._weigh(key, size)
        return dropped

    def _weigh(self, key: Key, size: int) -> None:
        self.size += size
        self.kinds[key[0]] += size


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that may be kept: `near` on the device, `far` in host memory, where that is another."""

    near: int = 0
    far: int = 0


class Memory:
    """What a checkpoint remembers, in two tiers: a value that has to make way on the device moves to host memory, and
    is forgotten when it has to make way there. Values are tensors, or tuples and dataclasses of them; a key's first
    member says of what kind the value is, for the counts."""

    def __init__(
        self, budget: Budget, device: torch.device, *, down: Move | None = None, up: Move | None = None
    ) -> None:
        """Remembers nothing yet. `down` and `up` carry one tensor to host memory and back."""
        self._near: Recent[Any] = Recent(budget.near)
        self._far: Recent[Any] = Recent(budget.far)
        self._down = down or _to_host
        self._up = up or (lambda tensor: tensor.to(device, copy=True))
        self._counts: Counter[str] = Counter()
        self.changes = 0
        """How often something was kept, moved or forgotten."""

    def __contains__(self, key: Key) -> bool:
        return key in self._near or key in self._far

    def first(self, keys: Sequence[Key]) -> int:
        """How many of the keys, from the first, are remembered without a gap."""
        return next((place for place, key in enumerate(keys) if key not in self), len(keys))

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes on the device, and in host memory."""
        return self._near.size, self._far.size

    def get(self, key: Key) -> Any:
        """The value on the device, from now on the most recently used; None if it is not remembered."""
        value = self._near.get(key)
        if value is not None:
            self._counts[f"{key[0]}_hits"] += 1
            return value
        stored = self._far.get(key)
        self._counts[f"{key[0]}_{'misses' if stored is None else 'returns'}"] += 1
        if stored is None:
            return None
        value, size = each(stored, self._up), weight(stored)
        if size <= self._near.limit:
            self._far.pop(key)
            self._place(key, value, size)
        return value

    def renew(self, keys: Iterable[Key]) -> None:
        """Of what is on the device, those were used just now, the last one last."""
        for key in keys:
            self._near.get(key)

    def put(self, key: Key, value: Kept) -> Kept:
        """Remember the value, if there is room. Answers it as it is kept, each tensor in memory of its own: whoever
        goes on with that goes on alike whether it was remembered or not."""
        value = self.tight(value)
        if self._near.limit or self._far.limit:
            self._far.pop(key)
            self._place(key, value, weight(value))
        return value

    @staticmethod
    def tight(value: Kept) -> Kept:
        """The value with each tensor in memory of its own, in the order of its indices."""
        return each(value, _tight)  # type: ignore[no-any-return]

    def _place(self, key: Key, value: Any, size: int) -> None:
        self.changes += 1
        for gone, what in self._near.put(key, value, size):
            if weight(what) <= self._far.limit:
                self._far.put(gone, each(what, self._down), weight(what))

    def forget(self, tenant: str | None = None) -> None:
        """Remember nothing of that tenant's any more, the second member of its keys; nothing at all without one."""
        self.changes += 1
        for shelf in (self._near, self._far):
            for key in shelf:
                if tenant is None or key[1] == tenant:
                    shelf.pop(key)

    def figures(self) -> Mapping[str, float]:
        """Since the start, by kind: found on the device (hits), found in host memory (returns), not found (misses);
        and bytes now, by kind and tier. For any thread."""
        figures = {name: float(count) for name, count in self._counts.copy().items()}
        for tier, shelf in (("device", self._near), ("host", self._far)):
            figures |= {f"{kind}_{tier}_bytes": float(size) for kind, size in shelf.kinds.copy().items()}
        return figures


def each(value: Any, do: Move) -> Any:
    """The same value, with something done to each of its tensors."""
    if isinstance(value, torch.Tensor):
        return do(value)
    if isinstance(value, tuple):
        return tuple(each(one, do) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: each(getattr(value, f.name), do) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


def weight(value: Any) -> int:
    """Bytes of its tensors."""
    sizes: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    each(value, note)
    return sum(sizes)


def _tight(tensor: torch.Tensor) -> torch.Tensor:
    """In memory of its own, in the order of its indices: a view would keep all that it looks at."""
    if tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in host memory; in pages that a card reads by itself, where there is one."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor)
