"""The page on checks: its settings load, its classifier and its plug-in work, its tables name what there is."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from danqing import settings
from danqing.core.checking import KINDS, Role, Verdict
from danqing.core.raster import Raster, Size
from danqing.prompts.check import GROUP, SIDE, Classifier, Plugged

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "checks.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RED = Raster(Size(40, 20), 3, bytes((200, 30, 40)) * 800)


def block(kind: str, having: str) -> str:
    (found,) = [body for name, body in BLOCK.findall(PAGE) if name == kind and having in body]
    return str(found)


@pytest.mark.parametrize(("score", "allowed"), [(0.1, True), (0.9, False)])
async def test_the_classifier_that_it_shows_answers(score: float, allowed: bool) -> None:
    sizes = []

    def unsafe(image: Any) -> float:
        sizes.append(image.size)
        return score

    space: dict[str, Any] = {"unsafe": unsafe}
    exec(block("python", "FastAPI"), space)
    asked: list[dict[str, Any]] = []

    async def post(body: bytes) -> bytes:
        asked.append(json.loads(body))
        transport = httpx.ASGITransport(space["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            answer = await client.post("/look", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
        return answer.content

    told = await Classifier(post).look(RED, Role.OUTPUT, "a cat")
    assert told == Verdict(allowed=allowed, reason="nudity", score=score)
    assert sizes == [(40, 20)]
    members = re.findall(
        r"^\| `(\w+)` \|", PAGE.split("of the question")[1].split("of the answer")[0], re.MULTILINE
    )
    assert sorted(members) == sorted(asked[0])


async def test_the_plug_in_that_it_shows_answers() -> None:
    space: dict[str, Any] = {}
    exec(block("python", "png: bytes"), space)
    plugged = Plugged(space["look"], seconds=30.0, at_once=1)
    assert (await plugged.look(RED, Role.INPUT, "a cat")).allowed
    await plugged.close()
    assert GROUP in tomllib.loads(block("toml", "entry-points"))["project"]["entry-points"]


def test_the_settings_that_it_shows_and_names_are_there(tmp_path: Path) -> None:
    (tmp_path / "danqing.toml").write_text(block("toml", "[checks]"), encoding="utf-8")
    read = settings.load(data=tmp_path)
    assert read.checks.classifier == "http://127.0.0.1:9000/look"
    known = {name for name, _, _ in settings.fields()}
    named = set(re.findall(r"`(checks\.\w+)", PAGE))
    assert named <= known
    assert {name for name in known if name.startswith("checks.")} - named == {
        "checks.enabled",
        "checks.words",
    }


def test_its_figures_are_those_of_the_code() -> None:
    assert f"more than {SIDE} pixels" in PAGE
    assert all(f"`{kind}`" in PAGE for kind in KINDS.values())
