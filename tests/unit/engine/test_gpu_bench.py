"""The bench of true sizes is ready for a GPU: its small version runs whole, and what it would build is as large as
said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    QwenImage21Transformer2DModel,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

from bench import gpu
from bench.true_size import Unfilled, _enlarge
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_1x import tiny_1x

SMALLEST = gpu.Terms(torch.device("cpu"), torch.float32, small=True, side=64, half=32, steps=3, widths=(1, 2))


def test_the_small_version_runs_and_judges_nothing(tmp_path: Path, one_thread: None) -> None:
    figures = gpu.measure(SMALLEST, out=tmp_path)
    assert set(figures) == {f"{name} {title}" for name in gpu.NAMES for title in gpu.EXPERIMENTS}
    assert len(list(tmp_path.glob("*.json"))) == len(figures)
    assert set(figures["2.1 steps"]) >= {f"{inputs}_ratio" for inputs in range(4)}
    assert all(value > 0 for name, value in figures["1.x steps"].items() if "variation" not in name)
    assert figures["1.x autoencoder"]["read_gain"] > 0
    verdicts = {row.split("|")[-2].strip() for row in gpu.table(figures, small=True)[2:]}
    assert verdicts <= {"not judged: small version", "not measured"}


def test_figures_of_a_gpu_are_judged() -> None:
    figures = {"1.x steps": {"1_stock_step": 0.47, "1_ratio": 0.9}}
    rows = gpu.table(figures, small=False)
    assert "confirmed" in next(row for row in rows if "a forward" in row)
    assert "REFUTED" in next(row for row in rows if "slower than stock, 1.x" in row)
    assert "not measured" in next(row for row in rows if "eight at once" in row)


BILLIONS = {"1.x": (20.43, 8.29, 0.127), "2.1": (7.1, 8.77, 0.34)}


@pytest.mark.parametrize("name", gpu.NAMES)
def test_what_would_be_built_has_the_published_number_of_parameters(name: str, tmp_path: Path) -> None:
    folder = tiny_1x(tmp_path, "edit_plus") if name == "1.x" else tiny_checkpoint(tmp_path)
    _enlarge(folder, name)
    kinds: tuple[Any, Any, Any] = (
        (QwenImageTransformer2DModel, Qwen2_5_VLForConditionalGeneration, AutoencoderKLQwenImage)
        if name == "1.x"
        else (QwenImage21Transformer2DModel, Qwen3VLForConditionalGeneration, AutoencoderKLQwenImage21)
    )
    transformer, encoder, vae = kinds
    with Unfilled():
        made = [
            transformer.from_config(transformer.load_config(folder / "transformer")),
            encoder(encoder.config_class.from_pretrained(folder / "text_encoder")),
            vae.from_config(vae.load_config(folder / "vae")),
        ]
    for module, billions in zip(made, BILLIONS[name], strict=True):
        assert sum(p.numel() for p in module.parameters()) / 1e9 == pytest.approx(billions, rel=0.02)
