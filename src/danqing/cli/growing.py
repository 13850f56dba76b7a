"""Shows the events of a job while they come: a picture that grows over a bar, or plain lines where no person looks.

The picture is drawn in half blocks, two pixels a character, which every terminal with colours can show.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment, Segments
from rich.style import Style

from danqing.cli.remote import Event
from danqing.pixels.cells import cells

COLUMNS = 64
"""The widest picture; a preview has hardly more to show."""
_UPPER = "▀"

Hear = Callable[[Event], None]


@contextmanager
def onlooker(console: Console, *, shown: bool) -> Iterator[Hear]:
    """Who hears the events: nobody unless `shown`, a terminal, or plain lines where there is none."""
    if not shown:
        yield lambda _: None
    elif not console.is_terminal:
        yield lambda event: _write(console, event)
    else:
        growing = Growing(console)
        with Live(get_renderable=growing.view, console=console, transient=True, refresh_per_second=8):
            yield growing.hear


def words(event: Event) -> str:
    """An event in words; nothing for one that is only to be seen."""
    told = event.told
    rest = "" if told.get("eta") is None else f", {told['eta']:.0f} s left"
    match event.name:
        case "queued":
            return f"waiting, number {told['position']}{rest}" if told["position"] else f"waiting{rest}"
        case "started":
            return "started"
        case "step":
            return f"step {told['step']} of {told['steps']}{rest}"
        case "image":
            return f"picture {told['index'] + 1}: {told['url']}"
        case "end":
            why = f": {told['message']}" if "message" in told else ""
            return f"{told['state']}{why}{_made(told)}"
        case _:
            return ""


def _made(told: Mapping[str, Any]) -> str:
    """How the pictures of a job were made, by its record."""
    if (made := told.get("quality")) is None:
        return ""
    return f": {made['contract']}, {made['steps']} steps of {made['checkpoint']}, preset {made['preset']}"


def _write(console: Console, event: Event) -> None:
    if line := words(event):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


class Growing:
    """The newest preview over a progress bar."""

    def __init__(self, console: Console) -> None:
        """Nothing was heard yet."""
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._row = self._bar.add_task("sending", total=None)
        self._picture: RenderableType | None = None

    def view(self) -> RenderableType:
        """What stands there right now."""
        return self._bar if self._picture is None else Group(self._picture, self._bar)

    def hear(self, event: Event) -> None:
        """Take an event in."""
        if event.name == "preview":
            self._grow(base64.b64decode(event.told["jpeg"]))
            return
        if event.name == "step":
            self._bar.update(self._row, total=event.told["steps"], completed=event.told["step"])
        if event.name != "image":  # its link is said at the end
            self._bar.update(self._row, description=words(event))

    def _grow(self, file: bytes) -> None:
        if self._console.color_system is None:
            return
        columns, rows = min(COLUMNS, self._console.width - 1), self._console.height - 3
        try:
            self._picture = drawn(file, columns, max(1, rows))
        except ValueError:  # a picture that cannot be shown is no reason to stop
            self._picture = None


def drawn(file: bytes, columns: int, rows: int) -> RenderableType:
    """A JPEG file as half blocks. Raises ValueError for what is none."""
    segments = []
    for row in cells(file, columns, rows):
        segments += [
            Segment(_UPPER, Style(color=Color.from_rgb(*a), bgcolor=Color.from_rgb(*b))) for a, b in row
        ]
        segments.append(Segment.line())
    return Segments(segments)
