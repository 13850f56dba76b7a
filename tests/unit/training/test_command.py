"""The command line of training: what would destroy a run is refused, and what was begun is gone on with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training import command  # noqa: E402
from training.build import Shape  # noqa: E402
from training.command import parse  # noqa: E402
from training.denoiser import STATE  # noqa: E402
from training.vae import Z_DIM  # noqa: E402

TINY = Shape(
    text_hidden=64, text_layers=1, layers=2, heads=1, head_dim=32, mlp_ratio=2, latent_channels=Z_DIM
)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit):
        parse(list(words))
    return capsys.readouterr().err


def test_help_names_the_share_of_the_autoencoder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    assert "(10%)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("work", ["made", "made/work"])
def test_the_state_is_not_kept_in_the_folder_that_is_replaced(
    work: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"--work {work} would go with it" in refused(capsys, "--out", "made", "--work", work)


def test_the_checkpoint_may_lie_beside_the_state() -> None:
    assert parse(["--out", ".train/miniature"]).work.name == "work"


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan", "ten"])
def test_minutes_are_more_than_none(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected a number of minutes above 0" in refused(capsys, "--out", "made", "--minutes", minutes)


def test_a_run_that_is_there_is_gone_on_with_or_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    here = ("--out", str(tmp_path / "out"), "--work", str(work))
    assert "no state of a denoiser" in refused(capsys, *here, "--export-only")
    assert "no checkpoint folder" in refused(capsys, *here, "--start", str(tmp_path / "nowhere"))
    work.mkdir()
    (work / STATE).touch()
    assert "--resume" in refused(capsys, *here)
    (tmp_path / "model_index.json").touch()
    assert "has begun" in refused(capsys, *here, "--start", str(tmp_path), "--resume")
    assert parse([*here, "--resume"]).resume
    assert parse([*here, "--export-only"]).export_only


def test_a_run_from_nothing_then_one_that_starts_with_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*words: str, work: Path, out: Path, layers: int) -> None:
        shape = Shape(*(getattr(TINY, name) if name != "layers" else layers for name in TINY.__slots__))
        monkeypatch.setattr(command, "Shape", lambda: shape)
        fixed = ["--out", str(out), "--work", str(work), "--threads", "1", "--questions", "0"]
        monkeypatch.setattr(sys, "argv", ["training", *fixed, *words])
        command.main()

    first, second = tmp_path / "first", tmp_path / "second"
    train("--minutes", "0.02", "--vae-minutes", "0.001", work=first, out=tmp_path / "a", layers=2)
    assert (tmp_path / "a" / "model_index.json").is_file()
    started = ("--start", str(tmp_path / "a"), "--minutes", "0.02")
    train(*started, work=second, out=tmp_path / "b", layers=3)
    assert json.loads((second / "log.jsonl").read_text().splitlines()[0]) == {"stage": "start", "blocks": 2}
    steps = torch.load(second / STATE, weights_only=True)["counts"][0]
    train("--resume", "--minutes", "0.05", work=second, out=tmp_path / "b", layers=3)
    state = torch.load(second / STATE, weights_only=True)
    assert state["counts"][0] > steps >= 1
    assert state["since"] > 0
    config = json.loads((tmp_path / "b" / "transformer" / "config.json").read_text())
    assert config["num_layers"] == 3
    vaes = [(tmp_path / made / "vae" / "diffusion_pytorch_model.safetensors") for made in ("a", "b")]
    assert vaes[0].read_bytes() == vaes[1].read_bytes()


def test_processes_begin_with_the_weights_of_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "Shape", lambda: TINY)
    begun = {}
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        work = tmp_path / name
        work.mkdir()
        torch.manual_seed(len(begun))
        options = parse(["--out", str(tmp_path / "out"), "--work", str(work), "--resume", "--seed", seed])
        tokenizer = command._tokenizer(work / "tokenizer")
        command._begin(options, tokenizer)
        begun[name] = command._student(work, tokenizer).average
    same = [torch.equal(begun["a"][part], begun["b"][part]) for part in begun["a"]]
    assert all(same)
    assert not all(torch.equal(begun["a"][part], begun["c"][part]) for part in begun["a"])
