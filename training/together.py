"""Several processes that train one model: each has its own lessons and one thread, gradients meet in shared memory.

On few cores this beats one process with several threads: small matrices do not fill them, and drawing fills one.
Knows parameters and a clock, not what is learned.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from multiprocessing.synchronize import Barrier
from typing import Any

import torch
from torch import Tensor, nn

PATIENCE = 900.0  # seconds to wait for the others: a process that died must not hold up the rest for ever


class Alone:
    """One process; nothing to share."""

    rank, count = 0, 1

    def average(self, parameters: Iterable[nn.Parameter], seconds: float) -> float:  # noqa: ARG002
        """Nothing to do."""
        return seconds


class Together:
    """One of several. All must call `average` equally often."""

    def __init__(self, rank: int, slots: Tensor, barrier: Barrier) -> None:
        self.rank, self.count = rank, len(slots)
        self._slots, self._barrier = slots, barrier

    def average(self, parameters: Iterable[nn.Parameter], seconds: float) -> float:
        """Replaces every gradient by the mean of all processes'; returns the first one's clock."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        mine, at = self._slots[self.rank], 1
        mine[0] = seconds
        for grad in grads:
            mine[at : at + grad.numel()].view_as(grad).copy_(grad)
            at += grad.numel()
        self._barrier.wait(PATIENCE)
        mean, clock, at = self._slots[:, :at].mean(0), float(self._slots[0, 0]), 1
        self._barrier.wait(PATIENCE)
        for grad in grads:
            grad.copy_(mean[at : at + grad.numel()].view_as(grad))
            at += grad.numel()
        return clock


def worked() -> float:
    """Processor seconds of this process, a thread."""
    return time.process_time() / torch.get_num_threads()


def meeting_place(count: int, model: nn.Module) -> Any:
    """What the processes share: room for everybody's gradients, and a barrier."""
    room = 1 + sum(parameter.numel() for parameter in model.parameters())
    slots = torch.zeros(count, room).share_memory_()
    return slots, torch.multiprocessing.get_context("spawn").Barrier(count)
