"""A program behind a pipe reads whole names."""

from __future__ import annotations

import pytest
from rich.table import Table

from danqing.cli.tables import show


def test_behind_a_pipe_nothing_is_cut_off_or_folded(capsys: pytest.CaptureFixture[str]) -> None:
    name, table = "a-very-long-name-of-a-model-" * 8, Table(box=None)
    table.add_column("model")
    table.add_column("checkpoint")
    table.add_row(name, "x" * 60)
    show(table)
    assert name in capsys.readouterr().out
