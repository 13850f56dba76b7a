from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-jobs", type=int, default=None, help="jobs of the long chaos run; faults grow with them"
    )
    parser.addoption(
        "--chaos-seed", type=int, default=None, help="seed of the chaos run, as a failed run printed it"
    )


@pytest.fixture
def chaos_jobs(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--chaos-jobs", default=None) or 30


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--chaos-seed", default=None) or 20261121
