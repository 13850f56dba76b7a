"""A form with one file at its end (`multipart/form-data`), read as it comes: the fields in memory under limits, the
file never. Knows no field by name but the file's, and no HTTP.

    form = Form(parts, boundary(content_type))
    fields = await form.fields()
    async for piece in form.file(): …
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

FILE = "file"
MOST_FIELDS = 64
MOST_HEAD = 8 * 1024
MOST_VALUE = 16 * 1024
"""Bytes of one part's head, and of one field. The longest field in use is a policy of about 1 KiB."""

_BOUNDARY = re.compile(
    r"""multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s";]{1,70}))\s*(?:;|$)""",
    re.IGNORECASE,
)
_NAME = re.compile(
    rb"""content-disposition:[^\r\n]*?;\s*name=(?:"((?:[^"\\\r\n]|\\.)*)"|([^\s;"]+))""", re.IGNORECASE
)


class Malformed(Exception):
    """It is not a form that this reader takes."""


class NoFile(Exception):
    """The form ends without a file, or a second one follows the first."""


def boundary(content_type: str | None) -> bytes:
    """The boundary that a Content-Type names. Raises Malformed."""
    match = _BOUNDARY.match((content_type or "").strip())
    if match is None:
        raise Malformed
    return (match[1] or match[2]).encode("latin-1", "replace")


class Form:
    """One form. First `fields`, then `file`, each once."""

    def __init__(self, parts: AsyncIterator[bytes], boundary: bytes) -> None:
        """`parts` is the body, cut anywhere."""
        self._parts = parts
        self._end = b"\r\n--" + boundary
        self._held = bytearray(
            b"\r\n"
        )  # the first boundary stands at a line's beginning without a line before it

    async def fields(self) -> dict[str, str]:
        """The fields before the file. Raises Malformed, also for a name that comes twice, and NoFile."""
        found: dict[str, str] = {}
        await self._until(self._end, MOST_HEAD)
        while (name := await self._next()) is not None:
            if name == FILE:
                return found
            if name in found or len(found) >= MOST_FIELDS:
                raise Malformed
            found[name] = _text(await self._until(self._end, MOST_VALUE))
        raise NoFile

    async def file(self) -> AsyncIterator[bytes]:
        """The bytes of the file; what follows it is read and dropped. Raises Malformed if the form breaks off,
        and NoFile for a second file right behind it."""
        keep = len(self._end) - 1
        while (at := self._held.find(self._end)) < 0:
            if len(self._held) > keep:
                yield bytes(self._held[:-keep])
                del self._held[:-keep]
            await self._more()
        yield bytes(self._held[:at])
        del self._held[: at + len(self._end)]
        if await self._next() == FILE:
            raise NoFile
        async for _ in self._parts:
            pass

    async def _next(self) -> str | None:
        """What follows a boundary: the name of another part, or None at the end."""
        while len(self._held) < 2:
            await self._more()
        mark = bytes(self._held[:2])
        del self._held[:2]
        if mark not in (b"\r\n", b"--"):
            raise Malformed
        return _name(await self._until(b"\r\n\r\n", MOST_HEAD)) if mark == b"\r\n" else None

    async def _until(self, mark: bytes, most: int) -> bytes:
        """What stands before the mark, which is dropped."""
        seen = 0
        while (at := self._held.find(mark, max(0, seen - len(mark)))) < 0:
            seen = len(self._held)
            if seen > most + len(mark):
                raise Malformed
            await self._more()
        if at > most:
            raise Malformed
        found = bytes(self._held[:at])
        del self._held[: at + len(mark)]
        return found

    async def _more(self) -> None:
        async for part in self._parts:
            self._held += part
            return
        raise Malformed


def _name(head: bytes) -> str:
    match = _NAME.search(head)
    if match is None:
        raise Malformed
    return _text(match[1] if match[1] is not None else match[2])


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed from None
