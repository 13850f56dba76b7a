"""Freed memory goes back to the system, once it is worth the while."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from danqing.engine.heap import KERNELS, Heap, resident

MB = 1 << 20
pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no malloc_trim here")


def test_what_lies_free_below_something_that_stays_is_given_back() -> None:
    heap = Heap(spare=64 * MB)
    blocks = [b"x" * 100_000 for _ in range(2000)]
    stays = blocks.pop()
    blocks.clear()
    kept = resident()
    assert heap.give_back()
    assert resident() < kept - 100 * MB
    assert not heap.give_back(), "it has just been done"
    assert len(stays) == 100_000


def test_little_is_left_where_it_is() -> None:
    heap = Heap(spare=64 * MB)
    blocks = [b"x" * 100_000 for _ in range(100)]
    blocks.clear()
    assert not heap.give_back()


MANY_SIZES = """
import ctypes, sys, torch
from danqing.engine.heap import keep_few_kernels, resident
if sys.argv[1] == "few": keep_few_kernels()
torch.set_num_threads(1)
layer = torch.nn.Conv2d(64, 64, 3, padding=1)
with torch.inference_mode():
    layer(torch.zeros(1, 64, 16, 16))
    before = resident()
    for place in range(600):
        layer(torch.zeros(1, 64, 16 + place % 24, 16 + place // 24))
ctypes.CDLL(None).malloc_trim(0)
print(resident() - before)
"""


def test_kernels_of_sizes_that_come_once_are_not_kept_for_ever() -> None:
    # The environment as Python read it at its start: an engine opened in this process has put the name there since.
    few, all_of_them = (
        int(subprocess.check_output([sys.executable, "-c", MANY_SIZES, kept], env={**os.environ}))
        for kept in ("few", "all")
    )
    assert few < 0.7 * all_of_them


NUMBER = """
import ctypes
from danqing.engine.heap import keep_few_kernels
keep_few_kernels()
named = ctypes.CDLL(None).getenv
named.restype = ctypes.c_char_p
print(named(b"ONEDNN_PRIMITIVE_CACHE_CAPACITY").decode())
"""


@pytest.mark.parametrize(
    ("before", "after"), [({}, KERNELS), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "77"}, 77)]
)
def test_whoever_names_another_number_of_kernels_keeps_it(before: dict[str, str], after: int) -> None:
    own = {name: value for name, value in os.environ.items() if name != "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}
    assert int(subprocess.check_output([sys.executable, "-c", NUMBER], env=own | before)) == after
