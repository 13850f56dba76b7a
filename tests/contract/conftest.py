"""A fresh store of each implementation on a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from danqing.core.ports import JobStore
from tests.contract.stores import IMPLEMENTATIONS, Implementation
from tests.support.clock import VirtualClock


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda one: one.name)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    chosen: Implementation = request.param
    return chosen


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> AsyncIterator[JobStore]:
    async with implementation.open(tmp_path, clock) as opened:
        yield opened
