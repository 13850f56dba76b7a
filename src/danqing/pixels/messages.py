"""What goes through the pipes between the server and a decoder process. Bytes only: knows neither Pillow nor asyncio.

    request   formats' length (1), alpha (1), file's length (4), formats joined by commas, file
    answer    outcome (1), original width (4) and height (4), format's length (1), length (4), format, packed raster

All numbers are big-endian. A decoder says `READY` once, when it has confined itself. An answer comes from a process
that untrusted bytes may have taken over: the reader bounds every length and trusts nothing else than the outcome.
"""

from __future__ import annotations

import struct
from collections.abc import Set as AbstractSet

from danqing.core.errors import InputFault, InputOutOfBounds, InputUndecodable
from danqing.core.raster import Size

READY = b"danqing decoder ready\n"
REQUEST = struct.Struct(">BBI")
ANSWER = struct.Struct(">BIIBI")
MAX_PACKED = 4_194_304 * 4 + 64

REFUSALS: tuple[type[InputFault], ...] = (InputUndecodable, InputOutOfBounds)
"""By their outcome in an answer, from 1; outcome 0 is success."""


def ask(size: int, formats: AbstractSet[str], *, alpha: bool) -> bytes:
    """The head of a request for a file of `size` bytes; the file follows."""
    names = ",".join(sorted(formats)).encode("ascii")
    return REQUEST.pack(len(names), alpha, size) + names


def answer(packed: bytes, original: Size, name: str) -> bytes:
    """The head of a success; the packed raster follows."""
    letters = name.encode("ascii")
    return ANSWER.pack(0, original.width, original.height, len(letters), len(packed)) + letters


def refuse(fault: type[InputFault]) -> bytes:
    """The whole answer for a picture that was refused."""
    return ANSWER.pack(REFUSALS.index(fault) + 1, 0, 0, 0, 0)
