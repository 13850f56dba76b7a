"""DashScope's JSON as it is, for the OpenAPI page and for tests. Knows no rule: limits live in the catalogue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class ImageItem(BaseModel):
    """An input picture: an http(s) URL, or `data:<mime>;base64,<data>`."""

    image: str


class TextItem(BaseModel):
    """The prompt or the editing instruction."""

    text: str


class Message(BaseModel):
    """The one message of a call: pictures and exactly one text, in any order; the order among pictures counts."""

    role: Literal["user"] = "user"
    content: list[ImageItem | TextItem]


class Input(BaseModel):
    """What to work on."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1)]


class Parameters(BaseModel):
    """How to do it; everything is optional, and unknown members are ignored."""

    model_config = ConfigDict(extra="allow")

    n: Annotated[int | None, Field(description="how many pictures to make")] = None
    size: Annotated[
        str | None,
        Field(pattern=r"^\d+\*\d+$", description="`<width>*<height>` in pixels", examples=["1024*1536"]),
    ] = None
    seed: Annotated[
        int | None, Field(ge=0, le=2_147_483_647, description="picture i is made from seed + i")
    ] = None
    negative_prompt: Annotated[str | None, Field(description="what the pictures should not show")] = None
    prompt_extend: Annotated[bool | None, Field(description="accepted; prompts are used as given")] = None
    watermark: Annotated[bool | None, Field(description="write the model's mark at the bottom right")] = None


class Generation(BaseModel):
    """The body of a call for pictures."""

    model: Annotated[str, Field(examples=["qwen-image-edit-plus"])]
    input: Input
    parameters: Parameters | None = None


class Picture(BaseModel):
    """One finished picture: a link that works for 24 hours."""

    model_config = ConfigDict(extra="forbid")

    image: str


class Answer(BaseModel):
    """The message that carries the pictures."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["assistant"]
    content: list[Picture]


class Choice(BaseModel):
    """One choice; these families answer with exactly one."""

    model_config = ConfigDict(extra="forbid")

    finish_reason: Literal["stop"]
    message: Answer


class TaskMetric(BaseModel):
    """How many pictures were asked for and made."""

    model_config = ConfigDict(extra="forbid")

    TOTAL: int
    SUCCEEDED: int
    FAILED: int


class Output(BaseModel):
    """The pictures."""

    model_config = ConfigDict(extra="forbid")

    choices: list[Choice]
    task_metric: TaskMetric | None = None


class Usage(BaseModel):
    """What was delivered; width and height are those of the files."""

    model_config = ConfigDict(extra="forbid")

    image_count: int
    width: int
    height: int


class Success(BaseModel):
    """The answer to a synchronous call."""

    model_config = ConfigDict(extra="forbid")

    output: Output
    usage: Usage
    request_id: str


class Failure(BaseModel):
    """Every answer that is not 200."""

    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    request_id: str
