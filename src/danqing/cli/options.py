"""The options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="data folder (default: per user)", envvar="DANQING_DATA", show_envvar=True),
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else")]
ServerOption = Annotated[
    str | None, typer.Option("--server", help="URL of a server elsewhere", envvar="DANQING_CLI_SERVER")
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="API key (default: the command line's own; for --server, DASHSCOPE_API_KEY of the environment)",
    ),
]
