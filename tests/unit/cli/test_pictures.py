"""Where pictures go is looked at before they are made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from danqing.cli.main import app


def test_a_folder_that_cannot_be_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "scene.png"
    file.write_bytes(b"")
    words = ["generate", "a star", "-o", str(file), "--server", "http://127.0.0.1:9", "--key", "k", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "danqing.cli", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"error": f"--out {file} cannot be a folder: File exists"}
    assert done.stderr == ""


def test_an_edit_without_an_instruction_is_not_an_edit_by_a_name(tmp_path: Path) -> None:
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for picture in pictures:
        picture.write_bytes(b"")
    done = CliRunner().invoke(
        app, ["edit", *map(str, pictures), "--server", "http://127.0.0.1:9", "--key", "k"]
    )
    assert done.exit_code == 2
    assert "b.png is a file" in " ".join(done.output.replace("│", "").split())
