"""Checkpoints of true size with random weights, made on the device that runs them: no download, and no file of weights.

Parameters are laid out on the meta device and filled where they are computed, so that 20 B of them take seconds. The
numbers are noise; times, memory and operations are those of real weights, as the same dense kernels run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

from danqing.engine.cache import Budget
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.processor import build_processor
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_1x import tell_kinds, tiny_1x

SPREAD = 0.02
TRUE = {
    "1.x": {
        "transformer": {"zero_cond_t": True},
        "text": {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 128000,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        "vision": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    },
    "2.1": {
        "transformer": {},
        "text": {
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 262144,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
        "vision": {
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "out_hidden_size": 4096,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    },
}
"""What the encoders' published configurations say; the classes of diffusers have the true sizes for defaults."""


class Unfilled(TorchFunctionMode):
    """Inside, memory that is asked for without saying where is on the meta device: parameters; tables are not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func is torch.empty and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)


def fill(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Give every parameter random numbers on the device, and take the tables there."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            filled = torch.empty(parameter.shape, dtype=dtype, device=device)
            if parameter.dim() == 1 or name == "gamma":
                filled.fill_(1.0 if name in {"weight", "gamma"} else 0.0)
            else:
                filled.normal_(0.0, SPREAD)
            setattr(part, name, nn.Parameter(filled, requires_grad=False))
    return module.to(device).eval()


def of_diffusers(kind: Any, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    with Unfilled():
        made = kind.from_config(kind.load_config(folder))
    return fill(made, device, dtype)


def of_transformers(kind: Any, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    with Unfilled():
        made = kind(kind.config_class.from_pretrained(folder))
    return fill(made, device, dtype)


def _enlarge(folder: Path, name: str) -> None:
    """Give a tiny checkpoint's configurations the true sizes, and take its weights away."""
    for part, sizes in (("transformer", TRUE[name]["transformer"]), ("vae", {})):
        path = folder / part / "config.json"
        told = json.loads(path.read_text())
        path.write_text(json.dumps({key: told[key] for key in ("_class_name", "_diffusers_version")} | sizes))
    path = folder / "text_encoder" / "config.json"
    told = json.loads(path.read_text())
    for key in ("text", "vision"):
        told[f"{key}_config"] |= TRUE[name][key]
        told[f"{key}_config"].pop("layer_types", None)
    path.write_text(json.dumps(told))
    for file in folder.rglob("*.safetensors"):
        file.unlink()


@dataclass(slots=True)
class Made:
    """A family, and what a stock pipeline on the same modules is made of."""

    name: str
    family: Any
    stock: Any
    vae: Any
    """As diffusers has it: that of 1.x is another copy, since the family changes its own."""

    @contextmanager
    def stocked(self) -> Iterator[Any]:
        """The stock pipeline, with its own attention, which the family's takes the place of otherwise."""
        own = self.family.transformer.attn_processors
        if self.name == "2.1":
            from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21AttnProcessor

            self.family.transformer.set_attn_processor(QwenImage21AttnProcessor())
        try:
            yield self.stock
        finally:
            self.family.transformer.set_attn_processor(own)


def make(
    name: str, spare: Path, *, small: bool, device: torch.device, dtype: torch.dtype, keep: Budget
) -> Made:
    """The checkpoint "1.x" (Edit-2511) or "2.1", of true size or as small as its classes allow."""
    folder = tiny_1x(spare, "edit_plus", told_clean=True) if name == "1.x" else tiny_checkpoint(spare)
    if not small:
        _enlarge(folder, name)
    kinds = (
        (QwenImageTransformer2DModel, AutoencoderKLQwenImage, Qwen2_5_VLForConditionalGeneration, QwenImage1)
        if name == "1.x"
        else (
            QwenImage21Transformer2DModel,
            AutoencoderKLQwenImage21,
            Qwen3VLForConditionalGeneration,
            QwenImage21,
        )
    )
    transformer, vae, encoder, family = kinds

    def loaded(kind: Any) -> Any:
        return lambda folder, **_: of_diffusers(kind, folder, device, dtype)

    def read(folder: Path, **_: Any) -> Any:
        return of_transformers(encoder, folder, device, dtype), {"missing_keys": []}

    with ExitStack() as patches:
        for kind in (transformer, vae):
            patches.enter_context(mock.patch.object(kind, "from_pretrained", loaded(kind)))
        patches.enter_context(mock.patch.object(encoder, "from_pretrained", read))
        made = family(folder, device, dtype, keep)
    own = of_diffusers(vae, folder / "vae", device, dtype) if name == "1.x" else made.vae
    return Made(name, made, _stock(name, folder, made, own), own)


def _stock(name: str, folder: Path, family: Any, vae: Any) -> Any:
    processor = build_processor(folder)
    parts = {
        "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        "vae": vae,
        "text_encoder": family.encoder,
        "processor": processor,
        "transformer": family.transformer,
    }
    if name == "1.x":
        made = QwenImageEditPlusPipeline(tokenizer=processor.tokenizer, **parts)
        made.text_encoder.register_forward_pre_hook(tell_kinds, with_kwargs=True)
    else:
        made = QwenImage21Pipeline(**parts)
    made.set_progress_bar_config(disable=True)
    return made
