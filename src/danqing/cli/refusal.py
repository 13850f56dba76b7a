"""How a command ends that a server refused or could not be asked: one line for a person, or with --json one object."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.text import Text

from danqing.cli.remote import CallFailed


def refused(console: Console, fault: CallFailed, *, as_json: bool) -> typer.Exit:
    """Say why, and answer what to raise: exit status 1. What was said is not ours, so nothing in it is markup, and it
    stays one line, to be searched and copied."""
    if as_json:
        typer.echo(json.dumps({"error": str(fault)}, ensure_ascii=False))
    else:
        console.print(Text.assemble(("danqing:", "red"), f" {fault}"), soft_wrap=True)
    return typer.Exit(1)
