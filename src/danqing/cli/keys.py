"""`danqing keys`: create, list and revoke API keys, with a server running or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from danqing.cli.operate import Operator, operator
from danqing.cli.options import DataOption, JsonOption
from danqing.cli.remote import CallFailed
from danqing.core.keys import MOST_PRIORITY
from danqing.settings import default_data

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)

_ROW = "{:8}  {:8} {:16}  {:12} {:16} {:>3}  {}"


@contextmanager
def _talk(data: DataOption) -> Iterator[Operator]:
    try:
        with operator(data or default_data()) as found:
            yield found
    except (CallFailed, OSError, ValueError) as fault:
        typer.echo(f"danqing: {fault}", err=True)
        raise typer.Exit(1) from fault


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what the key is for, shown in lists")],
    *,
    tenant: Annotated[
        str, typer.Option("--tenant", "--account", help="whose jobs and quota the key uses")
    ] = "default",
    region: Annotated[
        str | None,
        typer.Option(
            help="the region that the key belongs to (default: that of the server)", show_default=False
        ),
    ] = None,
    workspace: Annotated[
        str, typer.Option(help="the one workspace that the key is for (default: every one of the account)")
    ] = "",
    priority: Annotated[
        int,
        typer.Option(
            min=-MOST_PRIORITY,
            max=MOST_PRIORITY,
            help="jobs of a key with a higher one go before the account's others",
        ),
    ] = 0,
    data: DataOption = None,
) -> None:
    """Make a key and print it, alone on stdout. It is stored as a hash and cannot be shown again."""
    with _talk(data) as talk:
        made = talk.create_key(name, tenant=tenant, region=region, workspace=workspace, priority=priority)
        typer.echo(made.secret)


@app.command("list")
def list_keys(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the keys, without their secrets."""
    with _talk(data) as talk:
        keys = talk.list_keys()
    if as_json:
        typer.echo(json.dumps({"keys": keys}, ensure_ascii=False))
        return
    typer.echo(_ROW.format("key", "state", "made (UTC)", "account", "region/workspace", "pri", "name"))
    for key in keys:
        state = "revoked" if key["revoked"] else "active"
        made = datetime.fromtimestamp(key["created"], UTC).strftime("%Y-%m-%d %H:%M")
        where = f"{key['region'] or 'home'}/{key['workspace'] or '*'}"
        priority = f"{key['priority']:+}"
        typer.echo(_ROW.format(key["key_id"], state, made, key["tenant"], where, priority, key["name"]))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="the id that `danqing keys list` shows")],
    data: DataOption = None,
) -> None:
    """Revoke a key; requests with it are refused within five seconds."""
    with _talk(data) as talk:
        known = talk.revoke_key(key_id)
    if not known:
        typer.echo(f"danqing: there is no key {key_id}", err=True)
        raise typer.Exit(1)
    typer.echo(f"revoked {key_id}")
