"""`danqing worker`, started by the server for each device: loads a checkpoint and serves the lease socket.

Ends when its standard input closes, which is how the server that started it takes it along.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from danqing.cli.options import DataOption


def worker(
    *,
    socket: Annotated[Path, typer.Option(help="the server's lease socket")],
    profile: Annotated[str, typer.Option(help="bundled profile or file")] = "miniature",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    threads: Annotated[int, typer.Option(help="threads of torch on a CPU; 0 leaves it to torch")] = 0,
    data: DataOption = None,
    name: Annotated[str, typer.Option(help="what the server calls this worker")] = "worker",
    log: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
    log_format: Annotated[str, typer.Option(help="auto, json or text")] = "auto",
) -> None:
    """Make pictures for a server on this machine, under the settings of its data folder."""
    from danqing.app_worker import StartRefused, run_worker
    from danqing.logs import configure
    from danqing.profiles.loader import BadProfile
    from danqing.settings import BadSettings, load
    from danqing.work.ends import UNREADY

    configure(log, form=log_format, prompts=False)
    try:
        settings = load(data=data)
        run_worker(socket, profile, name=name, device=device, threads=threads or None, settings=settings)
    except (BadSettings, BadProfile, StartRefused) as fault:
        typer.echo(f"danqing worker: {fault}", err=True)
        raise typer.Exit(UNREADY) from fault
