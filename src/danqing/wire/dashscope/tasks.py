"""A job as a task, which is one whose caller comes back for it: what its query, list and cancel say. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from danqing.core.errors import BadOrder, Fault, Internal
from danqing.core.job import Job, Page, Search, State
from danqing.core.models import Model
from danqing.intake.keys import REGION
from danqing.wire.dashscope import decode, encode, shapes
from danqing.wire.dashscope.encode import Answer

CHINA = timezone(timedelta(hours=8))
"""The service tells times of its own country, without saying so."""

DAY = 86_400.0
PAGE_SIZE, MOST = 10, 100

STATES: Mapping[State, str] = {
    State.ACCEPTED: "PENDING",
    State.QUEUED: "PENDING",
    State.RUNNING: "RUNNING",
    State.SUCCEEDED: "SUCCEEDED",
    State.FAILED: "FAILED",
    State.CANCELLED: "CANCELED",
}
BEHIND: Mapping[str, tuple[State, ...]] = {
    name: tuple(state for state, told in STATES.items() if told == name) for name in STATES.values()
}
"""The inverse: which states a name stands for."""

FUNCTIONS: Mapping[str, str] = {
    decode.IMAGES: "aigc:image-generation:generation",
    decode.TEXT_TO_IMAGE: "aigc:text2image:image-synthesis",
    decode.IMAGE_TO_IMAGE: "aigc:image2image:image-synthesis",
}
"""Task group, task and function of each route that makes tasks."""

_MOMENT = re.compile(r"\d{14}")


def submitted(job: Job, request_id: str) -> Answer:
    """The answer to a submit, whatever has become of the task meanwhile."""
    output = {"task_status": "PENDING", "task_id": job.id}
    return Answer(200, {"output": output, "request_id": request_id})


def unknown(task_id: str, request_id: str) -> Answer:
    """The answer for ids that were never issued, are somebody else's, or are past their life."""
    return Answer(200, {"request_id": request_id, "output": {"task_id": task_id, "task_status": "UNKNOWN"}})


def cancelled(request_id: str) -> Answer:
    """The answer to a cancel that took effect."""
    return Answer(200, {"request_id": request_id})


def shown(job: Job, model: Model | None, links: Sequence[str], request_id: str) -> Answer:
    """A task as it stands. `model` is None if the catalogue has it no more: then nothing beyond the plain is known."""
    output: dict[str, Any] = {"task_id": job.id, "task_status": STATES[job.state], **_times(job)}
    body: dict[str, Any] = {"request_id": request_id, "output": output}
    by_choices = job.api == decode.IMAGES
    family = model.family if model is not None else ""
    if job.state is State.SUCCEEDED:
        if by_choices:
            output.update(shapes.extras(job, family))
            output["choices"] = shapes.choices(job, family, links, typed=True)
            body["usage"] = shapes.usage(job, family)
        else:
            output["results"] = _results(job, model, links)
            body["usage"] = {"image_count": len(job.images)}
    if job.state is State.FAILED:
        output.update(_wrong(job.fault if job.fault is not None else Internal(), family))
    if not by_choices and job.state is not State.CANCELLED:
        output["task_metrics"] = shapes.counts(job)
    return Answer(200, body)


def _times(job: Job) -> dict[str, str]:
    times = {"submit_time": job.created, "scheduled_time": job.started, "end_time": job.finished}
    return {name: moment(at) for name, at in times.items() if at is not None}


def moment(wall: float) -> str:
    """A wall time in China, to the millisecond."""
    at = datetime.fromtimestamp(wall, CHINA)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def _results(job: Job, model: Model | None, links: Sequence[str]) -> list[dict[str, str]]:
    """One flat entry a picture, in order; one that was lost says why."""
    prompts = {} if _bare(model) else _prompts(job)
    made = iter(links)
    return [
        _wrong(job.lost[place]) if place in job.lost else {**prompts, "url": next(made)}
        for place in range(len(job.images) + len(job.lost))
    ]


def _bare(model: Model | None) -> bool:
    return model is not None and (model.family == "WIE" or model.labels.get("results") == "bare")


def _prompts(job: Job) -> dict[str, str]:
    """The prompt as given and, where rewriting was asked for, the one that was used: the same if nobody rewrote it."""
    used = {"actual_prompt": shapes.used(job)} if job.brief.knobs.get("prompt_extend") is True else {}
    return {"orig_prompt": job.brief.prompt, **used}


def _wrong(fault: Fault, family: str = "") -> dict[str, str]:
    told = encode.fault(fault, "", family).body
    return {"code": str(told["code"]), "message": str(told["message"])}


# lists


def search(query: Mapping[str, str], now: float, region: str = REGION) -> tuple[Search, int, int]:
    """What a list's query string asks for, with the page and its size. Unknown members are ignored; `region` is where
    all tasks here are.

    Raises BadOrder for a time that is none, a span of more than a day, and a page that is none."""
    since, until = _span(query.get("start_time"), query.get("end_time"), now)
    status = query.get("status") or None
    asked = Search(
        since=since,
        until=until,
        model=query.get("model_name") or None,
        states=None if status is None else BEHIND.get(status.upper(), ()),
        job_id=query.get("task_id") or None,
        key_id=query.get("api_key_id") or None,
    )
    if query.get("region") not in (None, "", region):
        asked = Search(since, until, states=())
    return asked, _number(query, "page_no", 1, 1_000_000), _number(query, "page_size", PAGE_SIZE, MOST)


def _span(start: str | None, end: str | None, now: float) -> tuple[float, float]:
    """The last day; or the day after the start or before the end; or what lies between both."""
    since = _wall(start, "start_time") if start else None
    until = _wall(end, "end_time") if end else None
    if since is None and until is None:
        return now - DAY, now
    if since is None:
        assert until is not None
        return until - DAY, until
    if until is None:
        return since, since + DAY
    if until - since > DAY:
        raise BadOrder(
            "The time span between start_time and end_time must not exceed 24 hours.", field="start_time"
        )
    return since, until


def _wall(text: str, name: str) -> float:
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError(text)
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=CHINA).timestamp()
    except ValueError:
        raise BadOrder(f"The type or value of {name} is out of definition.", field=name) from None


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 8 and 1 <= int(text) <= most):
        raise BadOrder(f"Range of {name} should be [1, {most}]", field=name)
    return int(text)


def listed(page: Page, page_no: int, page_size: int, request_id: str, *, region: str = REGION) -> Answer:
    """A page of tasks; its members stand at the top, as the service has them."""
    body = {
        "total": page.total,
        "data": [_entry(job, region) for job in page.jobs],
        "total_page": math.ceil(page.total / page_size),
        "page_no": page_no,
        "page_size": page_size,
        "request_id": request_id,
    }
    return Answer(200, body)


def _entry(job: Job, region: str) -> dict[str, Any]:
    times = {"gmt_create": job.created, "start_time": job.started, "end_time": job.finished}
    return {
        "api_key_id": job.key_id,
        "caller_parent_id": job.tenant,
        "caller_uid": job.tenant,
        **{name: int(at * 1000) for name, at in times.items() if at is not None},
        "model_name": job.brief.model,
        "region": region,
        "request_id": job.request_id,
        "status": STATES[job.state],
        "task_id": job.id,
        "user_api_unique_key": f"apikey:v1:{FUNCTIONS[job.api]}:{job.brief.model}",
    }
