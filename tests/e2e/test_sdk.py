"""The official SDK, unmodified, against a real server: what the quick start of its documentation does, works."""

from __future__ import annotations

import base64
import io
import urllib.request
from pathlib import Path
from typing import Any

import dashscope
import pytest
from dashscope import MultiModalConversation
from PIL import Image

from tests.support.folders import files_below
from tests.support.served import Served


@pytest.fixture(autouse=True)
def sdk(served: Served) -> None:
    dashscope.base_http_api_url = served.url + "/api/v1"


def picture(colour: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (400, 600), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def quick_start(served: Served, **more: Any) -> Any:
    messages = [
        {
            "role": "user",
            "content": [
                {"image": picture("red")},
                {"image": picture("white")},
                {"image": picture("navy")},
                {"text": "图1中的女生穿着图2中的黑色裙子按图3的姿势坐下"},
            ],
        }
    ]
    given = {
        "n": 2,
        "watermark": False,
        "negative_prompt": " ",
        "prompt_extend": True,
        "size": "1024*1536",
        "seed": 7,
        **more,
    }
    return MultiModalConversation.call(
        api_key=served.key, model="qwen-image-edit-max", messages=messages, stream=False, **given
    )


def fetched(answer: Any) -> list[bytes]:
    assert answer.status_code == 200, (answer.code, answer.message)
    files = []
    for item in answer.output.choices[0].message.content:
        with urllib.request.urlopen(item["image"], timeout=30) as got:
            assert got.status == 200
            assert got.headers["content-type"] == "image/png"
            files.append(got.read())
    return files


def test_the_quick_start_brings_two_different_pictures_of_the_asked_size(served: Served) -> None:
    answer = quick_start(served)
    files = fetched(answer)
    pictures = [Image.open(io.BytesIO(file)) for file in files]
    assert [picture.size for picture in pictures] == [(1024, 1536)] * 2
    assert [picture.format for picture in pictures] == ["PNG"] * 2
    assert pictures[0].tobytes() != pictures[1].tobytes()
    assert (answer.usage.image_count, answer.usage.width, answer.usage.height) == (2, 1024, 1536)
    assert answer.output.choices[0].finish_reason == "stop"
    assert answer.output.choices[0].message.role == "assistant"


def test_the_same_seed_gives_the_same_pixels_on_an_idle_server(served: Served) -> None:
    pictures = [
        Image.open(io.BytesIO(fetched(quick_start(served, n=1, seed=seed, size="512*768"))[0]))
        for seed in (3, 3, 4)
    ]
    first, again, other = (picture.tobytes() for picture in pictures)
    assert first == again
    assert first != other
    labels = {picture.info["XML:com.adobe.xmp"] for picture in pictures}
    assert len(labels) == 3, "each file says its own number"
    assert all('"Label":"1"' in label for label in labels)


def test_picture_i_is_the_picture_of_seed_plus_i(served: Served) -> None:
    both = fetched(quick_start(served, n=2, seed=20, size="512*768"))
    second = fetched(quick_start(served, n=1, seed=21, size="512*768"))
    assert Image.open(io.BytesIO(both[1])).tobytes() == Image.open(io.BytesIO(second[0])).tobytes()


def test_an_error_reaches_the_sdk_with_its_code_message_and_request_id(served: Served) -> None:
    answer = quick_start(served, n=7)
    assert answer.status_code == 400
    assert answer.code == "InvalidParameter"
    assert "n" in answer.message
    assert len(answer.request_id) == 36


def test_a_wrong_key_is_told_as_the_service_tells_it(served: Served) -> None:
    answer = MultiModalConversation.call(
        api_key="sk-wrong", model="qwen-image", messages=[{"role": "user", "content": [{"text": "a"}]}]
    )
    assert (answer.status_code, answer.code) == (401, "InvalidApiKey")
    assert answer.message == "Invalid API-key provided."


def test_text_to_image_has_the_task_metric_of_its_family(served: Served) -> None:
    answer = MultiModalConversation.call(
        api_key=served.key,
        model="qwen-image-max",
        messages=[{"role": "user", "content": [{"text": "a red circle"}]}],
        size="928*1664",
    )
    (file,) = fetched(answer)
    assert Image.open(io.BytesIO(file)).size == (928, 1664)
    assert answer.output["task_metric"] == {"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0}


def sent_ahead(served: Served) -> set[Path]:
    """The files that callers sent ahead."""
    return set(files_below(served.data / "blobs" / "uploads"))


def test_a_local_file_is_sent_and_edited(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "图 1.png"
    Image.new("RGB", (400, 600), "red").save(path)
    before = sent_ahead(served)
    answer = MultiModalConversation.call(
        api_key=served.key,
        model="qwen-image-edit-plus",
        messages=[{"role": "user", "content": [{"image": f"file://{path}"}, {"text": "make it winter"}]}],
        size="512*768",
    )
    (file,) = fetched(answer)
    assert Image.open(io.BytesIO(file)).size == (512, 768)
    assert len(sent_ahead(served) - before) == 1
