"""One server for the whole folder; tests that kill one start their own."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.served import Served, serve, write_profile
from tests.support.tiny import tiny_checkpoint


@pytest.fixture
def left_open() -> Iterator[None]:
    """The SDK closes some of its connections only when they are collected; that is not ours to be warned of."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_checkpoint(folder / "checkpoint")
    return write_profile(folder / "tiny.toml", folder / "checkpoint")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, profile: Path) -> Iterator[Served]:
    server = serve(tmp_path_factory.mktemp("served") / "data", profile)
    yield server
    assert server.stop() == 0
