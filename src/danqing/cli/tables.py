"""Tables for people on the terminal, whole lines for programs behind a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_ANY = 10_000


def show(table: Table) -> None:
    """Print it as wide as the terminal, folding what does not fit; into a file or a pipe as wide as it is."""
    for column in table.columns:
        column.overflow = "fold"
    console = Console()
    if not console.is_terminal:
        console.width = _ANY
    console.print(table)
