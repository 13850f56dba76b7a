"""`danqing serve`: the whole service in one command. Reads the settings, hands them to `app`, prints one line."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from danqing.cli.options import DataOption


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="address to listen on (default 127.0.0.1)")] = None,
    port: Annotated[
        int | None, typer.Option(help="port to listen on (default 8000; 0 takes a free one)")
    ] = None,
    data: DataOption = None,
    profile: Annotated[
        str | None, typer.Option(help="which checkpoint stands behind the model names")
    ] = None,
    public_url: Annotated[str | None, typer.Option(help="what result links begin with")] = None,
    tied: Annotated[bool, typer.Option("--tied", hidden=True, help="end when standard input closes")] = False,
) -> None:
    """Start the server and its worker; prints one line when pictures can be made."""
    from danqing.app import run
    from danqing.app_worker import StartRefused
    from danqing.settings import BadSettings, load

    try:
        server = {"host": host, "port": port, "public_url": public_url}
        settings = load(data=data, server=server, engine={"profile": profile})
        asyncio.run(run(settings, ready=typer.echo, tied=tied))
    except (BadSettings, StartRefused) as fault:
        typer.echo(f"danqing: {fault}", err=True)
        raise typer.Exit(2) from fault
