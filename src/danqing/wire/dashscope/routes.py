"""DashScope over HTTP: which path answers how. What the calls share is in `calls`; the bodies are written by `encode`."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from danqing.core.errors import Fault
from danqing.wire.dashscope import calls, decode, encode
from danqing.wire.dashscope.schema import Failure, Generation, Success
from danqing.wire.desk import Desk
from danqing.wire.guard import API
from danqing.wire.openapi import json_body


def router(desk: Desk) -> APIRouter:
    """The routes of this dialect over a desk."""
    routes = APIRouter(prefix=f"{API}/services/aigc", tags=["DashScope"])
    limits = calls.limits(desk, decode.SYNC)

    @routes.post(
        "/multimodal-generation/generation", openapi_extra=json_body(Generation), responses=_responses()
    )
    async def generate(request: Request) -> Response:
        """Make pictures, or edit the given ones, and answer when they are ready."""
        job, model = await calls.made(request, desk, decode.SYNC, limits)
        answer = encode.success(job, model.family, desk.links(request, job), request.state.request_id)
        return _written(answer, **desk.timing(job))

    return routes


def refuse(problem: Fault, request_id: str) -> Response:
    """The answer to a fault."""
    return _written(encode.fault(problem, request_id))


def _written(answer: encode.Answer, **headers: str) -> Response:
    data = orjson.dumps(answer.body)
    headers = {**answer.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Response(data, answer.status, headers=headers, media_type="application/json")


def _responses() -> dict[int | str, dict[str, Any]]:
    return {
        200: {"model": Success, "description": "links to the pictures"},
        "4XX": {"model": Failure, "description": "the request was refused"},
        "5XX": {"model": Failure, "description": "the service failed; nothing is charged"},
    }
