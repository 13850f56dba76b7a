"""What the hosted service's object store says over HTTP: refusals in XML, of result links and of uploads, and parts of
objects. Knows no object."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class BeyondEnd(Exception):
    """The asked part begins behind the end of the object, or is empty."""


def part(request: Request, size: int) -> slice | None:
    """Which bytes of an object of `size` bytes are asked for; None for all: where no Range is given, or none that this
    server reads (RFC 9110, 14.2: several at once, other units), or only if the object is another (`If-Range`: objects
    have no validator here). Raises BeyondEnd."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or not any(match.groups()) or "if-range" in request.headers:
        return None
    first, last = match.groups()
    begin = int(first) if first else max(0, size - int(last))
    if first and last and int(last) < begin:
        return None
    if begin >= size:
        raise BeyondEnd
    return slice(begin, min(int(last) + 1, size) if first and last else size)


def refused(request: Request, status: int, code: str, message: str, **more: str) -> Response:
    """The answer to a request for an object; `more` are further members."""
    members = {"Code": code, "Message": message, "RequestId": request.state.request_id}
    members |= {"HostId": request.headers.get("host", ""), **more}
    inner = "".join(f"<{name}>{escape(_plain(value))}</{name}>" for name, value in members.items())
    data = f'<?xml version="1.0" encoding="UTF-8"?><Error>{inner}</Error>'.encode()
    headers = {"X-Content-Type-Options": "nosniff", "Content-Length": str(len(data))}
    content = b"" if request.method == "HEAD" else data
    return Response(content, status, headers=headers, media_type="application/xml")


def _plain(text: str) -> str:
    """Without the characters that XML has no spelling for."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
