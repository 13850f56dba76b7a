"""Checkpoints of the Qwen-Image 1.x layouts with real classes and random weights, about a megabyte each.

They draw noise; tests on them assert equality, shapes and order, never looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

from danqing.engine.processor import StillImageProcessor
from tests.support.tiny import TEMPLATE, byte_tokenizer, name_processor, stock_scheduler

PIPELINES = {
    "paint": QwenImagePipeline,
    "edit": QwenImageEditPipeline,
    "edit_plus": QwenImageEditPlusPipeline,
}


@dataclass(frozen=True, slots=True)
class Shape1x:
    """The sizes that set what a request costs. The default is as small as the classes allow."""

    layers: int = 2
    heads: int = 2
    head: int = 16
    axes: tuple[int, int, int] = (4, 6, 6)
    channels: int = 8
    vae: int = 8


BENCH_SHAPE = Shape1x(layers=6, heads=4, head=64, axes=(8, 28, 28), channels=16, vae=32)
"""Large enough that times are those of matrices and convolutions, and not of Python."""


def tiny_1x(folder: Path, kind: str, shape: Shape1x = Shape1x(), *, told_clean: bool = False) -> Path:
    """Build the checkpoint of one of `PIPELINES` in `folder`; `told_clean` as in Edit-2511 (`zero_cond_t`)."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    parts: dict[str, Any] = {
        "scheduler": stock_scheduler(),
        "vae": _vae(shape),
        "text_encoder": _encoder(tokenizer),
        "tokenizer": tokenizer,
        "transformer": _transformer(shape, told_clean),
    }
    if kind != "paint":
        parts["processor"] = _processor(tokenizer)
    PIPELINES[kind](**parts).save_pretrained(folder)
    if kind != "paint":
        name_processor(folder, "Qwen2VLProcessor")
    return folder


def _processor(tokenizer: Any) -> StillImageProcessor:
    images = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=28 * 28 * 1280)
    return StillImageProcessor(images, tokenizer, chat_template=TEMPLATE)


def _encoder(tokenizer: Any) -> Any:
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def _transformer(shape: Shape1x, told_clean: bool) -> Any:
    return QwenImageTransformer2DModel(
        in_channels=4 * shape.channels,
        out_channels=shape.channels,
        num_layers=shape.layers,
        attention_head_dim=shape.head,
        num_attention_heads=shape.heads,
        joint_attention_dim=32,
        axes_dims_rope=shape.axes,
        zero_cond_t=told_clean,
    ).eval()


def _vae(shape: Shape1x) -> Any:
    return AutoencoderKLQwenImage(
        base_dim=shape.vae,
        z_dim=shape.channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1] * shape.channels,
        latents_std=[1.5] * shape.channels,
    ).eval()


def tell_kinds(module: Any, args: Any, given: dict[str, Any]) -> Any:
    """A hook before a stock pipeline's encoder: which tokens are pictures (diffusers issue 14194)."""
    if given.get("image_grid_thw") is not None and given.get("mm_token_type_ids") is None:
        given["mm_token_type_ids"] = (given["input_ids"] == module.config.image_token_id).int()
    return args, given
