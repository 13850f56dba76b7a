"""Several processes that train one model: each has its own lessons and one thread.

Gradients meet in shared memory, and what an optimiser makes of them is made once. On few cores this beats one process
with several threads: small matrices do not fill them, and drawing fills one. Knows parameters and a clock, not what is
learned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
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

    def deal(self, stacks: Sequence[Tensor], work: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """All of it is ours to do."""
        return [work(stack) for stack in stacks]


class Together:
    """One of several. All must call `average` and `deal` equally often, in the same order."""

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

    def deal(self, stacks: Sequence[Tensor], work: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """`work` on every stack, which keeps its shape, each process doing its part of the rows. All bring the same
        stacks, together not larger than the gradients."""
        mine, at = self._slots[self.rank], 1
        for stack in stacks:
            part = stack.tensor_split(self.count)[self.rank]
            if part.numel():
                mine[at : at + part.numel()].view_as(part).copy_(work(part))
            at += part.numel()
        self._barrier.wait(PATIENCE)
        done, places = [], [1] * self.count
        for stack in stacks:
            whole = torch.empty_like(stack)
            for rank, part in enumerate(whole.tensor_split(self.count)):
                at = places[rank]
                part.copy_(self._slots[rank, at : at + part.numel()].view_as(part))
                places[rank] += part.numel()
            done.append(whole)
        self._barrier.wait(PATIENCE)
        return done


def worked() -> float:
    """Processor seconds of this process, a thread."""
    return time.process_time() / torch.get_num_threads()


def meeting_place(count: int, model: nn.Module) -> Any:
    """What the processes share: room for everybody's gradients, and a barrier."""
    room = 1 + sum(parameter.numel() for parameter in model.parameters())
    slots = torch.zeros(count, room).share_memory_()
    return slots, torch.multiprocessing.get_context("spawn").Barrier(count)
