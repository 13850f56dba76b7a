"""What a person sees of a job: half blocks in the picture's colours, a bar, or lines."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from danqing.cli.growing import Growing, drawn, onlooker, words
from danqing.cli.remote import Event
from danqing.pixels.cells import cells


def halves(width: int, height: int) -> bytes:
    """Red above, blue below."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (0, height // 2, width, height))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def preview(file: bytes) -> Event:
    return Event("preview", {"index": 0, "step": 1, "steps": 4, "jpeg": base64.b64encode(file).decode()})


def console(**more: Any) -> Console:
    settings = {"force_terminal": True, "color_system": "truecolor", "width": 60, "height": 24, **more}
    return Console(file=io.StringIO(), legacy_windows=False, **settings)


def written(at: Console) -> str:
    assert isinstance(at.file, io.StringIO)
    return at.file.getvalue()


@pytest.mark.parametrize(
    ("size", "room", "expected"),
    [
        ((64, 64), (32, 32), (32, 16)),
        ((64, 32), (40, 10), (40, 10)),
        ((32, 64), (40, 10), (10, 10)),
        ((8, 8), (1, 1), (1, 1)),
    ],
)
def test_a_picture_fills_its_room_and_keeps_its_aspect(
    size: tuple[int, int], room: tuple[int, int], expected: tuple[int, int]
) -> None:
    found = cells(halves(*size), *room)
    assert (len(found[0]), len(found)) == expected


def test_each_cell_is_two_pixels() -> None:
    found = cells(halves(32, 32), 16, 8)
    (upper, lower), (above, below) = found[0][3], found[7][3]
    assert upper[0] > 240
    assert lower[0] > 240
    assert above[2] > 240
    assert below[2] > 240


@pytest.mark.parametrize("file", [b"", b"GIF89a", halves(16, 16)[:40]])
def test_what_is_no_picture_is_refused(file: bytes) -> None:
    with pytest.raises(ValueError, match="picture"):
        cells(file, 10, 10)


def test_half_blocks_carry_the_colours() -> None:
    at = console()
    at.print(drawn(halves(32, 32), 8, 4))
    lines = written(at).splitlines()
    assert len([line for line in lines if "▀" in line]) == 4
    assert "38;2;25" in lines[0]
    assert lines[0].count("▀") == 8


def test_a_terminal_sees_the_newest_preview_over_a_bar() -> None:
    at = console()
    with onlooker(at, shown=True) as hear:
        hear(Event("queued", {"position": 2, "eta": None}))
        hear(Event("started", {}))
        hear(Event("step", {"step": 1, "steps": 4, "eta": 3.2}))
        hear(preview(halves(32, 32)))
    assert "▀" in written(at)
    assert "step 1 of 4, 3 s left" in written(at)


def test_a_terminal_without_colours_has_the_bar_alone() -> None:
    at = console(color_system=None)
    with onlooker(at, shown=True) as hear:
        hear(Event("step", {"step": 1, "steps": 4, "eta": None}))
        hear(preview(halves(32, 32)))
    assert "▀" not in written(at)
    assert "step 1 of 4" in written(at)


def test_a_preview_that_cannot_be_read_stops_nothing() -> None:
    growing = Growing(console())
    growing.hear(preview(b"rubbish"))
    growing.hear(Event("step", {"step": 2, "steps": 4, "eta": None}))
    assert growing.view() is growing._bar


def test_without_a_terminal_there_are_lines_and_no_pictures() -> None:
    at = console(force_terminal=False, color_system=None)
    with onlooker(at, shown=True) as hear:
        hear(Event("queued", {"position": None, "eta": None}))
        hear(Event("queued", {"position": 3, "eta": 12.4}))
        hear(Event("started", {}))
        hear(preview(halves(32, 32)))
        hear(Event("step", {"step": 1, "steps": 4, "eta": None}))
        hear(Event("image", {"index": 0, "url": "http://x/[1]"}))
        hear(Event("end", {"state": "failed", "images": [], "code": "EngineFailed", "message": "no memory"}))
    assert written(at).splitlines() == [
        "waiting",
        "waiting, number 3, 12 s left",
        "started",
        "step 1 of 4",
        "picture 1: http://x/[1]",
        "failed: no memory",
    ]


def test_how_pictures_were_made_is_said_with_the_end() -> None:
    made = {"contract": "exact", "checkpoint": "edit-2511", "preset": "edit-4", "steps": 4}
    told = {"state": "succeeded", "images": [], "quality": made}
    assert words(Event("end", told)) == "succeeded: exact, 4 steps of edit-2511, preset edit-4"
    assert words(Event("end", {"state": "cancelled", "images": []})) == "cancelled"


def test_nobody_is_shown_anything_who_did_not_ask() -> None:
    at = console()
    with onlooker(at, shown=False) as hear:
        hear(preview(halves(32, 32)))
    assert written(at) == ""
    assert words(preview(b"")) == ""
