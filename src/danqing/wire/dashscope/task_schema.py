"""The JSON of tasks as it is, for the OpenAPI page and for tests. Knows no rule."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from danqing.wire.dashscope.schema import Choice, Parameters, Reference

Moment = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}$", description="in China Standard Time (UTC+8)"),
]
State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"]


class Closed(BaseModel):
    """Members that are not named here do not occur."""

    model_config = ConfigDict(extra="forbid")


class PromptInput(BaseModel):
    """What to draw, or how to change the given pictures; other members depend on the model."""

    model_config = ConfigDict(extra="allow")

    prompt: str
    negative_prompt: str | None = None
    images: Annotated[list[Reference] | None, Field(description="the pictures to work on")] = None
    function: Annotated[str | None, Field(description="what `wanx2.1-imageedit` is to do")] = None
    base_image_url: Reference | None = None
    mask_image_url: Reference | None = None


class Synthesis(BaseModel):
    """The body of a call whose prompt stands in `input`."""

    model: Annotated[str, Field(examples=["wan2.2-t2i-flash"])]
    input: PromptInput
    parameters: Parameters | None = None


class Ticket(Closed):
    """A task's name and that it waits."""

    task_status: Literal["PENDING"]
    task_id: str


class Submitted(Closed):
    """The answer to a submit."""

    output: Ticket
    request_id: str


class Result(Closed):
    """One picture of a task, or why there is none."""

    orig_prompt: str | None = None
    actual_prompt: str | None = None
    url: str | None = None
    code: str | None = None
    message: str | None = None


class Metrics(Closed):
    """How many pictures were asked for, made and lost."""

    TOTAL: int
    SUCCEEDED: int
    FAILED: int


class TaskOutput(Closed):
    """A task; which members are there depends on its state and on the path it came by."""

    task_id: str
    task_status: State
    submit_time: Moment | None = None
    scheduled_time: Moment | None = None
    end_time: Moment | None = None
    results: list[Result] | None = None
    choices: list[Choice] | None = None
    finished: bool | None = None
    rewrite_status: str | None = None
    task_metric: Metrics | None = None
    task_metrics: Metrics | None = None
    code: str | None = None
    message: str | None = None


class Task(Closed):
    """The answer to a query."""

    request_id: str
    output: TaskOutput
    usage: dict[str, Any] | None = None


class Entry(Closed):
    """A task in a list; times are in milliseconds since 1970."""

    api_key_id: str
    caller_parent_id: str
    caller_uid: str
    gmt_create: int
    start_time: int | None = None
    end_time: int | None = None
    model_name: str
    region: str
    request_id: str
    status: State
    task_id: str
    user_api_unique_key: str


class TaskList(Closed):
    """A page of tasks."""

    total: int
    data: list[Entry]
    total_page: int
    page_no: int
    page_size: int
    request_id: str


class Cancelled(Closed):
    """Nothing more to say."""

    request_id: str
