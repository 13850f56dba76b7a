"""The command line of training refuses what would destroy its own state."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from training.command import parse


@pytest.mark.parametrize("work", ["made", "made/work"])
def test_the_state_is_not_kept_in_the_folder_that_is_replaced(
    work: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["--out", "made", "--work", work])
    assert f"--work {work}" in capsys.readouterr().err


def test_the_checkpoint_may_lie_beside_the_state() -> None:
    assert parse(["--out", ".train/miniature"]).work.name == "work"
