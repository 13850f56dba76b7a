"""What a newcomer copies from a manual works with nothing changed but the address, the key and the pictures: programs
on the official SDK, and command lines of `curl`.

The server paints the colour of the last picture it was given, grey where it was given none.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import dashscope
import pytest
import requests
from dashscope import ImageSynthesis, MultiModalConversation
from dashscope.aigc.image_generation import ImageGeneration
from dashscope.api_entities.dashscope_response import Message
from PIL import Image

from tests.support.open_house import OpenHouse, open_house

pytestmark = pytest.mark.usefixtures("left_open")

GENERATION = "/services/aigc/multimodal-generation/generation"
BEIJING, SINGAPORE = "/api/v1", "/ap-southeast-1/api/v1"
"""Two regions have two addresses, and keys of their own."""

RED, GREEN, BLUE, GREY = (200, 30, 40), (30, 190, 60), (40, 60, 210), (128, 128, 128)
EDIT = {"n": 2, "negative_prompt": " ", "prompt_extend": True, "watermark": False}
PALETTE = {
    "#C2D1E6": "23.51%",
    "#CDD8E9": "20.13%",
    "#B5C8DB": "15.88%",
    "#C0B5B4": "13.27%",
    "#DAE0EC": "10.11%",
    "#636574": "8.93%",
    "#CACAD2": "5.55%",
    "#CBD4E4": "2.62%",
}


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenHouse]:
    with open_house(tmp_path_factory.mktemp("painted")) as house:
        house.deed("makekey abroad acme ap-southeast-1")
        yield house


@pytest.fixture(params=[BEIJING, SINGAPORE], ids=["beijing", "singapore"])
def base(request: pytest.FixtureRequest, painted: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a region; its key stands in the environment, where the SDK looks when it is imported."""
    key = painted.key if request.param == BEIJING else painted.house.others["abroad"]
    monkeypatch.setenv("DASHSCOPE_API_KEY", key)
    monkeypatch.setattr(dashscope, "api_key", key)
    monkeypatch.setattr(dashscope, "base_http_api_url", painted.url + request.param)
    return str(painted.url + request.param)


@pytest.fixture
def home(painted: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address and the key of one region."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", painted.key)
    monkeypatch.setattr(dashscope, "api_key", painted.key)
    monkeypatch.setattr(dashscope, "base_http_api_url", painted.url + BEIJING)
    return painted.url + BEIJING


@pytest.fixture
def three(painted: OpenHouse) -> list[str]:
    """Links to three pictures."""
    return [f"http://{painted.house.place}/400x600/{colour}.png" for colour in ("red", "green", "blue")]


def content(*images: str, text: str) -> list[dict[str, str]]:
    return [*({"image": image} for image in images), {"text": text}]


def said(*images: str, text: str = "the woman of picture 1 sits down as picture 3 shows") -> list[Any]:
    return [{"role": "user", "content": content(*images, text=text)}]


def saved(link: str, path: Path) -> Path:
    """Download in pieces, by the library that such programs use."""
    answer = requests.get(link, stream=True, timeout=300)
    answer.raise_for_status()
    with path.open("wb") as file:
        for piece in answer.iter_content(chunk_size=8192):
            file.write(piece)
    return path


def seen(path: Path) -> tuple[tuple[int, int], Any]:
    """Size and colour of a PNG file."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size, image.convert("RGB").getpixel((0, 0))


def edited(answer: Any, folder: Path) -> list[Any]:
    """What a program sees that goes through an answer's only choice and keeps every picture of it."""
    assert answer.status_code == HTTPStatus.OK, (answer.code, answer.message)
    links = [item["image"] for item in answer.output.choices[0].message.content]
    return [seen(saved(link, folder / f"output{i}.png")) for i, link in enumerate(links)]


# the official SDK: calls answered at once


def test_three_pictures_by_link_make_two(base: str, three: list[str], tmp_path: Path) -> None:
    answer = MultiModalConversation.call(
        api_key=os.getenv("DASHSCOPE_API_KEY"),
        model="qwen-image-edit-max",
        messages=said(*three),
        stream=False,
        n=2,
        watermark=False,
        negative_prompt=" ",
        prompt_extend=True,
        size="1024*1536",
    )
    assert edited(answer, tmp_path) == [((1024, 1536), BLUE)] * 2
    told = json.loads(json.dumps(answer, ensure_ascii=False))
    assert (told["status_code"], told["code"], told["message"]) == (200, "", "")
    assert told["output"]["choices"][0]["finish_reason"] == "stop"
    assert told["output"]["choices"][0]["message"]["role"] == "assistant"
    counted = {"image_count": 2, "width": 1024, "height": 1536}
    assert {name: told["usage"][name] for name in counted} == counted


@pytest.mark.parametrize(
    ("name", "asked", "size"),
    [
        ("image.png", "1536*1024", (1536, 1024)),
        ("image.jpeg", "1536*1024", (1536, 1024)),
        ("image.webp", "1920*1080", (1920, 1088)),
    ],
)
def test_a_file_as_base64_of_its_guessed_kind(
    home: str, name: str, asked: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """The family makes sides that 16 divides."""
    path = tmp_path / name
    Image.new("RGB", (640, 480), "white").save(path)
    kind, _ = mimetypes.guess_type(str(path))
    image = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    answer = MultiModalConversation.call(
        api_key=os.getenv("DASHSCOPE_API_KEY"),
        model="qwen-image-edit-max",
        messages=said(image, text="a red bicycle on a muddy path, as deep as the map shows"),
        stream=False,
        n=2,
        watermark=False,
        negative_prompt=" ",
        prompt_extend=True,
        size=asked,
    )
    assert edited(answer, tmp_path) == [(size, (255, 255, 255))] * 2


def test_links_base64_and_local_files_in_one_message(home: str, three: list[str], tmp_path: Path) -> None:
    path = tmp_path / "图 3.png"
    Image.new("RGB", (400, 600), GREEN).save(path)
    image = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    for last in (f"file://{path}", str(path)):
        answer = MultiModalConversation.call(
            model="qwen-image-edit-plus", messages=said(three[0], image, last), n=1, size="512*768"
        )
        assert edited(answer, tmp_path) == [((512, 768), GREEN)]


def test_a_poster_from_words(base: str, tmp_path: Path) -> None:
    answer = MultiModalConversation.call(
        api_key=os.getenv("DASHSCOPE_API_KEY"),
        model="qwen-image-2.0-pro",
        messages=said(text='A hand-drawn poster: three puppies play ball. The title reads "Come and Play!"'),
        result_format="message",
        stream=False,
        watermark=False,
        prompt_extend=True,
        negative_prompt="blurred, low resolution, too many fingers",
        size="2048*2048",
    )
    assert edited(answer, tmp_path) == [((2048, 2048), GREY)]
    told = json.loads(json.dumps(answer, ensure_ascii=False))
    counted = {"image_count": 1, "width": 2048, "height": 2048}
    assert {name: told["usage"][name] for name in counted} == counted


def test_a_failure_is_told_by_status_code_and_message(base: str, three: list[str]) -> None:
    answer = MultiModalConversation.call(api_key="sk-xxx", model="qwen-image-edit-max", messages=said(*three))
    assert (answer.status_code, answer.code) == (401, "InvalidApiKey")
    assert answer.message == "Invalid API-key provided."


# the official SDK: tasks


def kept(answer: Any, folder: Path) -> list[Any]:
    """What a program sees that keeps every result under the name its link ends with."""
    assert answer.status_code == HTTPStatus.OK, (answer.code, answer.message)
    found = []
    for result in answer.output.results:
        name = PurePosixPath(unquote(urlparse(result.url).path)).parts[-1]
        assert name.endswith(".png")
        (folder / name).write_bytes(requests.get(result.url, timeout=300).content)
        found.append(seen(folder / name))
    assert len({path.name for path in folder.iterdir()}) == len(found)
    return found


@pytest.mark.parametrize(
    ("model", "size"),
    [("qwen-image-plus", "1664*928"), ("wan2.2-t2i-flash", "1024*1024"), ("wan2.5-t2i-preview", "1280*1280")],
)
def test_one_call_that_waits_for_its_task(home: str, model: str, size: str, tmp_path: Path) -> None:
    answer = ImageSynthesis.call(
        api_key=os.getenv("DASHSCOPE_API_KEY"),
        model=model,
        prompt="a flower shop with a wooden door",
        negative_prompt="",
        n=1,
        size=size,
        prompt_extend=True,
        watermark=False,
    )
    width, height = map(int, size.split("*"))
    assert kept(answer, tmp_path) == [((width, height), GREY)]


def test_a_task_begun_waited_for_and_fetched(base: str, tmp_path: Path) -> None:
    key = os.getenv("DASHSCOPE_API_KEY")
    given = {"prompt": "a flower shop", "negative_prompt": "", "n": 2, "size": "1024*1024", "seed": 12345}
    task = ImageSynthesis.async_call(
        api_key=key, model="wan2.2-t2i-flash", prompt_extend=True, watermark=False, **given
    )
    assert (task.status_code, task.output.task_status) == (HTTPStatus.OK, "PENDING")
    waited = ImageSynthesis.wait(task, api_key=key)
    assert kept(waited, tmp_path) == [((1024, 1024), GREY)] * 2
    again = ImageSynthesis.fetch(task, api_key=key)
    assert (again.status_code, again.output.task_status) == (HTTPStatus.OK, "SUCCEEDED")
    assert [one.url for one in again.output.results] == [one.url for one in waited.output.results]


def test_colours_by_their_shares(home: str, tmp_path: Path) -> None:
    task = ImageGeneration.async_call(
        model="wan2.7-image-pro",
        messages=[Message(role="user", content=[{"text": "a lake in the morning"}])],
        n=1,
        size="1K",
        thinking_mode=True,
        color_palette=[{"hex": colour, "ratio": share} for colour, share in PALETTE.items()],
    )
    answer = ImageGeneration.wait(task)
    assert edited(answer, tmp_path) == [((1024, 1024), GREY)]


# curl


@pytest.fixture(scope="module")
def program() -> str:
    found = shutil.which("curl")
    if found is None:
        pytest.skip("there is no curl on this machine")
    return found


def curl(program: str, url: str, *words: str, body: Any = None) -> Any:
    """The JSON that a command line prints; `--location` and the headers stand as they are commonly written."""
    command = [program, "--silent", "--show-error", "--location", url]
    key = os.environ["DASHSCOPE_API_KEY"]
    command += ["--header", f"Authorization: Bearer {key}", *words]
    if body is not None:
        data = json.dumps(body, ensure_ascii=False, indent=4)
        command += ["--header", "Content-Type: application/json", "--data", data]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def order(model: str, parameters: dict[str, Any], *images: str, text: str = "坐下来，穿图2中的裙子") -> Any:
    return {
        "model": model,
        "input": {"messages": said(*images, text=text)},
        "parameters": parameters,
    }


def curled(program: str, link: str, path: Path) -> Any:
    subprocess.run([program, "-s", "-f", "-o", str(path), link], timeout=120, check=True)
    return seen(path)


def ended(program: str, base: str, task_id: str) -> Any:
    """A task's last answer, asked for again and again as the second step says."""
    for _ in range(300):
        told = curl(program, f"{base}/tasks/{task_id}", "-X", "GET")
        if told["output"]["task_status"] not in ("PENDING", "RUNNING"):
            return told
        time.sleep(0.1)
    raise AssertionError("the task does not end")


@pytest.mark.parametrize("pictures", [1, 3])
def test_curl_edits(program: str, base: str, three: list[str], pictures: int, tmp_path: Path) -> None:
    size = (1536, 1024) if pictures == 1 else (1024, 1536)
    images = [three[0].replace(".png", ".webp")] if pictures == 1 else three
    parameters = {**EDIT, "size": f"{size[0]}*{size[1]}"}
    told = curl(program, base + GENERATION, body=order("qwen-image-edit-max", parameters, *images))
    assert set(told) == {"output", "usage", "request_id"}
    assert told["usage"] == {"image_count": 2, "width": size[0], "height": size[1]}
    (choice,) = told["output"]["choices"]
    assert (choice["finish_reason"], choice["message"]["role"]) == ("stop", "assistant")
    found = [curled(program, item["image"], tmp_path / "output.png") for item in choice["message"]["content"]]
    colour = RED if pictures == 1 else BLUE
    assert [size for size, _ in found] == [size] * 2
    assert max(abs(a - b) for _, pixel in found for a, b in zip(pixel, colour, strict=True)) <= 8


def test_curl_is_told_that_its_key_is_wrong(
    program: str, base: str, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-xxxx")
    told = curl(program, base + GENERATION, body=order("qwen-image-edit-max", EDIT, *three))
    assert set(told) == {"request_id", "code", "message"}
    assert (told["code"], told["message"]) == ("InvalidApiKey", "Invalid API-key provided.")


def test_curl_makes_a_poster(program: str, home: str, tmp_path: Path) -> None:
    body = order(
        "qwen-image-max", {"size": "1664*928", "prompt_extend": True, "watermark": False}, text="海报"
    )
    told = curl(program, home + GENERATION, body=body)
    (item,) = told["output"]["choices"][0]["message"]["content"]
    assert curled(program, item["image"], tmp_path / "a.png") == ((1664, 928), GREY)


PROMPTED = {
    "/services/aigc/text2image/image-synthesis": {
        "model": "wan2.2-t2i-flash",
        "input": {"prompt": "一间有着精致窗户的花店", "negative_prompt": "人物"},
        "parameters": {"size": "1024*1024", "n": 2},
    },
    "/services/aigc/image2image/image-synthesis": {
        "model": "wan2.5-i2i-preview",
        "input": {"prompt": "将花卉连衣裙换成一件复古风格的蕾丝长裙", "images": ["<picture>"]},
        "parameters": {"size": "1024*1024", "n": 2},
    },
}


@pytest.mark.parametrize("path", PROMPTED)
def test_curl_begins_a_task_and_asks_for_it(
    program: str, base: str, three: list[str], path: str, tmp_path: Path
) -> None:
    body = json.loads(json.dumps(PROMPTED[path]).replace("<picture>", three[1].replace("400x600", "768x768")))
    told = curl(program, base + path, "-H", "X-DashScope-Async: enable", body=body)
    assert set(told) == {"output", "request_id"}
    assert told["output"]["task_status"] == "PENDING"
    answer = ended(program, base, told["output"]["task_id"])
    assert answer["output"]["task_status"] == "SUCCEEDED", answer
    assert answer["output"]["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 2, "FAILED": 0}
    assert answer["usage"]["image_count"] == 2
    colour = GREEN if "image2image" in path else GREY
    found = [curled(program, one["url"], tmp_path / "output.png") for one in answer["output"]["results"]]
    assert found == [((1024, 1024), colour)] * 2


def test_curl_begins_a_task_of_messages_with_a_palette(program: str, home: str, tmp_path: Path) -> None:
    colours = [{"hex": colour, "ratio": share} for colour, share in PALETTE.items()]
    body = order("wan2.7-image-pro", {"size": "1K", "n": 1, "color_palette": colours}, text="湖边的清晨")
    url = home + "/services/aigc/image-generation/generation"
    told = curl(program, url, "-H", "X-DashScope-Async: enable", body=body)
    answer = ended(program, home, told["output"]["task_id"])
    assert answer["output"]["task_status"] == "SUCCEEDED", answer
    (item,) = answer["output"]["choices"][0]["message"]["content"]
    assert curled(program, item["image"], tmp_path / "a.png") == ((1024, 1024), GREY)
