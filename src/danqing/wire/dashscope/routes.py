"""DashScope over HTTP: which path answers how. What the calls share is in `calls`; the bodies are written by `encode`,
`tasks` and `shapes`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from danqing.core.errors import Fault
from danqing.core.job import Job
from danqing.wire import body
from danqing.wire.dashscope import (
    calls,
    decode,
    encode,
    replies,
    shapes,
    stories,
    task_routes,
    tasks,
    tokens,
    uploads,
)
from danqing.wire.dashscope.schema import Failure, Generation, Success
from danqing.wire.dashscope.task_schema import Submitted, Synthesis
from danqing.wire.desk import Desk
from danqing.wire.guard import API
from danqing.wire.openapi import answers, json_body, parameter, parameters
from danqing.wire.stream import Stream

SUBMITS = (
    ("/image-generation/generation", decode.IMAGES, Generation),
    ("/text2image/image-synthesis", decode.TEXT_TO_IMAGE, Synthesis),
    ("/image2image/image-synthesis", decode.IMAGE_TO_IMAGE, Synthesis),
)
"""The routes that answer with a task: path, the catalogue's key, body."""

WORKSPACE = parameter("X-DashScope-WorkSpace", "the workspace that the call is made for")
RESOLVE = parameter(
    "X-DashScope-OssResourceResolve", "`enable` where an input is a file sent ahead, called `oss://…`"
)
ONCE = parameter("Idempotency-Key", "the same key and body get the same answer again", maxLength=255)
STREAM = parameter("X-DashScope-SSE", "`enable` for an answer as an event stream")
TASK = parameter(
    "X-DashScope-Async", "this path answers with a task and not otherwise", required=True, enum=["enable"]
)


def router(desk: Desk) -> APIRouter:
    """The routes of this dialect over a desk."""
    routes = APIRouter()
    routes.include_router(_services(desk))
    routes.include_router(task_routes.router(desk))
    routes.include_router(tokens.router(desk))
    routes.include_router(uploads.router(desk))
    return routes


def _services(desk: Desk) -> APIRouter:
    routes = APIRouter(prefix=f"{API}/services/aigc", tags=["DashScope"])
    limits = calls.limits(desk, decode.SYNC)

    @routes.post(
        "/multimodal-generation/generation",
        openapi_extra={
            **json_body(Generation, desk.intake.names(decode.SYNC)),
            **parameters(STREAM, RESOLVE, WORKSPACE, ONCE),
        },
        responses=answers(Success, "links to the pictures", Failure, frames=True),
    )
    async def generate(request: Request) -> Response:
        """Make pictures, or edit the given ones, and answer when they are ready."""
        if replies.wants_frames(request.headers):
            return await _streamed(request, desk, limits)
        job, model = await calls.made(request, desk, decode.SYNC, limits)
        answer = _success(request, desk, job, model.family)
        return replies.written(answer, {**replies.GENERATION, **desk.timing(job)})

    for path, route, shape in SUBMITS:
        _submit(routes, desk, path, route, shape)
    return routes


def _submit(routes: APIRouter, desk: Desk, path: str, route: str, shape: Any) -> None:
    limits = calls.limits(desk, route)

    @routes.post(
        path,
        name=route,
        openapi_extra={
            **json_body(shape, desk.intake.names(route)),
            **parameters(TASK, RESOLVE, WORKSPACE, ONCE),
        },
        responses=answers(Submitted, "the task's id", Failure, frames=True),
    )
    async def submit(request: Request) -> Response:
        """Ask for pictures and come back for them: the answer names a task. Wants `X-DashScope-Async: enable`."""
        job = await calls.accepted(request, desk, route, limits)
        return replies.written(tasks.submitted(job, request.state.request_id))


async def _streamed(request: Request, desk: Desk, limits: body.Limits) -> Response:
    """What is wrong with the request is refused; what happens from here on is told in the stream."""
    asked = await calls.ask(request, desk, decode.SYNC, limits)
    job = await calls.begun(request, desk, asked)
    if shapes.tells(job):
        return Stream(stories.frames(request, desk, asked, job), replies.GENERATION)

    async def frames() -> AsyncGenerator[bytes]:
        try:
            made = await calls.delivered(request, desk, asked.caller, job, began=asked.ticket.began)
            answer = _success(request, desk, made, asked.model.family)
        except Fault as problem:
            answer = encode.fault(problem, request.state.request_id, asked.model.family)
        yield replies.frame(1, answer)

    return Stream(frames(), replies.GENERATION)


def _success(request: Request, desk: Desk, job: Job, family: str) -> encode.Answer:
    return encode.success(job, family, desk.links(request, job), request.state.request_id)


def refuse(problem: Fault, request_id: str) -> Response:
    """The answer to a fault, in JSON."""
    return replies.refused(problem, request_id)
