"""Freed memory goes back to the system, once it is worth the while."""

from __future__ import annotations

import ctypes

import pytest

from danqing.engine.heap import Heap, resident

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
