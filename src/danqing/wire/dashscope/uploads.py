"""Uploads over HTTP: a permit in JSON, then a form with one file, which answers as the service's object store does: 200
without a body, or a refusal in XML. The permit is all that the form needs; it carries no key.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from danqing.core.errors import BadOrder, BodyTooLarge, BodyTooSlow, ModelMissing, Unavailable, UnknownModel
from danqing.core.uploads import UploadRefused, Why
from danqing.wire import body, door, form, oss
from danqing.wire.dashscope import permits, replies
from danqing.wire.dashscope.encode import Answer
from danqing.wire.dashscope.schema import Failure
from danqing.wire.desk import Desk
from danqing.wire.guard import API
from danqing.wire.openapi import OPEN, answers, parameter, parameters

PATH = f"{API}/uploads"
ACTION = "getPolicy"
SECONDS = 3600.0
"""As long as official clients wait for an upload."""

AROUND = 256 * 1024
"""Bytes that a form may have beside its file."""

REFUSALS: Mapping[Why, tuple[int, str, str]] = {
    Why.UNKNOWN_SIGNER: (
        *(403, "InvalidAccessKeyId"),
        "The OSS Access Key Id you provided does not exist in our records.",
    ),
    Why.FORGED: (
        *(403, "SignatureDoesNotMatch"),
        "The request signature we calculated does not match the signature you provided."
        " Check your key and signing method.",
    ),
    Why.EXPIRED: (403, "AccessDenied", "Invalid according to Policy: Policy expired."),
    Why.OUTSIDE: (
        *(403, "AccessDenied"),
        'Invalid according to Policy: Policy Condition failed: ["starts-with", "$key", "{detail}"]',
    ),
    Why.CONDITION: (
        403,
        "AccessDenied",
        'Invalid according to Policy: Policy Condition failed: ["eq", {detail}]',
    ),
    Why.NAME: (400, "InvalidObjectName", "The specified object is not valid."),
    Why.TOO_LARGE: (400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size."),
    Why.TAKEN: (
        *(409, "FileAlreadyExists"),
        "The object you specified already exists and can not be overwritten.",
    ),
    Why.FULL: (403, "QuotaExceeded", "The uploads of this account take all the room that it has."),
}
"""Status, code and message of every reason; the names are the object store's, `QuotaExceeded` is ours."""

_MALFORMED = "The body of your POST request is not well-formed multipart/form-data."
_NO_FILE = "POST requires exactly one file upload per request."
_SLOW = "Your socket connection to the server was not read from or written to within the timeout period."
_BUSY = "Please reduce your request rate."


class Policy(BaseModel):
    """The permit."""

    model_config = ConfigDict(extra="forbid")

    policy: Annotated[str, Field(description="Base64 of JSON")]
    signature: str
    upload_dir: Annotated[str, Field(description="what the name of every file must begin with, and a slash")]
    upload_host: Annotated[str, Field(description="where to post the form")]
    expire_in_seconds: int
    max_file_size_mb: int
    capacity_limit_mb: int
    oss_access_key_id: str
    x_oss_object_acl: Literal["private"]
    x_oss_forbid_overwrite: Literal["true"]


class Permitted(BaseModel):
    """A permit to send files for one model's orders."""

    model_config = ConfigDict(extra="forbid")

    data: Policy
    request_id: str


_QUERY = parameters(
    parameter("action", "what is wanted", where="query", required=True, enum=[ACTION]),
    parameter("model", "whose orders the files are for", where="query", required=True),
)
_TEXT = {"type": "string"}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        **dict.fromkeys(permits.FIELDS, _TEXT),
                        "file": {"type": "string", "format": "binary", "description": "the last part"},
                    },
                    "required": [*permits.FIELDS, "file"],
                }
            }
        },
    }
}
_XML: dict[str, Any] = {"content": {"application/xml": {"schema": _TEXT}}}


def router(desk: Desk) -> APIRouter:
    """The routes of uploads over a desk."""
    routes = APIRouter(tags=["DashScope uploads"])

    @routes.get(
        PATH,
        openapi_extra=_QUERY,
        responses=answers(Permitted, "the permit", Failure),
    )
    async def permit(request: Request) -> Response:
        """A permit to send files for one model's orders, for five minutes."""
        caller = await door.who(request, desk)
        query = request.query_params
        if query.get("action") != ACTION:
            raise BadOrder(f"The action must be {ACTION}.", field="action")
        model = query.get("model")
        if not model:
            raise ModelMissing
        if desk.intake.model(model) is None:
            raise UnknownModel
        grant = desk.uploads.grant(caller, model)
        name = str(uuid.uuid4()) if request.state.named else request.state.request_id
        where = permits.folder(grant, name, desk.clock.wall())
        host = desk.base(request, prefix=True) + PATH
        data = permits.told(grant, where, host, desk.uploads.terms.permit_seconds, desk.uploads.seal)
        return replies.written(Answer(200, {"data": data, "request_id": request.state.request_id}))

    @routes.post(
        PATH,
        openapi_extra={**_FORM, **OPEN},
        response_class=Response,
        responses={
            200: {"description": "the file is kept", "content": {}},
            "4XX": {**_XML, "description": "the file was refused"},
            "5XX": {**_XML, "description": "the service failed"},
        },
    )
    async def send(request: Request) -> Response:
        """Send a file under a permit. Orders call it `oss://` and its key, for 48 hours."""
        limits = body.Limits(most=desk.uploads.terms.most + AROUND, seconds=SECONDS)
        refused = await _taken(request, desk, limits)
        if refused is None:
            return Response(headers=replies.GATEWAY)
        await body.discard(request, limits)
        return refused

    return routes


async def _taken(request: Request, desk: Desk, limits: body.Limits) -> Response | None:
    """Take the file of a form, or answer why not."""
    try:
        await _take(request, desk, limits)
    except UploadRefused as refused:
        status, code, message = REFUSALS[refused.why]
        return oss.refused(request, status, code, message.replace("{detail}", refused.detail))
    except (form.Malformed, body.BodyCut):
        return oss.refused(request, 400, "MalformedPOSTRequest", _MALFORMED)
    except form.NoFile:
        return oss.refused(request, 400, "IncorrectNumberOfFilesInPOSTRequest", _NO_FILE)
    except permits.FieldMissing as missing:
        text = f"Bucket POST must contain the field '{missing}'."
        return oss.refused(request, 400, "InvalidArgument", text, ArgumentName=str(missing))
    except BodyTooLarge:
        status, code, message = REFUSALS[Why.TOO_LARGE]
        return oss.refused(request, status, code, message)
    except BodyTooSlow:
        return oss.refused(request, 400, "RequestTimeout", _SLOW)
    except Unavailable:
        return oss.refused(request, 503, "ServiceUnavailable", _BUSY)
    return None


async def _take(request: Request, desk: Desk, limits: body.Limits) -> None:
    edge = form.boundary(request.headers.get("content-type"))
    declared = request.headers.get("content-length", "")
    async with aclosing(body.parts(request, limits)) as parts:
        read = form.Form(parts, edge)
        allowed = permits.allowance(await read.fields(), desk.clock.wall(), desk.uploads.verify)
        await desk.uploads.take(allowed, read.file(), int(declared) if declared.isdecimal() else None)
