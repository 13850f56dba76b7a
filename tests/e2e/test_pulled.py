"""From a hub to a picture: weights are pulled, served, and both checkpoints answer for one API name."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.hub import FakeHub, running
from tests.support.served import danqing, serve
from tests.support.tiny_1x import tiny_1x

PROFILE = """
text = "two tiny checkpoints of a hub"
[checkpoints.paint]
source = "Maker/Paint"
relation = "near"
licence = "none"
language = false
rewriter = "off"
native = { multiple = 16 }
[checkpoints.edit]
source = "Maker/Edit"
relation = "near"
licence = "none"
language = false
rewriter = "off"
native = { multiple = 16, input_area = 4096 }
loading = { offload = "auto" }
[presets.paint]
checkpoint = "paint"
steps = 2
[presets.edit]
checkpoint = "edit"
steps = 2
[models."qwen-image-2.0"]
preset = "paint"
edits = "edit"
"""


def asked(*images: str) -> dict[str, Any]:
    content = [*({"image": image} for image in images), {"text": "a star"}]
    return {
        "model": "qwen-image-2.0",
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": {"size": "512*512", "seed": 1},
    }


@pytest.fixture
def picture() -> str:
    file = io.BytesIO()
    Image.effect_noise((512, 512), 40).convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_what_was_pulled_from_a_hub_paints_and_edits_under_one_name(tmp_path: Path, picture: str) -> None:
    repos = {
        "Maker/Paint": tiny_1x(tmp_path / "paint", "paint"),
        "Maker/Edit": tiny_1x(tmp_path / "edit", "edit_plus", told_clean=True),
    }
    profile, data = tmp_path / "p.toml", tmp_path / "data"
    profile.write_text(PROFILE)
    with running(FakeHub(repos)) as hub:
        done = danqing("models", "pull", str(profile), "--data", str(data), HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    server = serve(data, profile, HF_ENDPOINT="http://127.0.0.1:9")
    try:
        for images in ((), (picture,)):
            status, told, _ = server.post(asked(*images))
            assert status == 200, told
            assert told["usage"]["image_count"] == 1
    finally:
        server.stop()
