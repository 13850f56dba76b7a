"""What a worker tells of itself reaches whoever takes orders: what it could never make is refused before it has it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.pictures import save
from tests.support.served import serve, write_profile
from tests.support.tiny_1x import tiny_1x


def asked(pictures: int) -> dict[str, Any]:
    uri = "data:image/png;base64," + base64.b64encode(save(Image.new("RGB", (512, 512)), "PNG")).decode()
    content = [*[{"image": uri}] * pictures, {"text": "make it green"}]
    return {
        "model": "qwen-image-edit-plus",
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": {"size": "512*512", "seed": 1},
    }


def test_more_pictures_than_the_checkpoint_looks_at_are_refused_at_once(tmp_path: Path) -> None:
    folder = tiny_1x(tmp_path / "edit", "edit")
    server = serve(tmp_path / "data", write_profile(tmp_path / "one.toml", folder))
    try:
        assert server.post(asked(1))[0] == 200
        status, told, _ = server.post(asked(2))
        assert (status, told["code"]) == (400, "InvalidParameter")
        assert "images: " in told["message"]
        assert "1 input images at most, and 2 were given" in told["message"]
    finally:
        assert server.stop() == 0
