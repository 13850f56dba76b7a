"""The written folder is one the stock pipeline loads, and it draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from diffusers import QwenImage21Pipeline  # noqa: E402
from PIL import Image  # noqa: E402

from danqing.engine.processor import build_processor  # noqa: E402
from training.build import Shape  # noqa: E402
from training.denoiser import Run  # noqa: E402
from training.export import export, weights_of  # noqa: E402
from training.tokenizer import build_tokenizer  # noqa: E402
from training.vae import Z_DIM, build_vae  # noqa: E402

TINY = Shape(
    text_hidden=64, text_layers=1, layers=1, heads=1, head_dim=32, mlp_ratio=2, latent_channels=Z_DIM
)


def test_an_exported_folder_is_loaded_and_drawn_with_by_the_stock_pipeline(tmp_path: Path) -> None:
    build_vae().save_pretrained(tmp_path / "vae")
    tokenizer = build_tokenizer()
    folder = tmp_path / "made"
    run = Run.start(tokenizer, TINY)
    folder.mkdir()
    (folder / "MODEL_CARD.md").write_text("of other weights")
    export(run.average, vae=tmp_path / "vae", tokenizer=tokenizer, shape=TINY, folder=folder)
    assert not (folder / "MODEL_CARD.md").exists()
    index = json.loads((folder / "model_index.json").read_text())
    assert index["processor"] == ["transformers", "Qwen3VLProcessor"]
    parts = ("scheduler", "text_encoder", "tokenizer", "processor", "transformer", "vae")
    assert all((folder / part).is_dir() for part in parts)
    assert not [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pickle"}]
    written = [path.read_text("utf-8") for path in folder.rglob("*.json")]
    assert not [text for text in written if str(tmp_path) in text]
    pipe = QwenImage21Pipeline.from_pretrained(folder, processor=build_processor(folder), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    again = Run.start(tokenizer, TINY)
    again.adopt(weights_of(folder))
    for name, value in run.average.items():
        if name.startswith("reader."):
            continue  # it only helps to learn
        assert torch.allclose(again.average[name], value, atol=1e-2), name
    asked = Image.new("RGB", (64, 64), "red")
    drawn = pipe("把它变成蓝色", image=[asked, asked], num_inference_steps=2, output_resolution=64).images
    assert drawn[0].size == (64, 64)
    assert pipe.processor.tokenizer.encode(" red") == tokenizer.encode(" red")
