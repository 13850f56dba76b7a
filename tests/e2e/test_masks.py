"""Editing a part of a picture through the official SDK, with local files: what is outside comes back as it was sent."""

from __future__ import annotations

import io
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any

import dashscope
import numpy as np
import pytest
from dashscope import ImageSynthesis, MultiModalConversation
from numpy.typing import NDArray
from PIL import Image

from tests.support.served import Served

pytestmark = pytest.mark.usefixtures("left_open")

SIZE = (640, 512)
BOX = (200, 100, 420, 300)

Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def sdk(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope, "base_http_api_url", served.url + "/api/v1")
    monkeypatch.setattr(dashscope, "api_key", served.key)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """Noise, in which every pixel that moved or was drawn anew shows."""
    levels = np.random.default_rng(1).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


@pytest.fixture
def mask(tmp_path: Path) -> str:
    """White in the box."""
    image = Image.new("RGB", SIZE)
    image.paste((255, 255, 255), BOX)
    image.save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


def pixels(of: str) -> Pixels:
    """Of a file or behind a link."""
    if not of.startswith("http"):
        return np.asarray(Image.open(of).convert("RGB"))
    with urllib.request.urlopen(of, timeout=30) as got:
        return np.asarray(Image.open(io.BytesIO(got.read())).convert("RGB"))


def edited(function: str, **given: Any) -> list[Pixels]:
    answer = ImageSynthesis.call(
        model="wanx2.1-imageedit", function=function, prompt="a cat", seed=3, **given
    )
    assert answer.status_code == HTTPStatus.OK, (answer.code, answer.message)
    assert answer.output.task_status == "SUCCEEDED", answer.output
    return [pixels(result.url) for result in answer.output.results]


def only_inside(made: Pixels, given: Pixels, box: tuple[int, int, int, int]) -> bool:
    """Whether the picture changed in the box, and nowhere else."""
    left, top, right, bottom = box
    changed = (made != given).any(-1)
    inside = changed[top:bottom, left:right].sum()
    return bool(inside > 0.9 * (right - left) * (bottom - top) and changed.sum() == inside)


def test_a_masked_edit_of_local_files_changes_what_is_white(photo: str, mask: str) -> None:
    made = edited("description_edit_with_mask", base_image_url=photo, mask_image_url=mask, n=2)
    assert len(made) == 2
    assert all(only_inside(one, pixels(photo), BOX) for one in made)
    assert (made[0] != made[1]).any()


def test_an_extended_picture_is_larger_and_holds_the_old_one(photo: str) -> None:
    (made,) = edited("expand", base_image_url=photo, top_scale=1.5, left_scale=1.25, n=1)
    assert made.shape == (768, 800, 3)
    assert (made[256:, 160:] == pixels(photo)).all()
    assert len(np.unique(made[:256].reshape(-1, 3), axis=0)) > 1000


def test_boxes_keep_an_edit_to_themselves(photo: str) -> None:
    answer = MultiModalConversation.call(
        model="wan2.7-image",
        messages=[{"role": "user", "content": [{"image": photo}, {"text": "a cat"}]}],
        bbox_list=[[list(BOX)]],
        n=1,
        size="1280*1024",
    )
    assert answer.status_code == HTTPStatus.OK, (answer.code, answer.message)
    (item,) = answer.output.choices[0].message.content
    given = Image.open(photo).resize((1280, 1024), Image.Resampling.LANCZOS)
    left, top, right, bottom = BOX
    assert only_inside(pixels(item["image"]), np.asarray(given), (2 * left, 2 * top, 2 * right, 2 * bottom))


def test_a_mask_of_another_size_fails_the_task(photo: str, tmp_path: Path) -> None:
    Image.new("L", (512, 512), 255).save(tmp_path / "other.png")
    answer = ImageSynthesis.call(
        model="wanx2.1-imageedit",
        function="description_edit_with_mask",
        prompt="a cat",
        base_image_url=photo,
        mask_image_url=str(tmp_path / "other.png"),
    )
    assert answer.output.task_status == "FAILED"
    assert answer.output.code == "InvalidParameter"
    assert "same size" in answer.output.message
