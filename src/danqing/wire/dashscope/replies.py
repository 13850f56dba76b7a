"""Answers as HTTP: in JSON, or in frames of an event stream where the request asked for one. Knows no route.

The frames are the service's own, byte for byte: no space after a colon, the status in a comment, one line of data,
nothing to mark the end. What is refused before the stream began has its true status besides.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

from danqing.core.errors import Fault
from danqing.wire.dashscope import encode
from danqing.wire.dashscope.encode import Answer
from danqing.wire.stream import EVENTS

JSON = "application/json"
TASK_JSON = "application/json;charset=UTF-8"
"""As the service's task paths spell it."""

GATEWAY = {"x-dashscope-call-gateway": "true"}
GENERATION = {**GATEWAY, "x-dashscope-timeout": "298", "x-dashscope-finished": "true"}


def wants_frames(headers: Headers) -> bool:
    """Whether the request asks for an event stream; an Accept header alone does not."""
    return headers.get("x-dashscope-sse", "").strip().lower() == "enable"


def written(answer: Answer, headers: Mapping[str, str] = GATEWAY, *, kind: str = JSON) -> Response:
    """The answer in JSON, under headers beside its own."""
    return Response(
        orjson.dumps(answer.body), answer.status, headers={**headers, **answer.headers}, media_type=kind
    )


def refused(problem: Fault, request_id: str, *, frames: bool = False, family: str = "") -> Response:
    """The answer to a fault, in a frame for a request that asked for them; `family` is that of its model."""
    answer = encode.fault(problem, request_id, family)
    if not frames:
        return written(answer)
    return Response(frame(1, answer), answer.status, headers={**GATEWAY, **answer.headers}, media_type=EVENTS)


def frame(number: int, answer: Answer) -> bytes:
    """One event of a stream, numbered from 1."""
    event = "result" if answer.status == 200 else "error"
    head = f"id:{number}\nevent:{event}\n:HTTP_STATUS/{answer.status}\ndata:"
    return head.encode() + orjson.dumps(answer.body) + b"\n\n"
