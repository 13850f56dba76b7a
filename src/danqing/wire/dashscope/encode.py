"""A Job or a Fault to DashScope JSON. Pure. The table below is the only place where a fault gets its foreign name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from danqing.core import errors as e
from danqing.core.job import Job
from danqing.wire.dashscope import shapes


@dataclass(frozen=True, slots=True)
class Row:
    """How one leaf of the fault tree leaves the house. `open` lets a fault's own message out: those were written for
    callers; the others may carry what only the log should see."""

    status: int
    code: str
    message: str
    open: bool = False


_INVALID = "InvalidParameter"
_URL = "The provided URL does not appear to be valid. Ensure it is correctly formatted."
_GENERIC = "Required parameter(xxx) missing or invalid, please check the request parameters."
_WORKSPACE = (
    "Access denied: Either you are not authorized to access this workspace, or the workspace does not exist. Please:"
    "\nVerify the workspace configuration."
    "\nCheck your API endpoint settings. Ensure you are targeting the correct environment."
)
_LATER = "An internal error has occured, please try again later or contact service support."

# Codes and texts of the wire contract, sections 4.3 to 4.5; "occured" is the service's own spelling. Ours are
# BodyTooSlow and SameKeyOtherOrder, which the service does not have.
CODES: Mapping[type[e.Fault], Row] = {
    e.NoKey: Row(401, "InvalidApiKey", "No API-key provided."),
    e.BadKey: Row(401, "InvalidApiKey", "Invalid API-key provided."),
    e.WorkspaceUnknown: Row(401, "NOT AUTHORIZED", _WORKSPACE),
    e.NotPermitted: Row(403, "AccessDenied", "Access denied."),
    e.NotJson: Row(400, _INVALID, "Required body invalid, please check the request body format."),
    e.BodyTooLarge: Row(400, "BadRequest.TooLarge", "Payload Too Large."),
    e.BodyTooSlow: Row(408, "RequestTimeOut", "The request body did not arrive in time."),
    e.NoSuchRoute: Row(404, "NotFound", "Request path not found."),
    e.MethodRefused: Row(400, _INVALID, "Request method is not supported.", open=True),
    e.ModelMissing: Row(400, "BadRequest.EmptyModel", 'Required parameter "model" missing from request.'),
    e.UnknownModel: Row(400, _INVALID, "Model not exist."),
    e.WrongEndpoint: Row(400, _INVALID, "url error, please check url！"),
    e.ModelDenied: Row(403, "Model.AccessDenied", "Model access denied."),
    e.SyncRefused: Row(403, "AccessDenied", "current user api does not support synchronous calls"),
    e.AsyncRefused: Row(403, "AccessDenied", "current user api does not support asynchronous calls"),
    e.BadOrder: Row(400, _INVALID, _GENERIC, open=True),
    e.InputMissing: Row(400, "BadRequest.EmptyInput", "Required input parameter missing from request."),
    e.InputNotObject: Row(400, "BadRequest.IllegalInput", "The input parameter requires json format."),
    e.SameKeyOtherOrder: Row(422, _INVALID, "The Idempotency-Key was used before with another request."),
    e.NotWaiting: Row(
        400,
        "UnsupportedOperation",
        "Failed to cancel the task, please confirm if the task is in PENDING status.",
    ),
    e.PromptRefused: Row(400, "DataInspectionFailed", "Input data may contain inappropriate content."),
    e.OutputRefused: Row(400, "DataInspectionFailed", "Output data may contain inappropriate content."),
    e.InputMalformed: Row(400, _INVALID, "image format error", open=True),
    e.InputTooLarge: Row(400, _INVALID, "Multimodal file size is too large", open=True),
    e.InputUnreachable: Row(400, _INVALID, "download image failed"),
    e.InputForbidden: Row(400, _INVALID, _URL),
    e.InputUndecodable: Row(400, _INVALID, "Invalid image format or corrupted file"),
    e.InputOutOfBounds: Row(400, _INVALID, "the size of input image is too small or too large."),
    e.InputRefused: Row(400, "DataInspectionFailed", "Input data may contain inappropriate content."),
    e.MaskMismatch: Row(400, _INVALID, "mask_image_url must have the same size as base_image_url."),
    e.MaskEmpty: Row(400, _INVALID, "mask_image_url selects nothing: what is to change must be white."),
    e.BoxOutside: Row(400, _INVALID, "A box of bbox_list lies outside its image."),
    e.QuotaExhausted: Row(
        429, "Throttling.AllocationQuota", "Allocated quota exceeded, please increase your quota limit."
    ),
    e.RateExceeded: Row(429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    e.QueueFull: Row(429, "Throttling", "Too many requests in route. Please try again later."),
    e.EngineFailed: Row(
        500, "InternalError.Algo", "An internal error has occured during algorithm execution."
    ),
    e.OutOfTime: Row(500, "RequestTimeOut", "Request timed out, please try again later."),
    e.Unchecked: Row(503, "ModelUnavailable", "Model is unavailable, please try again later."),
    e.Unavailable: Row(503, "ModelUnavailable", "Model is unavailable, please try again later."),
    e.Internal: Row(500, "InternalError", _LATER),
}

WAN: Mapping[type[e.Fault], Row] = {
    e.InputUnreachable: Row(
        *(400, "InvalidURL"),
        "The request URL is invalid, please make sure the url is correct and is an image.",
    ),
    e.InputForbidden: Row(400, "InvalidURL", "Invalid URL provided in your request."),
}
"""What the Wan families say otherwise."""

FINAL = frozenset({e.QuotaExhausted, e.EngineFailed, e.OutOfTime})
"""Faults that the same request would meet again, or whose repetition would cost a generation: the v2 client of the
Python SDK retries 408, 409, 429 and 5xx unless told not to (wire contract section 8.3)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a JSON body, and headers beyond those of every answer."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def fault(problem: e.Fault, request_id: str, family: str = "") -> Answer:
    """The error answer of a fault, as the model's family tells it; an empty one before the model is known."""
    kind = type(problem)
    row = WAN[kind] if family in shapes.WAN and kind in WAN else CODES[kind]
    message = problem.message if row.open and problem.explicit else row.message
    return Answer(
        row.status, {"code": row.code, "message": message, "request_id": request_id}, _retry(problem, row)
    )


def _retry(problem: e.Fault, row: Row) -> dict[str, str]:
    if type(problem) in FINAL:
        return {"x-should-retry": "false"}
    if row.status in (429, 503):
        return {"Retry-After": str(max(1, math.ceil(problem.after or 1.0)))}
    return {}


def success(job: Job, family: str, links: Sequence[str], request_id: str) -> Answer:
    """The answer to a synchronous call: `links` are those of the job's pictures, in order; `family` is the model's."""
    output = {"choices": shapes.choices(job, family, links), **shapes.extras(job, family)}
    return Answer(200, {"output": output, "usage": shapes.usage(job, family), "request_id": request_id})
