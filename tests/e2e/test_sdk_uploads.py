"""Local files through the official SDK's own way of sending them: by path and by `file://`, blocking and asyncio, in
calls and in tasks. The server paints the colour of the last picture it was given."""

from __future__ import annotations

import asyncio
import gc
import io
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import dashscope
import pytest
from dashscope import AioMultiModalConversation, ImageSynthesis, MultiModalConversation
from dashscope.aigc.image_generation import AioImageGeneration, ImageGeneration
from dashscope.aigc.image_synthesis import AioImageSynthesis
from dashscope.api_entities.dashscope_response import Message
from dashscope.common.error import InvalidInput, UploadFileException
from PIL import Image

from tests.support.open_house import OpenHouse, open_house

RED, GREEN, BLUE = (200, 30, 40), (30, 190, 60), (40, 60, 210)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenHouse]:
    with open_house(tmp_path_factory.mktemp("painted")) as house:
        yield house


@pytest.fixture(autouse=True)
def sdk(painted: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The SDK calls under a prefix. It closes some of its connections only when they are collected; that is not ours
    to be warned of."""
    monkeypatch.setattr(dashscope, "base_http_api_url", painted.url + "/my/proxy/api/v1")
    monkeypatch.setattr(dashscope, "api_key", painted.key)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def file(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (400, 400)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, "PNG")
    return str(path)


def messages(*images: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [*({"image": image} for image in images), {"text": "make it winter"}]}
    ]


def colours(links: list[str]) -> list[Any]:
    found = []
    for link in links:
        with urllib.request.urlopen(link, timeout=30) as got:
            found.append(Image.open(io.BytesIO(got.read())).convert("RGB").getpixel((0, 0)))
    return found


def pictures(answer: Any) -> list[Any]:
    """The colours of an answer in choices."""
    assert answer.status_code == HTTPStatus.OK, (answer.code, answer.message)
    return colours([item["image"] for choice in answer.output.choices for item in choice.message.content])


def results(answer: Any) -> list[Any]:
    """The colours of a task's results."""
    assert answer.status_code == HTTPStatus.OK, (answer.code, answer.message)
    assert answer.output.task_status == "SUCCEEDED", answer.output
    return colours([result.url for result in answer.output.results])


def edit(*images: str, model: str = "qwen-image-edit-plus") -> Any:
    return MultiModalConversation.call(model=model, messages=messages(*images), size="512*512")


@pytest.mark.parametrize("name", ["plain.png", "a b.png", "图片 é (1).png", "50%#?&'.png"])
@pytest.mark.parametrize("scheme", ["file://", ""])
def test_a_local_file_is_sent_and_edited(name: str, scheme: str, tmp_path: Path) -> None:
    path = file(tmp_path / name, GREEN)
    given = scheme + path.replace("%", "%25") if scheme else path
    if scheme and set("#?") & set(name):
        given = given.replace("#", "%23").replace("?", "%3F")
    assert pictures(edit(given)) == [GREEN]


def test_several_files_keep_their_order_under_one_permit(tmp_path: Path) -> None:
    first, second = file(tmp_path / "1.png", RED), file(tmp_path / "2.png", BLUE)
    assert pictures(edit(first, "file://" + second)) == [BLUE]
    assert pictures(edit(second, first)) == [RED]


def test_one_file_twice_and_twins_of_one_name(tmp_path: Path) -> None:
    one = file(tmp_path / "a" / "x.png", RED)
    twin = file(tmp_path / "b" / "x.png", RED)
    assert pictures(edit(one, one)) == [RED]
    assert pictures(edit(one, twin)) == [RED]


def test_two_files_of_one_name_are_told_apart_by_an_error(tmp_path: Path) -> None:
    one, other = file(tmp_path / "a" / "x.png", RED), file(tmp_path / "b" / "x.png", BLUE)
    with pytest.raises(UploadFileException, match="FileAlreadyExists"):
        edit(one, other)


def test_a_file_that_is_not_there_asks_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        edit(f"file://{tmp_path}/nothing.png")


def test_a_refused_permit_is_told_with_its_reason(tmp_path: Path) -> None:
    path = file(tmp_path / "a.png", RED)
    with pytest.raises(UploadFileException, match="InvalidApiKey"):
        MultiModalConversation.call(api_key="sk-wrong", model="qwen-image-edit", messages=messages(path))
    with pytest.raises(UploadFileException, match="Model not exist"):
        edit(path, model="nothing")


def test_a_file_that_is_no_picture_is_refused_by_the_call(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no picture")
    answer = edit(str(tmp_path / "a.txt"))
    assert (answer.status_code, answer.message) == (400, "Invalid image format or corrupted file")


def test_image_generation_takes_local_files(tmp_path: Path) -> None:
    path = file(tmp_path / "a b.png", BLUE)
    content = [{"text": "make it winter"}, {"image": path}]
    answer = ImageGeneration.call(
        model="wan2.6-image", messages=[Message(role="user", content=content)], n=1, size="768*768"
    )
    assert pictures(answer) == [BLUE]


def test_image_synthesis_takes_local_files(tmp_path: Path) -> None:
    first, second = file(tmp_path / "1.png", RED), file(tmp_path / "图 2.png", GREEN)
    answer = ImageSynthesis.call(
        model="wan2.5-i2i-preview", prompt="both", images=[first, "file://" + second], n=1
    )
    assert results(answer) == [GREEN]


def test_image_synthesis_takes_a_local_base_picture(tmp_path: Path) -> None:
    path = file(tmp_path / "base.png", BLUE, (512, 512))
    answer = ImageSynthesis.call(
        model="wanx2.1-imageedit", prompt="winter", function="description_edit", base_image_url=path, n=1
    )
    assert results(answer) == [BLUE]


def test_asyncio_takes_local_files(tmp_path: Path) -> None:
    first, second = file(tmp_path / "1 é.png", RED), file(tmp_path / "2.png", GREEN)

    async def calls() -> tuple[Any, ...]:
        told = await AioMultiModalConversation.call(
            model="qwen-image-edit-plus", messages=messages("file://" + first, second), size="512*512"
        )
        content = [{"text": "make it winter"}, {"image": first}]
        made = await AioImageGeneration.call(
            model="wan2.6-image", messages=[Message(role="user", content=content)], n=1, size="768*768"
        )
        task = await AioImageSynthesis.call(
            model="wan2.5-i2i-preview", prompt="both", images=["file://" + first, second], n=1
        )
        return told, made, task

    told, made, task = asyncio.run(calls())
    assert (pictures(told), pictures(made), results(task)) == ([GREEN], [RED], [GREEN])


def test_an_upload_serves_again_for_48_hours_and_not_longer(painted: OpenHouse, tmp_path: Path) -> None:
    from dashscope.utils.oss_utils import OssUtils

    path = file(tmp_path / "again.png", GREEN)
    name, _ = OssUtils.upload(model="qwen-image-edit-plus", file_path=path, api_key=painted.key)
    for _ in range(2):
        assert pictures(edit(name)) == [GREEN]
        painted.deed("advance 86000")
    painted.deed("advance 1000")
    answer = edit(name)
    assert (answer.status_code, answer.message) == (400, "download image failed")


def test_the_v2_client_sends_local_files(painted: OpenHouse, tmp_path: Path) -> None:
    path = file(tmp_path / "图 2.png", GREEN)
    client = dashscope.Client(api_key=painted.key, base_url=painted.url + "/api/v1")
    made = client.images.generate(
        model="wan2.6-image", prompt="winter", image_urls=["file://" + path], n=1, size="768*768"
    )
    assert colours(made.image_urls) == [GREEN]


def test_the_sdk_s_own_program_sends_a_file(painted: OpenHouse, tmp_path: Path) -> None:
    path = file(tmp_path / "a b.png", RED)
    words = ["oss", "upload", "-f", path, "-m", "qwen-image-edit-plus", "-k", painted.key]
    command = [sys.executable, "-m", "dashscope.cli", *words, "-u", painted.url + "/api/v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    name = "".join(done.stdout.split("oss://")[1].splitlines()).strip()
    assert name.startswith("dashscope-instant/")
    assert "a b.png" in done.stdout.replace("\n", " ")


def test_a_workspace_and_a_region_through_the_sdk(
    painted: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted.deed("makekey ours acme cn-beijing llm-ours")
    painted.deed("makekey abroad acme ap-southeast-1")

    def ask(**more: Any) -> tuple[int, str]:
        said = [{"role": "user", "content": [{"text": "a red house"}]}]
        answer = MultiModalConversation.call(model="qwen-image-2.0", messages=said, size="512*512", **more)
        return answer.status_code, answer.code

    assert ask(workspace="llm-ours")[0] == 200
    assert ask(workspace="llm-unknown") == (401, "NOT AUTHORIZED")
    abroad = painted.house.others["abroad"]
    assert ask(api_key=abroad) == (401, "InvalidApiKey")
    monkeypatch.setattr(dashscope, "base_http_api_url", painted.url + "/ap-southeast-1/api/v1")
    assert ask(api_key=abroad)[0] == 200
    assert ask() == (401, "InvalidApiKey")
