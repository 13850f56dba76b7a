"""What a person reads when a command could not do what was asked."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from danqing.cli.refusal import refused
from danqing.cli.remote import CallFailed

SAID = "cannot read [/red] scene[1].png: " + "a long story " * 12


def test_what_was_said_stands_on_one_line_whatever_is_in_it() -> None:
    file = io.StringIO()
    ended = refused(Console(file=file, width=60), CallFailed(SAID), as_json=False)
    assert ended.exit_code == 1
    assert file.getvalue() == f"danqing: {SAID}\n"


def test_for_a_program_it_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    refused(Console(file=file), CallFailed(SAID), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"error": SAID}
    assert not file.getvalue()
