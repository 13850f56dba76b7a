"""`danqing models`: which API models this installation answers to, which checkpoint stands behind each, and where the
weights are; `danqing models pull` brings them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from danqing.cli.options import DataOption, JsonOption
from danqing.cli.tables import show

if TYPE_CHECKING:
    from danqing.engine.pull import Share
    from danqing.profiles.loader import Profile
    from danqing.profiles.weights import Weights

app = typer.Typer(help="API models, and the weights behind them.", invoke_without_command=True)
_err = Console(stderr=True)


@app.callback()
def models(
    context: typer.Context,
    profile: Annotated[str | None, typer.Option(help="profile to show (default: the configured one)")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the API models, their limits and the checkpoint behind each, with its relation, licence and weights."""
    if context.invoked_subcommand is not None:
        return
    from danqing.app import held, offers
    from danqing.app_worker import StartRefused
    from danqing.settings import BadSettings, load

    try:
        settings = load(data=data, engine={"profile": profile})
        rows, weights = offers(settings), held(settings)
    except (BadSettings, StartRefused, ValueError, OSError) as fault:
        typer.echo(f"danqing: {fault}", err=True)
        raise typer.Exit(2) from fault
    if as_json:
        typer.echo(json.dumps({"models": rows, "weights": weights}, ensure_ascii=False))
        return
    _show(
        rows, ("model", "images", "count", "checkpoint", "relation", "licence"), ("images in", "pictures out")
    )
    typer.echo()
    _show(weights, ("checkpoint", "source", "weights", "revision"), ())


def _show(rows: Sequence[dict[str, str]], names: Sequence[str], heads: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False)
    for head in (names[0], *heads, *names[1 + len(heads) :]):
        table.add_column(head)
    for row in rows:
        table.add_row(*(str(row[name]) for name in names))
    show(table)


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(metavar="PROFILE", help="bundled profile, or the path of a profile's file")
    ],
    *,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from", help="take the weights from this folder, which holds OWNER/NAME or NAME of each source"
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="take the newest revision where the profile pins none")
    ] = False,
    data: DataOption = None,
) -> None:
    """Bring the weights of a profile to this machine: what they take is shown first, a broken line goes on.

    HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and MODELSCOPE_DOMAIN are honoured. What was pulled is what is served until
    the next pull with --update.
    """
    from danqing.engine.pull import PullFault, alone
    from danqing.profiles.loader import BadProfile, load_profile
    from danqing.profiles.weights import Weights, sources
    from danqing.settings import BadSettings, load

    try:
        settings, profile = load(data=data), load_profile(name)
        if profile.unaccepted(settings.engine.accept):
            licences = ", ".join(profile.unaccepted(settings.engine.accept))
            raise PullFault(f"its licence must be accepted first, in the setting engine.accept: {licences}")
        if all(one.folder is not None for one in sources(profile)):
            typer.echo(f"nothing to bring: the profile {profile.name} takes no weights from elsewhere")
            return
        weights = Weights(settings.weights)
        with alone(weights.folder):
            if folder is not None:
                _copy(profile, weights, folder)
            else:
                asyncio.run(_pull(profile, weights, update=update))
    except (BadSettings, BadProfile, PullFault, OSError) as fault:
        typer.echo(f"danqing: {fault}", err=True)
        raise typer.Exit(1) from fault
    except KeyboardInterrupt as fault:
        typer.echo("danqing: stopped; the next pull goes on here", err=True)
        raise typer.Exit(130) from fault
    typer.echo(f"the weights of {profile.name} are in {weights.folder}")


def _copy(profile: Profile, weights: Weights, folder: Path) -> None:
    from danqing.engine.pull import copy_from

    with _bars() as bars:
        bar = bars.add_task(str(folder), total=None)
        copy_from(folder, profile, weights, partial(_step, bars, bar))


async def _pull(profile: Profile, weights: Weights, *, update: bool) -> None:
    from danqing.engine import pull as pulling
    from danqing.outbound.hub import Hubs, Places
    from danqing.settings import elsewhere

    if pulling.whole(profile, weights) and not update:
        return
    async with Hubs(Places(*elsewhere())) as hubs:
        shares = await pulling.survey(profile, weights, hubs, update=update)
        _announce(shares, weights)
        pulling.room_for(shares, weights)
        with _bars() as bars:
            for share in shares:
                bar = bars.add_task(share.source, total=share.size)
                tell = partial(_step, bars, bar)
                await pulling.bring(share, weights, hubs, tell)


def _step(bars: Progress, bar: TaskID, size: int) -> None:
    bars.update(bar, advance=size)


def _announce(shares: Sequence[Share], weights: Weights) -> None:
    """What a pull will take, before it takes anything."""
    from danqing.engine.pull import free_bytes, gigabytes

    table = Table(box=None, pad_edge=False)
    for head in ("source", "revision", "files", "size", "here already"):
        table.add_column(head)
    for share in shares:
        shown = (str(len(share.files)), gigabytes(share.size), gigabytes(share.here))
        table.add_row(share.source, share.revision[:12], *shown)
    _err.print(table)
    size = sum(share.size for share in shares)
    free = gigabytes(free_bytes(weights.folder))
    _err.print(f"{gigabytes(size)} in all, as much again of memory to load them; the disk has {free} free")


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=_err)
