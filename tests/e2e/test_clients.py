"""Other people's clients, unchanged, with nothing but a base URL and a key of ours.

`make clients` gets them into `.clients`, each apart, at the versions that are named there; DANQING_TEST_CLIENTS names
another folder. A client that is not there is skipped. What each is asked for stands in the compatibility page.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.open_house import OpenHouse, open_house
from tests.wire.house import COLOURS

ROOT = Path(__file__).parents[2]
CLIENTS = Path(os.environ.get("DANQING_TEST_CLIENTS", ROOT / ".clients"))
SUPPORT = ROOT / "tests" / "support" / "clients"
SKILL = CLIENTS / "qwencloud-ai" / "skills/image/qwencloud-image-generation/scripts/image.py"
BAOYU = CLIENTS / "baoyu-skills" / "skills/baoyu-image-gen/scripts/main.ts"
NODE = CLIENTS / "node"
LITELLM = CLIENTS / "litellm" / "bin" / "python"
BLUE, GREY, RED = COLOURS["blue"], COLOURS["grey"], COLOURS["red"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenHouse]:
    with open_house(tmp_path_factory.mktemp("clients")) as painted:
        yield painted


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    for name in ("red", "blue"):
        Image.new("RGB", (640, 800), COLOURS[name]).save(folder / f"{name}.png")
    return folder


def needs(*places: Path) -> pytest.MarkDecorator:
    missing = [str(place) for place in places if not place.exists()]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}; make clients")


def run(*command: object, **environment: str) -> str:
    """What a client prints; its own settings come from `environment` alone."""
    prefixes = ("DASHSCOPE", "OPENAI", "PYTHON", "QWEN")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, env={**kept, **environment}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def look(path: Path) -> tuple[tuple[int, int], object]:
    with Image.open(path) as image:
        return image.size, image.convert("RGB").getpixel((0, 0))


def fetched(links: list[str]) -> list[tuple[tuple[int, int], object]]:
    found = []
    for link in links:
        with (
            urllib.request.urlopen(link, timeout=60) as answer,
            Image.open(io.BytesIO(answer.read())) as image,
        ):
            found.append((image.size, image.convert("RGB").getpixel((0, 0))))
    return found


# Alibaba's own skill for agents, in Python


def skill(house: OpenHouse, out: Path, model: str, *more: str, **request: object) -> dict[str, object]:
    asked = json.dumps({"poll_interval_s": 1, "prompt": "a red circle", **request})
    command = [
        sys.executable,
        SKILL,
        "--model",
        model,
        "--request",
        asked,
        "--output",
        out,
        "--print-response",
    ]
    told = run(
        *command,
        *more,
        HOME=str(out.parent),
        DASHSCOPE_API_KEY=house.key,
        QWEN_BASE_URL=house.url + "/compatible-mode/v1",
    )
    return dict(json.loads(told))


@pytest.mark.slow
@needs(SKILL)
@pytest.mark.parametrize("how", [[], ["--async"]])
def test_the_qwencloud_skill_makes_a_picture(house: OpenHouse, tmp_path: Path, how: list[str]) -> None:
    skill(house, tmp_path / "made.png", "wan2.6-t2i", *how, n=1, size="1280*1280")
    assert look(tmp_path / "made.png") == ((1280, 1280), GREY)


@pytest.mark.slow
@needs(SKILL)
def test_the_qwencloud_skill_makes_a_poster_in_a_task(house: OpenHouse, tmp_path: Path) -> None:
    skill(house, tmp_path / "made.png", "qwen-image-plus", size="1664*928")
    assert look(tmp_path / "made.png") == ((1664, 928), GREY)


@pytest.mark.slow
@needs(SKILL)
@pytest.mark.parametrize(
    ("model", "size"), [("qwen-image-2.0-pro", "512*768"), ("qwen-image-edit-max", "512*768")]
)
def test_the_qwencloud_skill_edits_local_files(
    house: OpenHouse, tmp_path: Path, pictures: Path, model: str, size: str
) -> None:
    given = [str(pictures / "red.png"), str(pictures / "blue.png")]
    told = skill(house, tmp_path / "out", model, reference_images=given, n=2, size=size)
    assert told["image_count"] == 2
    assert [look(path) for path in sorted((tmp_path / "out").glob("*.png"))] == [((512, 768), BLUE)] * 2


@pytest.mark.slow
@needs(SKILL)
def test_the_qwencloud_skill_merges_local_files_in_a_task(
    house: OpenHouse, tmp_path: Path, pictures: Path
) -> None:
    given = [str(pictures / "blue.png"), str(pictures / "red.png")]
    skill(house, tmp_path / "made.png", "wan2.5-i2i-preview", reference_images=given, n=1, size="1024*1024")
    assert look(tmp_path / "made.png") == ((1024, 1024), RED)


@pytest.mark.slow
@needs(SKILL)
def test_the_qwencloud_skill_edits_with_wan(house: OpenHouse, tmp_path: Path, pictures: Path) -> None:
    given = [str(pictures / "red.png")]
    skill(house, tmp_path / "made.png", "wan2.7-image", reference_images=given, n=1, size="1K")
    assert look(tmp_path / "made.png")[1] == RED


@pytest.mark.slow
@needs(SKILL)
def test_the_qwencloud_skill_asks_for_a_series_and_keeps_its_first_picture(
    house: OpenHouse, tmp_path: Path
) -> None:
    skill(house, tmp_path / "made.png", "wan2.7-image-pro", enable_sequential=True, n=3, size="1K")
    assert look(tmp_path / "made.png")[0] == (1024, 1024)


@pytest.mark.slow
@needs(SKILL)
def test_the_qwencloud_skill_tells_a_story(house: OpenHouse, tmp_path: Path) -> None:
    told = skill(house, tmp_path / "out", "wan2.6-image", "--async", enable_interleave=True, max_images=2)
    assert {part["type"] for part in told["interleaved_content"]} == {"text", "image"}  # type: ignore[attr-defined]
    assert (tmp_path / "out" / "interleaved_output.md").exists()


# a skill that many agents have, in TypeScript


@pytest.mark.slow
@needs(BAOYU, NODE / "node_modules/.bin/tsx")
@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["--size", "1024x1536"], (1024, 1536)),
        (["--model", "qwen-image-2.0", "--ar", "16:9", "--quality", "normal"], (1820, 1024)),
    ],
)
def test_the_baoyu_skill_makes_a_picture(
    house: OpenHouse, tmp_path: Path, words: list[str], size: tuple[int, int]
) -> None:
    told = run(
        *(NODE / "node_modules/.bin/tsx", BAOYU, "--prompt", "a red circle", "--provider", "dashscope"),
        *("--image", tmp_path / "made.png", *words),
        HOME=str(tmp_path),
        DASHSCOPE_API_KEY=house.key,
        DASHSCOPE_BASE_URL=house.url,
    )
    assert "made.png" in told
    assert look(tmp_path / "made.png") == (size, GREY)


# in the OpenAI-compatible mode


@pytest.mark.slow
@needs(NODE / "node_modules/openai")
def test_the_openai_sdk_for_node_makes_pictures(house: OpenHouse) -> None:
    told = json.loads(
        run(
            *(shutil.which("node") or "node", SUPPORT / "openai_images.mjs", NODE),
            OPENAI_BASE_URL=house.url + "/compatible-mode/v1",
            OPENAI_API_KEY=house.key,
        )
    )
    assert fetched(told["links"]) == [((1024, 1024), GREY)] * 2
    assert told["created"] > 1_700_000_000
    assert told["refused"] == ["NotFoundError", 404, "model_not_supported"]


@pytest.mark.slow
@needs(LITELLM)
def test_litellm_makes_pictures(house: OpenHouse) -> None:
    told = json.loads(
        run(
            LITELLM, SUPPORT / "litellm_images.py", house.url + "/compatible-mode/v1", house.key
        ).splitlines()[-1]
    )
    assert fetched(told["links"]) == [((1024, 1024), GREY)] * 2
    assert told["refused"] is True
