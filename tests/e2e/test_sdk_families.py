"""The newer families through the official SDK, and the OpenAI-compatible mode through OpenAI's, both unmodified,
against a server whose pictures are one colour."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import dashscope
import openai
import pytest
from dashscope import MultiModalConversation
from dashscope.aigc.image_generation import ImageGeneration
from dashscope.api_entities.dashscope_response import Message
from PIL import Image

from tests.support.open_house import OpenHouse, open_house

pytestmark = pytest.mark.usefixtures("left_open")


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenHouse]:
    with open_house(tmp_path_factory.mktemp("painted")) as house:
        dashscope.base_http_api_url = house.url + "/api/v1"
        yield house


@pytest.fixture
def client(painted: OpenHouse) -> Iterator[openai.OpenAI]:
    base = f"{painted.url}/any/compatible-mode/v1"
    with openai.OpenAI(api_key=painted.key, base_url=base, max_retries=0) as made:
        yield made


def size(url: str) -> tuple[int, int]:
    with urllib.request.urlopen(url, timeout=30) as got:
        found: tuple[int, int] = Image.open(io.BytesIO(got.read())).size
    return found


def links(answer: Any) -> list[list[str]]:
    """The links of each choice."""
    assert answer.status_code == HTTPStatus.OK, (answer.code, answer.message)
    return [
        [item["image"] for item in choice.message.content if "image" in item]
        for choice in answer.output.choices
    ]


def asked(text: str = "a red house") -> list[Message]:
    return [Message(role="user", content=[{"text": text}])]


# the official SDK


def test_wan_answers_a_choice_a_picture(painted: OpenHouse) -> None:
    answer = ImageGeneration.call(
        api_key=painted.key, model="wan2.6-t2i", messages=asked(), n=2, size="1280*1280"
    )
    found = links(answer)
    assert [len(choice) for choice in found] == [1, 1]
    assert size(found[0][0]) == (1280, 1280)
    assert answer.usage.image_count == 2


def test_a_series_stands_in_one_choice_and_a_word_may_be_its_size(painted: OpenHouse) -> None:
    answer = ImageGeneration.call(
        api_key=painted.key,
        model="wan2.7-image-pro",
        messages=asked(),
        n=3,
        size="1K",
        enable_sequential=True,
    )
    found = links(answer)
    assert [len(choice) for choice in found] == [3]
    assert size(found[0][2]) == (1024, 1024)


def test_z_image_tells_the_prompt_it_used(painted: OpenHouse) -> None:
    answer = MultiModalConversation.call(
        api_key=painted.key,
        model="z-image-turbo",
        messages=[{"role": "user", "content": [{"text": "a red house"}]}],
        size="512*512",
    )
    assert size(links(answer)[0][0]) == (512, 512)
    assert answer.output.choices[0].message.content[1] == {"text": "a red house"}


def test_a_refusal_has_the_family_s_own_words(painted: OpenHouse) -> None:
    answer = ImageGeneration.call(
        api_key=painted.key, model="wan2.7-image", messages=asked(), size="767*767", n=9
    )
    assert (answer.status_code, answer.code) == (HTTPStatus.BAD_REQUEST, "InvalidParameter")
    assert answer.message == "Total pixels (588289) must be between 589824 and 16777216"


# OpenAI's SDK


def test_the_openai_sdk_generates(client: openai.OpenAI) -> None:
    made = client.images.generate(model="qwen-image-3.0", prompt="a red house", n=2, size="1024x1024")
    assert made.data is not None
    assert [size(str(one.url)) for one in made.data] == [(1024, 1024)] * 2
    assert made.created > 1_700_000_000


def test_the_openai_sdk_passes_what_it_does_not_know(client: openai.OpenAI) -> None:
    extra = {"negative_prompt": "fog", "seed": 7, "watermark": False}
    made = client.images.generate(
        model="qwen-image-2.1-turbo", prompt="p", size="512x512", response_format="b64_json", extra_body=extra
    )
    assert made.data is not None
    assert made.data[0].b64_json is None
    assert size(str(made.data[0].url)) == (512, 512)


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        ({"model": "qwen-image-3.0", "n": 7}, openai.BadRequestError, "InvalidParameter"),
        (
            {"model": "qwen-image-3.0", "prompt": "forbidden fruit"},
            openai.BadRequestError,
            "data_inspection_failed",
        ),
        ({"model": "qwen-image-edit-max"}, openai.NotFoundError, "model_not_supported"),
        ({"model": "dall-e-3"}, openai.NotFoundError, "model_not_found"),
    ],
)
def test_the_openai_sdk_raises_its_own_errors(
    client: openai.OpenAI, given: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        client.images.generate(**{"prompt": "p", **given})
    assert caught.value.code == code
    assert len(caught.value.request_id or "") == 36


def test_the_openai_sdk_knows_a_wrong_key(painted: OpenHouse) -> None:
    base = f"{painted.url}/compatible-mode/v1"
    stranger = openai.OpenAI(api_key="sk-wrong", base_url=base, max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.images.generate(model="qwen-image-3.0", prompt="p")
    assert caught.value.code == "invalid_api_key"
