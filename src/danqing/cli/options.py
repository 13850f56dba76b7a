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
