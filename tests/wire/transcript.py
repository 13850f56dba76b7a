"""Reads transcripts and compares answers with them. Knows no protocol; `house` runs the service.

A file holds exchanges. One exchange:

    === what it shows                              a title; numbers refer to the contract's conformance cases
    % patience 0.2                                 what the house does first (`house.DEEDS`); optional, repeatable
    POST /path                                     the request, then its headers, an empty line, its body
    Authorization: Bearer <key>

    {"image": "<png 64x64 red>"}
    --- 200                                        the answer: a status, headers that must be there, an empty line,
    Content-Type: application/json                 and the body, compared as JSON where it is JSON

    {"request_id": "<id>"}

`Authorization: Bearer <key>` and `Content-Type: application/json` are sent unless the exchange names the header itself;
with nothing after the colon it is not sent. A request's marks are made by the house (`house.MARKS`). An answer's marks
are the patterns below, and `"<number>"` for any whole number; a body that is one of `<png …>` is decoded and compared
by size and colour.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
PATTERNS = {
    "<id>": UUID,
    "<link>": r"http://testserver/results/[0-9a-f]{2}/[0-9a-f]{2}/\d{8}/[0-9a-f]{32}/[0-9a-f-]+-\d+\.png"
    r"\?Expires=\d+&OSSAccessKeyId=[^&]+&Signature=[^&]+",
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "<china>": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}",
    "<blank>": r"\n\n",
    "<any>": r".*",
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and the answer it must get."""

    title: str
    deeds: tuple[str, ...]
    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    wanted_headers: dict[str, str]
    wanted_body: str | None
    line: int = field(compare=False, default=0)


def read(path: Path) -> list[Exchange]:
    """The exchanges of a file, in order."""
    exchanges = []
    lines: list[str] = []
    start = 0
    for number, line in enumerate([*path.read_text("utf-8").splitlines(), "=== end"], 1):
        if line.startswith("=== "):
            if start:
                exchanges.append(_exchange(lines, start))
            lines, start = [], number
        if start:
            lines.append(line)
    return exchanges


def _exchange(lines: list[str], start: int) -> Exchange:
    title, rest = lines[0].removeprefix("=== "), lines[1:]
    deeds = [line.removeprefix("% ") for line in rest if line.startswith("% ")]
    rest = [line for line in rest if not line.startswith("% ")]
    cut = next(index for index, line in enumerate(rest) if line.startswith("--- "))
    method, path = rest[0].split(" ", 1)
    headers, body = _parts(rest[1:cut])
    wanted_headers, wanted = _parts(rest[cut + 1 :])
    status = int(rest[cut].split()[1])
    return Exchange(
        title, tuple(deeds), method, path, headers, body, status, wanted_headers, wanted or None, start
    )


def _parts(lines: list[str]) -> tuple[dict[str, str], str]:
    """Headers and body; lines without a colon form, or after an empty line, are the body."""
    headers: dict[str, str] = {}
    for index, line in enumerate(lines):
        match = re.fullmatch(r"([A-Za-z-]+): ?(.*)", line)
        if match is None:
            return headers, "\n".join(lines[index:]).strip()
        headers[match[1]] = match[2]
    return headers, ""


def differences(wanted: Any, seen: Any, where: str = "body") -> Iterator[str]:
    """Where an answer differs from the transcript, member by member."""
    match wanted, seen:
        case ("<any>", _) | ("<ms>", int()):  # a number of milliseconds
            return
        case "<number>", int() if not isinstance(seen, bool):
            return
        case dict(), dict():
            yield from (f"{where}.{name}: missing" for name in sorted(wanted.keys() - seen.keys()))
            yield from (
                f"{where}.{name}: not in the transcript" for name in sorted(seen.keys() - wanted.keys())
            )
            for name in wanted.keys() & seen.keys():
                yield from differences(wanted[name], seen[name], f"{where}.{name}")
        case list(), list() if len(wanted) == len(seen):
            for index, (one, other) in enumerate(zip(wanted, seen, strict=True)):
                yield from differences(one, other, f"{where}[{index}]")
        case str(), str() if matches(wanted, seen):
            return
        case _ if wanted != seen or type(wanted) is not type(seen):
            yield f"{where}: {seen!r} is not {wanted!r}"


def matches(wanted: str, seen: str) -> bool:
    """Whether a text is the wanted one, its marks standing for patterns."""
    parts = re.split("(" + "|".join(map(re.escape, PATTERNS)) + ")", wanted)
    pattern = "".join(PATTERNS.get(part) or re.escape(part) for part in parts)
    return re.fullmatch(pattern, seen, re.DOTALL) is not None


def compare(wanted: str, seen: str) -> list[str]:
    """The differences of two bodies of text."""
    try:
        document = json.loads(wanted)
    except ValueError:
        return [] if matches(wanted, seen) else [f"body: {seen!r} is not {wanted!r}"]
    try:
        return list(differences(document, json.loads(seen)))
    except ValueError:
        return [f"body: not JSON: {seen!r}"]
