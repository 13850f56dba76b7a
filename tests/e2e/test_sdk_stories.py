"""Text and pictures in turn, and series, through the unmodified official SDK: blocking and asyncio, streamed and as a
task, against a real server with a tiny checkpoint and nobody who writes."""

from __future__ import annotations

import asyncio
import io
import json
import time
import urllib.request
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import dashscope
import pytest
from dashscope.aigc.image_generation import AioImageGeneration, ImageGeneration
from dashscope.api_entities.dashscope_response import Message
from PIL import Image

from tests.support.served import GENERATION, Served, until

pytestmark = pytest.mark.usefixtures("left_open")

TALE = "A fox wakes. It runs."
STORY = {"model": "wan2.6-image", "enable_interleave": True, "max_images": 2, "size": "768*768", "seed": 7}
TURNS = ["A fox wakes.", (768, 768), "It runs.", (768, 768)]


@pytest.fixture
def key(served: Served) -> str:
    dashscope.base_http_api_url = served.url + "/api/v1"
    return served.key


def asked(text: str = TALE) -> list[Message]:
    return [Message(role="user", content=[{"text": text}])]


def seen(item: dict[str, str]) -> str | tuple[int, int]:
    """A text, or the size of the picture behind a link."""
    if item["type"] == "text":
        return item["text"]
    with urllib.request.urlopen(item["image"], timeout=30) as got:
        size: tuple[int, int] = Image.open(io.BytesIO(got.read())).size
    return size


def checked(frames: Iterable[Any]) -> list[str | tuple[int, int]]:
    """The turns of a whole stream, one a frame."""
    frames = list(frames)
    assert {frame.status_code for frame in frames} == {HTTPStatus.OK}
    assert [frame.output.choices[0].finish_reason for frame in frames] == ["null"] * 3 + ["stop"]
    assert [frame.output.finished for frame in frames] == [False] * 3 + [True]
    assert [frame.usage.image_count for frame in frames] == [0, 1, 1, 2]
    assert len({frame.request_id for frame in frames}) == 1
    (items,) = zip(*(frame.output.choices[0].message.content for frame in frames), strict=True)
    return [seen(item) for item in items]


def test_a_story_is_streamed_turn_by_turn(key: str) -> None:
    arrived, frames = [], []
    for frame in ImageGeneration.call(api_key=key, messages=asked(), stream=True, **STORY):
        arrived.append(time.monotonic())
        frames.append(frame)
    assert checked(frames) == TURNS
    assert arrived[1] > arrived[0]


def test_a_story_is_streamed_to_asyncio_too(key: str) -> None:
    async def whole() -> list[Any]:
        answer = await AioImageGeneration.call(api_key=key, messages=asked(), stream=True, **STORY)
        return [frame async for frame in answer]

    assert checked(asyncio.run(whole())) == TURNS


def test_a_story_is_a_task_too(key: str) -> None:
    task = ImageGeneration.async_call(api_key=key, messages=asked(), **STORY)
    answer = ImageGeneration.wait(task, api_key=key)
    (choice,) = answer.output.choices
    assert [seen(item) for item in choice.message.content] == TURNS
    assert answer.output.finished is True
    assert (answer.usage.image_count, answer.usage.size) == (2, "768*768")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0


def test_a_client_that_leaves_its_story_cancels_it(served: Served, key: str) -> None:
    def cancelled() -> int:
        return int(served.get("/health")[1]["jobs"].get("cancelled", 0))

    before = cancelled()
    content = [{"text": "A fox wakes. It runs. It eats. It rests. It sleeps."}]
    body = {
        "model": "wan2.6-image",
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": {"enable_interleave": True, "size": "768*768"},
    }
    headers = {"Authorization": f"Bearer {key}", "X-DashScope-SSE": "enable"}
    request = urllib.request.Request(served.url + GENERATION, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as stream:
        while not stream.readline().startswith(b"data:"):
            pass
    until(lambda: cancelled() == before + 1)


def test_a_story_that_is_not_streamed_is_refused(key: str) -> None:
    answer = ImageGeneration.call(api_key=key, messages=asked(), **STORY)
    assert (answer.status_code, answer.code) == (HTTPStatus.BAD_REQUEST, "InvalidParameter")


def test_a_wrong_story_is_one_answer_of_the_stream(key: str) -> None:
    (answer,) = ImageGeneration.call(api_key=key, messages=asked(), stream=True, n=2, **STORY)
    assert (answer.status_code, answer.code) == (HTTPStatus.BAD_REQUEST, "InvalidParameter")


def test_a_series_stands_in_one_choice(key: str) -> None:
    answer = ImageGeneration.call(
        api_key=key, model="wan2.7-image", messages=asked(), n=3, size="768*768", enable_sequential=True
    )
    (choice,) = answer.output.choices
    assert [seen(item) for item in choice.message.content] == [(768, 768)] * 3
