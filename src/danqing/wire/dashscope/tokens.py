"""Temporary keys over HTTP. The answer has no `request_id`: the service gives none here."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from danqing.core.errors import BadOrder
from danqing.wire import body, door
from danqing.wire.dashscope import replies
from danqing.wire.dashscope.encode import Answer
from danqing.wire.dashscope.schema import Failure
from danqing.wire.desk import Desk
from danqing.wire.guard import API
from danqing.wire.openapi import ANY_BODY, answers, parameter, parameters

FIELD = "expire_in_seconds"
DEFAULT, LEAST, MOST = 60, 1, 1800

_LIFE = parameter(
    FIELD, "the key's life", where="query", type="integer", minimum=LEAST, maximum=MOST, default=DEFAULT
)


class Token(BaseModel):
    """A key that ends by itself."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(pattern="^st-")]
    expires_at: Annotated[int, Field(description="Unix seconds")]


def router(desk: Desk) -> APIRouter:
    """The route of temporary keys over a desk."""
    routes = APIRouter(prefix=f"{API}/tokens", tags=["DashScope keys"])

    @routes.post(
        "",
        openapi_extra={**parameters(_LIFE), **ANY_BODY},
        responses=answers(Token, "the key and its end", Failure),
    )
    async def lend(request: Request) -> Response:
        """A temporary key with the rights of the key that asks; it cannot be revoked but with that one."""
        await body.discard(request, body.IGNORED)
        caller = await door.who(request, desk)
        token = desk.intake.lend(caller, seconds(request.query_params.get(FIELD)))
        return replies.written(Answer(200, {"token": token.secret, "expires_at": token.expires}))

    return routes


def seconds(given: str | None) -> int:
    """The life that a request asks for. Raises BadOrder."""
    if given is None or given == "":
        return DEFAULT
    if given.isascii() and given.isdecimal() and len(given) <= 9 and LEAST <= int(given) <= MOST:
        return int(given)
    raise BadOrder(f"Range of {FIELD} should be [{LEAST}, {MOST}]", field=FIELD)
