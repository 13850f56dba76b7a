"""The limits of the newer families on a real engine: the largest pictures, the most inputs, an edit by function."""

from __future__ import annotations

import base64
import io
import urllib.request
from typing import Any

import pytest
from PIL import Image

from tests.support.served import Served, until

E4 = "/api/v1/services/aigc/image2image/image-synthesis"


def picture(width: int, height: int, colour: str = "red") -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def size(url: str) -> tuple[int, int]:
    with urllib.request.urlopen(url, timeout=60) as got:
        found: tuple[int, int] = Image.open(io.BytesIO(got.read())).size
    return found


def asked(model: str, pictures: int = 0, **parameters: Any) -> dict[str, Any]:
    content = [{"image": picture(240 + 16 * number, 240)} for number in range(pictures)]
    messages = [{"role": "user", "content": [*content, {"text": "a red house"}]}]
    return {"model": model, "input": {"messages": messages}, "parameters": {"seed": 1, **parameters}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "pictures", "parameters", "wanted"),
    [
        ("wan2.7-image-pro", 0, {"size": "4K", "n": 1}, (4096, 4096)),
        ("wan2.7-image", 0, {"size": "11584*1448", "n": 1}, (11584, 1448)),
        ("wan2.7-image", 9, {"size": "1K", "n": 1}, (1264, 816)),
        ("qwen-image-2.1-turbo", 10, {"size": "512*512"}, (512, 512)),
    ],
)
def test_a_picture_of_every_limit_comes_back_in_its_size(
    served: Served, model: str, pictures: int, parameters: dict[str, Any], wanted: tuple[int, int]
) -> None:
    status, body, _ = served.post(asked(model, pictures, **parameters))
    assert status == 200, body
    (choice,) = body["output"]["choices"]
    assert size(choice["message"]["content"][0]["image"]) == wanted


@pytest.mark.slow
def test_an_edit_by_function_comes_back_as_large_as_its_picture(served: Served) -> None:
    given = {"function": "description_edit", "prompt": "make it winter", "base_image_url": picture(600, 513)}
    body = {"model": "wanx2.1-imageedit", "input": given}
    status, submitted, _ = served.post(body, E4, **{"X-DashScope-Async": "enable"})
    assert status == 200, submitted
    task = submitted["output"]["task_id"]

    def ended() -> Any:
        output = served.get(f"/api/v1/tasks/{task}")[1]["output"]
        return output if output["task_status"] not in ("PENDING", "RUNNING") else None

    output = until(ended, 120.0)
    assert output["task_status"] == "SUCCEEDED", output
    assert size(output["results"][0]["url"]) == (600, 513)
