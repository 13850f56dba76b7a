"""`danqing edit` and `danqing generate`: pictures from the terminal, seen while they grow.

Starts a server if none is running.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from danqing.cli.growing import onlooker
from danqing.cli.local import reach
from danqing.cli.options import DataOption, JsonOption, KeyOption, ServerOption
from danqing.cli.refusal import refused
from danqing.cli.remote import Ask, CallFailed, Remote, pictures

EDIT_MODEL = "qwen-image-edit-plus"
GENERATE_MODEL = "qwen-image-2.0"

PromptArgument = Annotated[str, typer.Argument(help="what to make, in English or Chinese")]
CountOption = Annotated[int, typer.Option("-n", "--count", help="how many pictures", min=1)]
OutOption = Annotated[Path, typer.Option("-o", "--out", help="folder for the pictures")]
SizeOption = Annotated[str | None, typer.Option(help="width*height, such as 1024*1536")]
SeedOption = Annotated[int | None, typer.Option(help="0 to 2147483647; the same seed gives the same picture")]
NegativeOption = Annotated[str | None, typer.Option("--negative", help="what to avoid")]
WatermarkOption = Annotated[bool, typer.Option(help="add the visible mark, bottom right")]


def edit(
    images: Annotated[
        list[str], typer.Argument(help="1 to 3 pictures, then the instruction", metavar="IMAGE... TEXT")
    ],
    *,
    count: CountOption = 1,
    out: OutOption = Path(),
    size: SizeOption = None,
    seed: SeedOption = None,
    negative: NegativeOption = None,
    watermark: WatermarkOption = False,
    model: Annotated[str, typer.Option(help="API model name")] = EDIT_MODEL,
    server: ServerOption = None,
    key: KeyOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Edit one to three pictures as the text says: danqing edit photo.png "make the car red"."""
    *paths, prompt = images
    if not paths:
        raise typer.BadParameter(
            "name at least one picture before the instruction; to start from words: danqing generate"
        )
    if os.path.isfile(prompt):  # False, not an error, for a text too long for a name
        raise typer.BadParameter(f"{prompt} is a file; after the pictures comes what to do with them")
    parameters = _parameters(n=count, size=size, seed=seed, negative_prompt=negative, watermark=watermark)
    ask = Ask(model, prompt, tuple(Path(path) for path in paths), parameters)
    _run(ask, out, (server, key, data), as_json=as_json)


def generate(
    prompt: PromptArgument,
    *,
    count: CountOption = 1,
    out: OutOption = Path(),
    size: SizeOption = None,
    seed: SeedOption = None,
    negative: NegativeOption = None,
    watermark: WatermarkOption = False,
    model: Annotated[str, typer.Option(help="API model name")] = GENERATE_MODEL,
    server: ServerOption = None,
    key: KeyOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a picture from words: danqing generate "a red star on a beach" --size 1024*1024."""
    parameters = _parameters(n=count, size=size, seed=seed, negative_prompt=negative, watermark=watermark)
    _run(Ask(model, prompt, (), parameters), out, (server, key, data), as_json=as_json)


def _parameters(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _run(ask: Ask, out: Path, where: tuple[str | None, str | None, Path | None], *, as_json: bool) -> None:
    server, key, data = where
    console = Console(stderr=True)
    begun = time.monotonic()
    try:
        _writable(out)
        with reach(server, key, data, tell=console.print if not as_json else _silent) as remote:
            with onlooker(console, shown=not as_json) as hear:
                answer = remote.make(ask, hear)
            saved = _save(remote, answer, out, stem=ask.images[0].stem if ask.images else "picture")
    except CallFailed as fault:
        raise refused(console, fault, as_json=as_json) from fault
    seconds = round(time.monotonic() - begun, 2)
    if as_json:
        told = {"files": [str(path) for path in saved], "seconds": seconds, **answer}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        for path in saved:
            typer.echo(str(path))


def _silent(_: str) -> None:
    """With --json nothing but the answer is written."""


def _writable(out: Path) -> None:
    """Before anything is made that could not be kept. Raises CallFailed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise CallFailed(f"--out {out} cannot be a folder: {fault.strerror}") from fault
    if not os.access(out, os.W_OK):
        raise CallFailed(f"--out {out} cannot be written to")


def _save(remote: Remote, answer: dict[str, Any], out: Path, *, stem: str) -> list[Path]:
    saved = []
    for index, url in enumerate(pictures(answer), start=1):
        path = _free(out, f"{stem}-{index}")
        data = remote.download(url)
        try:
            path.write_bytes(data)
        except OSError as fault:
            raise CallFailed(
                f"{path} cannot be written: {fault.strerror}; the picture is at {url}"
            ) from fault
        saved.append(path)
    return saved


def _free(folder: Path, stem: str) -> Path:
    """A name in `folder` that is not taken: nobody's picture is overwritten."""
    path = folder / f"{stem}.png"
    number = 2
    while path.exists():
        path = folder / f"{stem}-{number}.png"
        number += 1
    return path
