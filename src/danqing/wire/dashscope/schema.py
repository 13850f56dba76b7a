"""DashScope's JSON as it is, for the OpenAPI page and for tests. Knows no rule: limits live in the catalogue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Reference = Annotated[str, Field(json_schema_extra={"format": "uri"})]
"""An http(s) URL, `data:<mime>;base64,<data>`, or the `oss://` name of a file sent ahead."""


class ImageItem(BaseModel):
    """An input picture."""

    image: Reference


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


class Colour(BaseModel):
    """One colour of a palette and its share of the picture."""

    hex: Annotated[str, Field(examples=["#C2D1E6"])]
    ratio: Annotated[str | float, Field(examples=["23.51%"])]


class Parameters(BaseModel):
    """How to do it; everything is optional, which members a model has is its own, and unknown ones are ignored."""

    model_config = ConfigDict(extra="allow")

    n: Annotated[int | None, Field(description="how many pictures to make")] = None
    size: Annotated[
        str | None,
        Field(
            pattern=r"^(\d+\*\d+|[124]K)$",
            description="`<width>*<height>` in pixels; some models take 1K, 2K and 4K",
            examples=["1024*1536"],
        ),
    ] = None
    seed: Annotated[
        int | None, Field(ge=0, le=2_147_483_647, description="picture i is made from seed + i")
    ] = None
    negative_prompt: Annotated[str | None, Field(description="what the pictures should not show")] = None
    prompt_extend: Annotated[bool | None, Field(description="accepted; prompts are used as given")] = None
    watermark: Annotated[bool | None, Field(description="write the model's mark at the bottom right")] = None
    enable_sequential: Annotated[bool | None, Field(description="a series of up to twelve pictures")] = None
    enable_interleave: Annotated[
        bool | None,
        Field(description="text and pictures in turn; as an event stream where the call waits for them"),
    ] = None
    max_images: Annotated[
        int | None, Field(ge=1, le=5, description="the most pictures between texts; five where none is given")
    ] = None
    stream: Annotated[
        bool | None, Field(description="without effect: the header X-DashScope-SSE asks for a stream")
    ] = None
    color_palette: Annotated[
        list[Colour] | None, Field(description="three to ten colours whose shares make 100 %; checked only")
    ] = None
    bbox_list: Annotated[
        list[list[list[int]]] | None, Field(description="up to two boxes in each input picture; checked only")
    ] = None


class Generation(BaseModel):
    """The body of a call for pictures, as messages."""

    model: Annotated[str, Field(examples=["qwen-image-edit-plus"])]
    input: Input
    parameters: Parameters | None = None


class Prompt(BaseModel):
    """What to paint."""

    prompt: str
    negative_prompt: str | None = None


class PromptGeneration(BaseModel):
    """The body of a task for pictures from a prompt."""

    model: Annotated[str, Field(examples=["wan2.2-t2i-flash"])]
    input: Prompt
    parameters: Parameters | None = None


class PromptWithPictures(Prompt):
    """What to make of the pictures: `images`, or a `function` with its `base_image_url`, as the model has it."""

    images: list[str] | None = None
    function: str | None = None
    base_image_url: str | None = None
    mask_image_url: str | None = None


class PictureGeneration(BaseModel):
    """The body of a task that edits pictures."""

    model: Annotated[str, Field(examples=["wan2.5-i2i-preview"])]
    input: PromptWithPictures
    parameters: Parameters | None = None


class Picture(BaseModel):
    """One finished picture: a link that works for 24 hours."""

    model_config = ConfigDict(extra="forbid")

    image: str
    type: Annotated[Literal["image"] | None, Field(description="of the Wan families")] = None


class Text(BaseModel):
    """The prompt that was used, of models that tell it; or, with its type, a text that stands between pictures."""

    model_config = ConfigDict(extra="forbid")

    text: str
    type: Literal["text"] | None = None


class Answer(BaseModel):
    """The message that carries the pictures."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["assistant"]
    content: list[Picture | Text]
    reasoning_content: str | None = None


class Choice(BaseModel):
    """One choice: all pictures, or, in some families, one of them."""

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
    """The pictures, and what the family says beside them."""

    model_config = ConfigDict(extra="forbid")

    choices: list[Choice]
    task_metric: TaskMetric | None = None
    finished: bool | None = None
    rewrite_status: Literal["not_use", "success"] | None = None


class Usage(BaseModel):
    """What was delivered; width and height are those of the files."""

    model_config = ConfigDict(extra="forbid")

    image_count: int
    width: int
    height: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class WanUsage(BaseModel):
    """What was delivered, in the Wan families."""

    model_config = ConfigDict(extra="forbid")

    image_count: int
    size: Annotated[str, Field(examples=["1280*1280"])]
    input_tokens: int
    output_tokens: int
    total_tokens: int


class TieredUsage(BaseModel):
    """What was delivered, in the families whose price has tiers."""

    model_config = ConfigDict(extra="forbid")

    output_width: int
    output_height: int
    input_image_count: int
    input_image_type: str
    output_image_count: int
    output_image_type: str


class Success(BaseModel):
    """The answer to a synchronous call."""

    model_config = ConfigDict(extra="forbid")

    output: Output
    usage: Usage | WanUsage | TieredUsage
    request_id: str


class Failure(BaseModel):
    """Every answer that is not 200."""

    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    request_id: str
