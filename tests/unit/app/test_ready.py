"""A server that could make no picture says so at once, in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.app_worker import StartRefused, refuse_unready
from danqing.profiles.loader import load_profile
from danqing.settings import load

PROFILE = """
text = "One of our own."

[checkpoints.real]
source = "{folder}"
relation = "near"
licence = "ours"

[checkpoints.real.native]
canvas = "follow"
multiple = 32

[models."*"]
checkpoint = "real"
steps = 4
"""


def test_a_folder_that_is_not_there_is_named_before_a_worker_is_started(tmp_path: Path) -> None:
    folder, path = tmp_path / "weights", tmp_path / "real.toml"
    path.write_text(PROFILE.format(folder=folder), "utf-8")
    settings = load(data=tmp_path / "data", engine={"profile": str(path)})
    with pytest.raises(StartRefused, match=f"names the folder {folder}, which is not there"):
        refuse_unready(settings, load_profile(str(path)))
    folder.mkdir()
    refuse_unready(settings, load_profile(str(path)))
