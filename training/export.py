"""Writes the checkpoint folder in the layout of Qwen-Image-2.1, in half precision, for the stock pipeline to load.

Knows where each part goes and nothing of how it was trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage21, QwenImage21Pipeline, QwenImage21Transformer2DModel
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from training.build import Shape, build_encoder, build_miniature_processor, build_scheduler, build_transformer
from training.files import replace_folder


def export(average: dict[str, Tensor], *, vae: Path, tokenizer: Any, shape: Shape, folder: Path) -> None:
    """Replaces `folder` whole, the model card too: its figures are of other weights."""
    pipe = _pipeline(average, vae=vae, tokenizer=tokenizer, shape=shape)
    with replace_folder(folder) as fresh:
        pipe.save_pretrained(fresh, safe_serialization=True)
        pipe.processor.tokenizer.save_pretrained(fresh / "tokenizer")
        _name_stock_processor(fresh)
        _forget_whence(fresh / "vae" / "config.json")
        for path in fresh.rglob("*.safetensors"):
            path.chmod(0o644)


def _pipeline(average: dict[str, Tensor], *, vae: Path, tokenizer: Any, shape: Shape) -> Any:
    encoder, transformer = build_encoder(tokenizer, shape), build_transformer(shape)
    encoder.load_state_dict(_part(average, "encoder."))
    transformer.load_state_dict(_part(average, "transformer."))
    half = torch.bfloat16
    return QwenImage21Pipeline(
        scheduler=build_scheduler(),
        vae=AutoencoderKLQwenImage21.from_pretrained(vae).to(torch.float16),
        text_encoder=encoder.to(half),
        processor=build_miniature_processor(tokenizer),
        transformer=transformer.to(half),
    )


def weights_of(folder: Path) -> dict[str, Tensor]:
    """The reverse: the weights of an exported folder, named as a run names them."""
    encoder = Qwen3VLForConditionalGeneration.from_pretrained(folder / "text_encoder")
    transformer = QwenImage21Transformer2DModel.from_pretrained(folder / "transformer")
    parts = {"encoder.": encoder, "transformer.": transformer}
    return {
        prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()
    }


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def _forget_whence(path: Path) -> None:
    """diffusers writes down the folder a part was loaded from, which is nobody else's business."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("_name_or_path", None)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _name_stock_processor(folder: Path) -> None:
    """Our class needs no torchvision but nobody else knows it: the files name the stock one."""
    for path, keys in (
        (folder / "model_index.json", {"processor": ["transformers", "Qwen3VLProcessor"]}),
        (folder / "processor" / "processor_config.json", {"processor_class": "Qwen3VLProcessor"}),
        (folder / "processor" / "tokenizer_config.json", {"processor_class": "Qwen3VLProcessor"}),
        (folder / "tokenizer" / "tokenizer_config.json", {}),
    ):
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            content |= keys
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
