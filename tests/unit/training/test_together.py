"""Processes that train together: the same step as one alone would take, its work shared."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402

from training.muon import Muon  # noqa: E402
from training.together import Alone, Together  # noqa: E402

SHAPES = [(6, 4), (6, 4), (6, 4), (3, 5), (4, 2, 3, 3)]


def _learn(others: Alone | Together, start: list[Tensor], grads: list[list[Tensor]]) -> list[Tensor]:
    parameters = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    muon = Muon(parameters, lr=0.1)
    muon.others = others
    for given in grads:
        for parameter, grad in zip(parameters, given, strict=True):
            parameter.grad = grad.clone()
        assert others.average(parameters, 7.0 + others.rank) == 7.0
        muon.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("count", [2, 3])
def test_several_take_the_step_of_one_with_the_mean_gradient(count: int) -> None:
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    grads = [[[torch.randn(shape) for shape in SHAPES] for _ in range(count)] for _ in range(3)]
    means = [[torch.stack(each).mean(0) for each in zip(*step, strict=True)] for step in grads]
    slots = torch.zeros(count, 1 + sum(tensor.numel() for tensor in start))
    barrier = threading.Barrier(count)

    def one(rank: int) -> list[Tensor]:
        return _learn(Together(rank, slots, barrier), start, [step[rank] for step in grads])  # type: ignore[arg-type]

    with ThreadPoolExecutor(count) as pool:
        learned = list(pool.map(one, range(count)))
    for one_, other in pairwise([*learned, _learn(Alone(), start, means)]):
        for tensor, same in zip(one_, other, strict=True):
            assert torch.allclose(tensor, same, atol=2e-3), "bf16 rounds the same matrices in other company"


def test_every_part_is_worked_on_once() -> None:
    slots, barrier = torch.zeros(2, 32), threading.Barrier(2)
    seen: list[int] = []

    def work(part: Tensor) -> Tensor:
        seen.append(len(part))
        return part + 1

    stacks = [torch.zeros(3, 2, 2), torch.zeros(1, 4, 2)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda r: Together(r, slots, barrier).deal(stacks, work), range(2)))  # type: ignore[arg-type]
    assert sorted(seen) == [1, 1, 2]
    for stacked in done:
        assert [tensor.unique().tolist() for tensor in stacked] == [[1.0], [1.0]]
