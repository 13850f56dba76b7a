"""Tasks over HTTP: query, list and cancel. Whatever else a request carries (a query string, a body) is not looked at:
official clients send both.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from danqing.core.job import State
from danqing.intake.keys import Caller
from danqing.wire import body, door
from danqing.wire.dashscope import replies, tasks
from danqing.wire.dashscope.encode import Answer
from danqing.wire.dashscope.schema import Failure
from danqing.wire.dashscope.task_schema import Cancelled, Task, TaskList
from danqing.wire.desk import Desk
from danqing.wire.guard import API
from danqing.wire.openapi import ANY_BODY, answers, parameter, parameters

_DIGITS = "^[0-9]{14}$"
_LIST = parameters(
    parameter("task_id", "only this task", where="query"),
    parameter(
        "start_time", "`YYYYMMDDhhmmss` in China; alone, the day after it", where="query", pattern=_DIGITS
    ),
    parameter("end_time", "the same; at most a day later", where="query", pattern=_DIGITS),
    parameter("model_name", "only tasks of this model", where="query"),
    parameter("status", "only tasks in this state", where="query", enum=[*tasks.BEHIND, "UNKNOWN"]),
    parameter("api_key_id", "only tasks of this key", where="query"),
    parameter("region", "only tasks of this region", where="query"),
    parameter("page_no", "counted from 1", where="query", type="integer", minimum=1, maximum=1_000_000),
    parameter("page_size", "ten where none is given", where="query", type="integer", minimum=1, maximum=100),
)


def router(desk: Desk) -> APIRouter:
    """The routes of tasks over a desk."""
    routes = APIRouter(prefix=f"{API}/tasks", tags=["DashScope tasks"])

    @routes.get("/{task_id}", responses=answers(Task, "how the task stands", Failure))
    async def query(request: Request, task_id: str) -> Response:
        """A task as it stands; an id that is unknown, somebody else's or older than a day is `UNKNOWN`."""
        caller = await _caller(request, desk, "query")
        request_id = request.state.request_id
        job = await desk.intake.recall(caller, task_id)
        if job is None:
            return _written(tasks.unknown(task_id, request_id))
        request.state.job = job.id
        links = desk.links(request, job) if job.state is State.SUCCEEDED else ()
        return _written(tasks.shown(job, desk.intake.model(job.brief.model), links, request_id))

    @routes.get(
        "", openapi_extra=_LIST, responses=answers(TaskList, "a page of tasks, newest first", Failure)
    )
    async def listing(request: Request) -> Response:
        """The tasks of the account: by default those of the last 24 hours, ten a page."""
        caller = await _caller(request, desk, "list")
        search, number, size = tasks.search(request.query_params, desk.clock.wall(), desk.intake.region)
        page = await desk.intake.find(caller, search, skip=(number - 1) * size, limit=size)
        return _written(tasks.listed(page, number, size, request.state.request_id, region=desk.intake.region))

    @routes.post(
        "/{task_id}/cancel",
        openapi_extra=ANY_BODY,
        responses=answers(Cancelled, "the task is cancelled", Failure),
    )
    async def cancel(request: Request, task_id: str) -> Response:
        """Cancel a task that is still pending."""
        await body.discard(request, body.IGNORED)
        caller = await _caller(request, desk, "cancel")
        await desk.intake.withdraw(caller, task_id)
        return _written(tasks.cancelled(request.state.request_id))

    return routes


async def _caller(request: Request, desk: Desk, what: str) -> Caller:
    caller = await door.who(request, desk)
    desk.intake.poll(caller, what)
    return caller


def _written(answer: Answer) -> Response:
    return replies.written(answer, kind=replies.TASK_JSON)
