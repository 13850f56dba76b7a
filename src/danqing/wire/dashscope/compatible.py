"""The OpenAI-compatible mode of DashScope: `POST …/compatible-mode/v1/images/generations`, with its own errors and its
own answer. Its body is read by `decode`; which models it serves is the catalogue's.

A link comes back whatever `response_format` asks, as from the service; there are no edits, masks or streams here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from danqing.core import errors as e
from danqing.core.job import Job
from danqing.wire.dashscope import calls, decode, encode, replies, shapes
from danqing.wire.dashscope.schema import Reference, TieredUsage
from danqing.wire.desk import Desk
from danqing.wire.guard import COMPATIBLE
from danqing.wire.openapi import answers, json_body, parameter, parameters

CODES: Mapping[type[e.Fault], tuple[int, str, str]] = {
    e.UnknownModel: (
        *(404, "model_not_found"),
        "The model {model} does not exist or you do not have access to it.",
    ),
    e.WrongEndpoint: (
        *(404, "model_not_supported"),
        "Unsupported model {model} for OpenAI compatibility mode.",
    ),
    e.PromptRefused: (
        *(400, "data_inspection_failed"),
        "Input data may contain inappropriate content.",
    ),
    e.InputRefused: (
        *(400, "data_inspection_failed"),
        "Input data may contain inappropriate content.",
    ),
    e.OutputRefused: (
        *(400, "data_inspection_failed"),
        "Output data may contain inappropriate content.",
    ),
    e.NoKey: (401, "invalid_api_key", "No API-key provided."),
    e.BadKey: (401, "invalid_api_key", "Invalid API-key provided."),
    e.QuotaExhausted: (429, "insufficient_quota", "Free allocated quota exceeded."),
}
"""Status, code and message of the faults that this mode names differently from the native paths."""


class Body(BaseModel):
    """A call for pictures. Unknown members are ignored."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(examples=["qwen-image-3.0"])]
    prompt: Annotated[str, Field(min_length=1)]
    image: Annotated[
        Reference | list[Reference] | None, Field(description="pictures to edit, as URL or data URI")
    ] = None
    n: int | None = None
    size: Annotated[
        str | None, Field(pattern=r"^(\d+x\d+|auto)$", description="`<width>x<height>` or `auto`")
    ] = None
    seed: Annotated[int | None, Field(ge=0, le=2_147_483_647)] = None
    negative_prompt: str | None = None
    watermark: bool | None = None
    prompt_extend: bool | None = None
    prompt_extend_mode: Literal["direct", "agent"] | None = None
    enable_thinking: bool | None = None
    response_format: Annotated[str | None, Field(description="ignored: a link always comes back")] = None


class Link(BaseModel):
    """One finished picture: a link that works for 24 hours."""

    model_config = ConfigDict(extra="forbid")

    url: str


class Made(BaseModel):
    """The pictures."""

    model_config = ConfigDict(extra="forbid")

    created: int
    data: list[Link]
    usage: TieredUsage


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="forbid")

    message: str
    type: str
    param: None
    code: str


class Failure(BaseModel):
    """Every answer that is not 200."""

    model_config = ConfigDict(extra="forbid")

    error: Problem


def router(desk: Desk) -> APIRouter:
    """The one route of this mode over a desk."""
    routes = APIRouter(prefix=COMPATIBLE, tags=["DashScope, OpenAI-compatible mode"])
    limits = calls.limits(desk, decode.COMPATIBLE)

    @routes.post(
        "/images/generations",
        openapi_extra={
            **json_body(Body, desk.intake.names(decode.COMPATIBLE)),
            **parameters(
                parameter("X-DashScope-WorkSpace", "the workspace that the call is made for"),
                parameter(
                    "Idempotency-Key", "the same key and body get the same answer again", maxLength=255
                ),
            ),
        },
        responses=answers(Made, "links to the pictures", Failure),
    )
    async def generate(request: Request) -> Response:
        """Make pictures, or edit the given ones, and answer when they are ready."""
        try:
            job, model = await calls.made(request, desk, decode.COMPATIBLE, limits)
        except e.ModelFault as problem:
            return replies.written(fault(problem, request.state.request_id, request.state.model))
        return replies.written(success(job, model.family, desk.links(request, job)))

    return routes


def refuse(problem: e.Fault, request_id: str) -> Response:
    """The answer to a fault; the request's id is in its header alone."""
    return replies.written(fault(problem, request_id))


def success(job: Job, family: str, links: Sequence[str]) -> encode.Answer:
    """The answer to a call: `links` are those of the job's pictures, in order."""
    data = [{"url": link} for link in links]
    created = int(job.finished if job.finished is not None else job.created)
    return encode.Answer(200, {"created": created, "data": data, "usage": shapes.usage(job, family)})


def fault(problem: e.Fault, request_id: str, model: str = "") -> encode.Answer:
    """The error answer of a fault; `model` is the name that was asked for."""
    native = encode.fault(problem, request_id)
    usual = native.status, native.body["code"], native.body["message"]
    status, code, message = CODES.get(type(problem), usual)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message.replace("{model}", model), "type": kind, "param": None, "code": code}
    return encode.Answer(status, {"error": error}, native.headers)
