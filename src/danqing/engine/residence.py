"""Which modules are on the device right now, where they do not all fit. Knows no family and no stage.

Weights never change, so their copy in main memory stays where it is: bringing a module copies it to the device, and
sending it away drops that copy and nothing else. A module is brought by the first call of any part of it; those used
longest ago are sent away to make room.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

_DEEP = 3
"""Parts so many levels below a module bring it: families call parts of a module by themselves, the blocks' parts at the
deepest."""

Bring = Callable[[torch.Tensor], torch.Tensor]


class TooLarge(ValueError):
    """A module that does not fit even alone."""


class Residence:
    """Keeps the modules' bytes on the device within `limit`. For the engine's thread alone."""

    def __init__(self, limit: int, bring: Bring) -> None:
        """Nothing is on the device yet. `bring` copies a tensor there."""
        self.limit, self._bring, self._added = limit, bring, 0
        self._here: OrderedDict[int, tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]] = (
            OrderedDict()
        )
        self._latest: nn.Module | None = None
        self.brought = 0.0
        """Seconds that bringing took, all together."""

    @property
    def most(self) -> int:
        """Bytes that will ever be on the device at once."""
        return min(self.limit, self._added)

    @property
    def size(self) -> int:
        """Bytes that are on the device."""
        return sum(_bytes(module) for module, _ in self._here.values())

    def add(self, name: str, module: nn.Module) -> None:
        """From now on it is brought when a part of it is called. Raises TooLarge."""
        size = _bytes(module)
        if size > self.limit:
            raise TooLarge(
                f"{name} needs {size / 1e9:.1f} GB, and {max(0, self.limit) / 1e9:.1f} GB of the device are for modules"
            )

        self._added += size

        def bring(*_: Any) -> None:
            self.need(module)

        for part in _parts(module, _DEEP):
            part.register_forward_pre_hook(bring)

    def need(self, module: nn.Module) -> None:
        """Bring the module, unless it is there."""
        if module is self._latest:
            return
        self._latest = module
        if id(module) in self._here:
            self._here.move_to_end(id(module))
            return
        size, began = _bytes(module), time.monotonic()
        while self._here and self.size + size > self.limit:
            self._send(self._here.popitem(last=False)[1][1])
        kept = [(tensor, tensor.data) for tensor in _tensors(module)]
        try:
            for tensor, own in kept:
                tensor.data = self._bring(own)
        except BaseException:
            # Half a module on the device would be there for the next call.
            self._send(kept)
            self._latest = None
            raise
        self._here[id(module)] = (module, kept)
        self.brought += time.monotonic() - began

    @staticmethod
    def _send(kept: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        for tensor, own in kept:
            tensor.data = own


def _parts(module: nn.Module, deep: int) -> Iterator[nn.Module]:
    yield module
    if deep:
        for part in module.children():
            yield from _parts(part, deep - 1)


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(module))
