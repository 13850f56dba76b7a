"""`danqing models`: which API models this installation answers to, and which checkpoint stands behind each."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from danqing.cli.options import DataOption, JsonOption


def models(
    profile: Annotated[str | None, typer.Option(help="profile to show (default: the configured one)")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the API models, their limits and the checkpoint behind each, with its relation and licence."""
    from danqing.app import offers
    from danqing.settings import BadSettings, load

    try:
        rows = offers(load(data=data, engine={"profile": profile}))
    except (BadSettings, ValueError, OSError) as fault:
        typer.echo(f"danqing: {fault}", err=True)
        raise typer.Exit(2) from fault
    if as_json:
        typer.echo(json.dumps({"models": rows}, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for head in ("model", "images in", "pictures out", "checkpoint", "relation", "licence"):
        table.add_column(head)
    for row in rows:
        table.add_row(
            *(str(row[name]) for name in ("model", "images", "count", "checkpoint", "relation", "licence"))
        )
    Console().print(table)
