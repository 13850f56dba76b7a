"""`danqing watch`: what happens to a job that somebody started, from the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from danqing.cli.growing import onlooker, words
from danqing.cli.local import elsewhere, own_key, running
from danqing.cli.options import DataOption, JsonOption, KeyOption, ServerOption
from danqing.cli.refusal import refused
from danqing.cli.remote import CallFailed, Event, Remote
from danqing.settings import default_data

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="a task_id, or the X-Request-ID of a call that waits")
]


def watch(
    job: IdArgument,
    *,
    server: ServerOption = None,
    key: KeyOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a job until it ends, as a picture that grows or, without a terminal, as lines; then print its links, and on
    a terminal how it was made."""
    console = Console(stderr=True)
    end: Event | None = None
    try:
        remote = _remote(server, key, data or default_data())
        with onlooker(console, shown=not as_json) as hear:
            for event in remote.events(job):
                hear(event)
                end = event if event.name == "end" else None
        if end is None:
            raise CallFailed("the server ended the stream before the job")
    except CallFailed as fault:
        raise refused(console, fault, as_json=as_json) from fault
    if as_json:
        typer.echo(json.dumps(end.told, ensure_ascii=False))
    else:
        if console.is_terminal:  # what grew there is gone
            console.print(words(end), highlight=False, markup=False)
        for image in end.told["images"]:
            typer.echo(image["url"])
    if end.told["state"] != "succeeded":
        raise typer.Exit(1)


def _remote(server: str | None, key: str | None, data: Path) -> Remote:
    """The server that has the job: it is not started for this. Raises CallFailed."""
    if server is not None:
        return elsewhere(server, key)
    url = running(data)
    if url is None:
        raise CallFailed("no server is running with this data folder; name another with --server")
    return Remote(url, key or own_key(data))
