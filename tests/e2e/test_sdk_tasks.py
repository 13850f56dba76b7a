"""The official SDK's asynchronous classes, unmodified, against a server whose pictures are one colour."""

from __future__ import annotations

import base64
import io
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import dashscope
import pytest
from dashscope import ImageSynthesis, MultiModalConversation
from dashscope.aigc.image_generation import AioImageGeneration, ImageGeneration
from dashscope.aigc.image_synthesis import AioImageSynthesis
from dashscope.api_entities.dashscope_response import Message
from PIL import Image

from tests.support.open_house import OpenHouse, open_house

pytestmark = pytest.mark.usefixtures("left_open")

GIVEN = {"model": "wan2.2-t2i-flash", "prompt": "a red circle", "size": "512*512"}


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenHouse]:
    with open_house(tmp_path_factory.mktemp("painted")) as house:
        dashscope.base_http_api_url = house.url + "/api/v1"
        yield house


@pytest.fixture
def idle(painted: OpenHouse) -> Iterator[OpenHouse]:
    """A server whose worker does nothing for the length of a test."""
    painted.deed("worker stops")
    yield painted
    painted.deed("worker works")
    painted.deed("settle")


def fetched(url: str) -> Image.Image:
    with urllib.request.urlopen(url, timeout=30) as got:
        return Image.open(io.BytesIO(got.read()))


def good(answer: Any) -> Any:
    assert answer.status_code == HTTPStatus.OK, (answer.code, answer.message)
    return answer


def picture(colour: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (512, 512), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


# ImageSynthesis


def test_call_submits_polls_and_brings_the_pictures(painted: OpenHouse) -> None:
    answer = good(ImageSynthesis.call(api_key=painted.key, n=2, seed=1, negative_prompt="blue", **GIVEN))
    assert answer.output.task_status == "SUCCEEDED"
    assert [fetched(result.url).size for result in answer.output.results] == [(512, 512)] * 2
    assert answer.output.results[0]["orig_prompt"] == "a red circle"
    assert answer.output.task_metrics == {"TOTAL": 2, "SUCCEEDED": 2, "FAILED": 0}
    assert answer.usage.image_count == 2
    assert len(answer.request_id) == 36


def test_async_call_wait_and_fetch(painted: OpenHouse) -> None:
    task = good(ImageSynthesis.async_call(api_key=painted.key, n=1, **GIVEN))
    assert task.output.task_status == "PENDING"
    waited = good(ImageSynthesis.wait(task, api_key=painted.key))
    again = good(ImageSynthesis.fetch(task.output.task_id, api_key=painted.key))
    assert waited.output.task_status == again.output.task_status == "SUCCEEDED"
    assert waited.output.results[0].url == again.output.results[0].url


def test_a_waiting_task_is_cancelled_once(idle: OpenHouse) -> None:
    task = good(ImageSynthesis.async_call(api_key=idle.key, n=1, **GIVEN))
    assert good(ImageSynthesis.fetch(task, api_key=idle.key)).output.task_status == "PENDING"
    good(ImageSynthesis.cancel(task, api_key=idle.key))
    assert good(ImageSynthesis.wait(task, api_key=idle.key)).output.task_status == "CANCELED"
    again = ImageSynthesis.cancel(task, api_key=idle.key)
    assert (again.status_code, again.code) == (400, "UnsupportedOperation")


def test_a_list_by_state_and_model(painted: OpenHouse) -> None:
    task = good(ImageSynthesis.async_call(api_key=painted.key, n=1, **GIVEN))
    ImageSynthesis.wait(task, api_key=painted.key)
    found = good(
        ImageSynthesis.list(
            api_key=painted.key, page_no=1, page_size=3, model_name=GIVEN["model"], status="SUCCEEDED"
        )
    ).output
    assert found["data"][0]["task_id"] == task.output.task_id
    assert found["total"] >= len(found["data"]) >= 1
    assert isinstance(found["data"][0]["gmt_create"], int)


def test_a_task_that_fails_says_why(painted: OpenHouse) -> None:
    answer = ImageSynthesis.call(api_key=painted.key, **{**GIVEN, "size": "9*9"})
    assert answer.status_code == HTTPStatus.OK
    assert (answer.output.task_status, answer.output.code) == ("FAILED", "InvalidParameter")


def test_one_refused_picture_leaves_the_other(painted: OpenHouse) -> None:
    answer = good(ImageSynthesis.call(api_key=painted.key, n=2, **{**GIVEN, "prompt": "[lose 1] a circle"}))
    lost, made = answer.output.results
    assert (lost["code"], lost.url) == ("DataInspectionFailed", "")
    assert fetched(made.url).size == (512, 512)
    assert answer.usage.image_count == 1


def test_an_unknown_task_ends_the_wait(painted: OpenHouse) -> None:
    answer = good(ImageSynthesis.wait("9d3d4c1e-0000-4000-8000-000000000000", api_key=painted.key))
    assert answer.output.task_status == "UNKNOWN"


def test_pictures_in_the_request_go_to_the_editing_path(painted: OpenHouse) -> None:
    answer = good(
        ImageSynthesis.call(
            api_key=painted.key,
            model="wan2.5-i2i-preview",
            prompt="make it winter",
            images=[picture("red"), picture("navy")],
            n=1,
            size="768*768",
        )
    )
    red, _, blue = fetched(answer.output.results[0].url).convert("RGB").getpixel((0, 0))
    assert blue > 100 > red


def test_the_synchronous_call_of_the_sdk_is_refused_as_documented(painted: OpenHouse) -> None:
    answer = ImageSynthesis.sync_call(api_key=painted.key, n=1, **GIVEN)
    assert (answer.status_code, answer.code) == (403, "AccessDenied")


# the asyncio classes: a slash at the end, stray parameters, a body on cancel


async def test_128_the_asyncio_call_works_from_end_to_end(painted: OpenHouse) -> None:
    answer = good(await AioImageSynthesis.call(api_key=painted.key, n=2, **GIVEN))
    assert [fetched(result.url).size for result in answer.output.results] == [(512, 512)] * 2


async def test_the_asyncio_class_submits_cancels_and_lists(idle: OpenHouse) -> None:
    task = good(await AioImageSynthesis.async_call(api_key=idle.key, n=1, **GIVEN))
    good(await AioImageSynthesis.cancel(task, api_key=idle.key))
    seen = good(await AioImageSynthesis.fetch(task, api_key=idle.key))
    assert seen.output.task_status == "CANCELED"
    listed = good(await AioImageSynthesis.list(api_key=idle.key, page_no=1, page_size=5))
    assert listed.output["data"][0]["task_id"] == task.output.task_id


# ImageGeneration: messages


def message(text: str) -> list[Message]:
    return [Message(role="user", content=[{"text": text}])]


def test_127_messages_as_a_task(painted: OpenHouse) -> None:
    task = good(
        ImageGeneration.async_call(
            api_key=painted.key, model="wan2.6-t2i", messages=message("a red circle"), n=2, size="768*768"
        )
    )
    answer = good(ImageGeneration.wait(task, api_key=painted.key))
    assert answer.output.task_status == "SUCCEEDED"
    choices = answer.output.choices
    assert [fetched(choice.message.content[0]["image"]).size for choice in choices] == [(768, 768)] * 2
    assert answer.usage["image_count"] == 2


async def test_messages_as_a_task_with_asyncio(painted: OpenHouse) -> None:
    task = good(
        await AioImageGeneration.async_call(
            api_key=painted.key, model="qwen-image-3.0", messages=message("a circle"), n=1, size="512*512"
        )
    )
    answer = good(await AioImageGeneration.wait(task, api_key=painted.key))
    assert fetched(answer.output.choices[0].message.content[0]["image"]).size == (512, 512)


# 79: streams


def test_79_a_stream_brings_the_pictures_or_one_error(painted: OpenHouse) -> None:
    def asked(**more: Any) -> list[Any]:
        content = [{"role": "user", "content": [{"text": "a circle"}]}]
        given: dict[str, Any] = {"model": "qwen-image-2.0", "messages": content, "stream": True, **more}
        return list(MultiModalConversation.call(api_key=painted.key, **given))

    (made,) = asked(size="512*512")
    assert fetched(good(made).output.choices[0].message.content[0]["image"]).size == (512, 512)
    (refused,) = asked(size="512x512")
    assert (refused.status_code, refused.code) == (400, "InvalidParameter")
    content = [{"role": "user", "content": [{"text": "[lose all] a circle"}]}]
    (failed,) = asked(size="512*512", messages=content)
    assert (failed.status_code, failed.code) == (400, "DataInspectionFailed")


# the second client of the SDK


def test_the_v2_client_waits_for_its_pictures(painted: OpenHouse) -> None:
    client = dashscope.Client(api_key=painted.key, base_url=painted.url + "/api/v1")
    job = client.images.generate(model="wan2.2-t2i-flash", prompt="a red circle", size="512x512", n=1)
    assert str(job.status).endswith("SUCCEEDED")
