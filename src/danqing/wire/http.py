"""The HTTP application: every dialect's routes, and an answer in JSON for everything that can go wrong."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import danqing
from danqing.core.errors import BadOrder, Fault, Internal, MethodRefused, NoSuchRoute
from danqing.wire.dashscope import compatible, replies
from danqing.wire.dashscope import routes as dashscope
from danqing.wire.desk import Desk
from danqing.wire.guard import COMPATIBLE, Guard
from danqing.wire.native import jobs
from danqing.wire.native import routes as native
from danqing.wire.openapi import KEY, SECURITY

TITLE = "Danqing"


def build(desk: Desk) -> FastAPI:
    """The application over a desk. It holds no state but the count of requests in progress."""
    app = FastAPI(
        title=TITLE, version=danqing.__version__, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.include_router(dashscope.router(desk))
    app.include_router(compatible.router(desk))
    app.include_router(native.router(desk))
    app.include_router(jobs.router(desk))
    app.add_exception_handler(Fault, _on_fault)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.openapi = lambda: _page(app)  # type: ignore[method-assign]
    app.add_middleware(Guard, answer=_refused, observe=desk.meter.observe, crowd=desk.crowd)
    return app


def _page(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI page, with how a key is sent, which FastAPI does not know as it does not look for it."""
    if app.openapi_schema is None:
        page = FastAPI.openapi(app)
        page["components"]["securitySchemes"] = SECURITY
        page["security"] = [{KEY: []}]
    assert app.openapi_schema is not None
    return app.openapi_schema


async def _on_fault(request: Request, problem: Exception) -> Response:
    fault = problem if isinstance(problem, Fault) else Internal()
    frames = replies.wants_frames(request.headers)
    family = getattr(request.state, "family", "")
    return _refused(fault, request.state.request_id, request.scope["path"], frames=frames, family=family)


async def _on_http(request: Request, problem: Exception) -> Response:
    """What the router itself says: no such path, or a method that the path does not answer."""
    status = problem.status_code if isinstance(problem, HTTPException) else 500
    text = f"Request method '{request.method[:16]}' is not supported."
    fault = {404: NoSuchRoute(), 405: MethodRefused(text)}.get(status, Internal())
    return _refused(fault, request.state.request_id, request.scope["path"])


async def _on_invalid(request: Request, _: Exception) -> Response:
    return _refused(BadOrder(), request.state.request_id, request.scope["path"])


def _refused(fault: Fault, request_id: str, path: str, *, frames: bool = False, family: str = "") -> Response:
    """A fault in the words of the dialect whose path it is, and of the model's family."""
    if path.startswith(COMPATIBLE):
        return compatible.refuse(fault, request_id)
    return replies.refused(fault, request_id, frames=frames, family=family)
