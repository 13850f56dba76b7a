"""Where pictures go is looked at before they are made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


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
