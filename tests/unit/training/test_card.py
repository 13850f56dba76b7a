"""The model card: what is in it comes from the code, the log and the evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from danqing.judge.scenes import ROWS  # noqa: E402
from training.card import Story, write_card  # noqa: E402
from training.evaluation import evaluate  # noqa: E402

LOG = [
    {"stage": "vae", "step": 50, "loss": 0.3, "psnr": 20.0, "seconds": 60},
    {"stage": "vae", "step": 4100, "loss": 0.1, "psnr": 30.0, "seconds": 3600},
    {"stage": "denoiser", "step": 50, "samples": 900, "loss": 1.0, "misread": 2.0, "seconds": 90},
    {"stage": "evaluation", "step": 50, "overall": 0.1, "seconds": 90},
    {"stage": "denoiser", "step": 12345, "samples": 345678, "loss": 0.1, "misread": 0.3, "seconds": 7200},
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for part in ("transformer", "text_encoder", "vae"):
        folder = tmp_path / "out" / part
        folder.mkdir(parents=True)
        save_file({"weight": torch.zeros(1000, 700)}, folder / "model.safetensors")
    work = tmp_path / "work"
    work.mkdir()
    (work / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG), "utf-8")
    return tmp_path


def figures(**shares: float) -> dict[str, object]:
    return {
        "overall": 0.8,
        "rows": {row: shares.get(row, 0.9) for row in ROWS},
        "en_minus_zh": [0.012, 0.03],
        "seen": 0.81,
        "unseen": 0.7,
        "count": 25,
        "side": 128,
    }


def test_the_card_tells_what_was_done_and_how_good_it_is(run: Path) -> None:
    write_card(run / "out", run / "work", figures(style=0.31))
    card = " ".join((run / "out" / "MODEL_CARD.md").read_text("utf-8").split())
    for told in (
        "12,345 steps and 345,678 requests",
        "in 120 minutes",
        "4,100 steps in 60 minutes",
        "0.7 M parameters",
        "| `style` | 31.0% | 70% |",
        "- `style`: more lessons of it",
        "more often than not: `style` (31%).",
        "+1.2 ± 3.0 points",
        "| **all** | **80.0%** | |",
        "128x128, 192x128",
    ):
        assert told in card, told


def test_what_no_program_knows_is_taken_from_a_note(run: Path) -> None:
    (run / "work" / "NOTE.md").write_text("## How this one came about\n\nBy night.\n", "utf-8")
    write_card(run / "out", run / "work", figures())
    card = (run / "out" / "MODEL_CARD.md").read_text("utf-8")
    assert "By night." in card
    assert "more often than not" not in card


def test_a_run_that_went_on_from_a_checkpoint_says_so(run: Path) -> None:
    with (run / "work" / "log.jsonl").open("w", encoding="utf-8") as log:
        for line in ({"stage": "start", "blocks": 5}, *LOG[2:]):
            log.write(json.dumps(line) + "\n")
    write_card(run / "out", run / "work", figures())
    card = " ".join((run / "out" / "MODEL_CARD.md").read_text("utf-8").split())
    assert "went on from an older checkpoint" in card
    assert "with 5 blocks of the denoiser" in card
    assert "12,345 steps" in card
    assert "0 minutes;" not in card


def test_the_last_line_of_a_stage_counts() -> None:
    story = Story.read(json.dumps(line) for line in LOG)
    assert (story.vae["step"], story.denoiser["step"]) == (4100, 12345)
    assert Story.read([]).denoiser == {}


def test_an_evaluation_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the evaluation failed(.|\n)*nothing(.|\n)*model_index\.json"):
        evaluate(tmp_path / "nothing", 1, sheet=tmp_path / "sheet.png")
