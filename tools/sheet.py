"""Draws a contact sheet: for each row the inputs, the instruction, the outputs. Knows no server and no judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

THUMB = 220
GAP = 16
TEXT_WIDTH = 300
MARGIN = 20
CHINESE = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/STHeiti Medium.ttc",
)
"""Where systems keep a font with Chinese letters; without one a row shows its `plain` text instead."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Row:
    """One request: what was asked (and in Latin letters alone), with which pictures, what came, and a note below."""

    text: str
    plain: str
    inputs: Sequence[Image.Image]
    outputs: Sequence[Image.Image]
    note: str


def draw_sheet(rows: Sequence[Row]) -> Image.Image:
    """All rows below each other; thumbnails keep their aspect."""
    most_in = max(len(row.inputs) for row in rows)
    most_out = max(len(row.outputs) for row in rows)
    width = 2 * MARGIN + (most_in + most_out) * (THUMB + GAP) + TEXT_WIDTH
    sheet = Image.new("RGB", (width, 2 * MARGIN + len(rows) * (THUMB + 2 * GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = MARGIN + number * (THUMB + 2 * GAP)
        left = MARGIN + (most_in - len(row.inputs)) * (THUMB + GAP)
        for picture in row.inputs:
            _paste(sheet, picture, left, top)
            left += THUMB + GAP
        _write(pen, row, left, top)
        left += TEXT_WIDTH
        for picture in row.outputs:
            _paste(sheet, picture, left, top)
            left += THUMB + GAP
    return sheet


def _paste(sheet: Image.Image, picture: Image.Image, left: int, top: int) -> None:
    small = picture.copy()
    small.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    at = (left + (THUMB - small.width) // 2, top + (THUMB - small.height) // 2)
    sheet.paste(small, at)
    frame = (at[0] - 1, at[1] - 1, at[0] + small.width, at[1] + small.height)
    ImageDraw.Draw(sheet).rectangle(frame, outline="#c8c8c8")


def _write(pen: ImageDraw.ImageDraw, row: Row, left: int, top: int) -> None:
    said = row.text if row.text.isascii() or _chinese() else row.plain
    text = _wrapped(pen, said, _font(18), TEXT_WIDTH - 2 * GAP)
    pen.multiline_text((left, top + 40), text, font=_font(18), fill="black", spacing=6)
    note = _wrapped(pen, row.note, _font(12), TEXT_WIDTH - 2 * GAP)
    pen.multiline_text((left, top + THUMB - 50), note, font=_font(12), fill="#707070", spacing=3)
    _arrow(pen, left + TEXT_WIDTH - 2 * GAP - 6, top + 26)


def _arrow(pen: ImageDraw.ImageDraw, left: int, middle: int) -> None:
    """Drawn, as not every font has one."""
    tip = left + 18
    pen.line((left, middle, tip, middle), fill="#707070", width=2)
    for end in (middle - 5, middle + 5):
        pen.line((tip - 5, end, tip, middle), fill="#707070", width=2)


def _wrapped(pen: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """Broken at spaces, or anywhere in Chinese, so that no line is wider than `width` pixels."""
    pieces = text.split(" ") if " " in text else list(text)
    glue = " " if " " in text else ""
    lines = [""]
    for piece in pieces:
        tried = lines[-1] + (glue if lines[-1] else "") + piece
        if pen.textlength(tried, font=font) <= width or not lines[-1]:
            lines[-1] = tried
        else:
            lines.append(piece)
    return "\n".join(lines)


def _chinese() -> str | None:
    return next((path for path in CHINESE if Path(path).is_file()), None)


def _font(size: int) -> Font:
    found = _chinese()
    return ImageFont.truetype(found, size) if found else ImageFont.load_default(size)
