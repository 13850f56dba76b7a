"""Muon for the matrices between layers, AdamW for everything else, in one object. Knows tensors, not models."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from training.together import Alone, Together


def _orthogonal(stack: Tensor) -> Tensor:
    """Newton-Schulz on a stack of matrices: every singular value is pulled to about one."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = stack.shape[-2] > stack.shape[-1]
    x = (stack.mT if tall else stack).bfloat16().contiguous()
    x /= x.norm(dim=(-2, -1), keepdim=True) + 1e-7
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Steps have the size of AdamW's, so one learning rate serves both. Processes that train together share the work of
    a step: say so in `others`."""

    others: Alone | Together = Alone()

    def __init__(
        self, matrices: list[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002
        """One step; matrices of one shape go together."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[tuple(parameter.shape)].append(parameter)
            stacks = [self._updates(alike, group) for alike in by_shape.values()]
            whole = self.others.deal(stacks, _orthogonal)
            for alike, updates in zip(by_shape.values(), whole, strict=True):
                rate = group["lr"] * 0.2 * max(updates.shape[1:]) ** 0.5
                for parameter, update in zip(alike, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"]).add_(
                        update.view_as(parameter), alpha=-rate
                    )

    def _updates(self, alike: list[nn.Parameter], group: dict[str, Any]) -> Tensor:
        """Gradients of one shape with their momentum, as matrices one on the other."""
        updates = []
        for parameter in alike:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            updates.append(parameter.grad.lerp(state["momentum"], group["momentum"]))
        return torch.stack(updates).flatten(2)  # a convolution is a matrix of its output channels


def split(model: nn.Module, inner: tuple[str, ...]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable matrices under one of the `inner` names, and all other trainable parameters."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_inner = parameter.ndim == 2 and any(part in name for part in inner)
            (matrices if is_inner else others).append(parameter)
    return matrices, others
