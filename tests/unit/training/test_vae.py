"""The autoencoder's training stops and goes on like the rest of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.vae import Z_DIM, learned, state_of, train_vae  # noqa: E402

STEP = 0.001  # minutes: less than a step takes


def test_a_stopped_training_goes_on_and_ends(tmp_path: Path) -> None:
    folder = tmp_path / "vae"
    assert not learned(folder, 1)
    train_vae(folder, STEP)
    first = torch.load(state_of(folder), weights_only=True)
    assert learned(folder, STEP)
    assert not learned(folder, 100 * STEP)
    train_vae(folder, first["counts"][1] / 60 + STEP)
    second = torch.load(state_of(folder), weights_only=True)
    assert second["counts"][0] > first["counts"][0] >= 1
    assert second["counts"][1] > first["counts"][1]
    name = "decoder.conv_in.weight"
    assert not torch.equal(first["vae"][name], second["vae"][name])
    config = json.loads((folder / "config.json").read_text())
    assert len(config["latents_mean"]) == len(config["latents_std"]) == Z_DIM


def test_a_state_without_its_folder_is_not_learned(tmp_path: Path) -> None:
    torch.save({"counts": (9, 600.0)}, state_of(tmp_path / "vae"))
    assert not learned(tmp_path / "vae", 10)


def test_an_autoencoder_from_elsewhere_needs_no_training(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    assert learned(tmp_path / "vae", 100)
