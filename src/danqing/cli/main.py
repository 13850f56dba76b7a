"""The `danqing` command. Only names the commands; each imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import typer

from danqing import __version__
from danqing.cli import doctor, keys, models, pictures, serve, simulate, watch, worker

app = typer.Typer(
    name="danqing",
    help="Danqing: image generation and editing on your own machine, over the DashScope API.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"danqing {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="show the version"
    ),
) -> None:
    """Danqing: image generation and editing on your own machine, over the DashScope API."""


app.command()(serve.serve)
app.command()(pictures.edit)
app.command()(pictures.generate)
app.command()(watch.watch)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.command()(doctor.doctor)
app.command()(simulate.simulate)
app.command(hidden=True)(worker.worker)


def run() -> None:
    """The entry point of the console script."""
    app()
