"""A small JPEG file as cells of a terminal: each is two pixels, one above the other. Knows no terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

MOST = 4096 * 4096
"""Pixels of a file that are looked at, at the most."""
Colour = tuple[int, int, int]
Cell = tuple[Colour, Colour]


def cells(file: bytes, columns: int, rows: int) -> Sequence[Sequence[Cell]]:
    """The picture, as large as fits into so many columns and rows of cells, row by row: the upper and the lower colour
    of each. Raises ValueError for what is no such file."""
    try:
        opened = Image.open(io.BytesIO(file), formats=["JPEG"])
        if opened.width * opened.height > MOST:
            raise ValueError("the picture is too large for a terminal")
        image = opened.convert("RGB")
    except OSError as fault:
        raise ValueError(f"no picture: {fault}") from fault
    scale = min(columns / image.width, 2 * rows / image.height)
    across, down = max(1, int(image.width * scale)), max(1, int(image.height * scale / 2))
    data = image.resize((across, 2 * down), Image.Resampling.BICUBIC).tobytes()

    def at(x: int, y: int) -> Colour:
        first = 3 * (y * across + x)
        return data[first], data[first + 1], data[first + 2]

    return [[(at(x, 2 * y), at(x, 2 * y + 1)) for x in range(across)] for y in range(down)]
