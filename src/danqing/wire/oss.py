"""Refusals in XML, as the hosted service's object store writes them: of result links and of uploads."""

from __future__ import annotations

from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response


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
