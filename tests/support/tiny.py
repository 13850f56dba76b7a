"""A checkpoint of the Qwen-Image-2.1 layout with real classes and random weights, about one megabyte.

It draws noise; tests on it assert equality, shapes and order, never looks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from danqing.engine.processor import StillImageProcessor

SPECIAL = [
    *(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|object_ref_start|>",
        "<|object_ref_end|>",
        "<|box_start|>",
    ),
    *(
        "<|box_end|>",
        "<|quad_start|>",
        "<|quad_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
    ),
    *("<|image_pad|>", "<|video_pad|>"),
]

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that set what a request costs. The default is as small as the classes allow."""

    text: int = 32
    text_layers: int = 2
    text_head: int = 16
    sections: tuple[int, int, int] = (2, 3, 3)
    vision: int = 32
    vision_layers: int = 2
    layers: int = 2
    heads: int = 2
    head: int = 16
    ratio: int = 2
    axes: tuple[int, int, int] = (4, 6, 6)
    channels: int = 8
    vae: Mapping[str, Any] = field(
        default_factory=lambda: {
            "base_dim": 8,
            "decoder_base_dim": 8,
            "dim_mult": [1, 1, 1, 1, 1],
            "temperal_downsample": [False, True, True, True],
        }
    )


MINIATURE_SHAPE = Shape(
    text=192,
    text_layers=3,
    text_head=32,
    sections=(6, 5, 5),
    vision=64,
    vision_layers=1,
    layers=6,
    heads=4,
    head=64,
    ratio=3,
    axes=(8, 28, 28),
    channels=16,
    vae={
        "base_dim": 48,
        "decoder_base_dim": 64,
        "dim_mult": [1, 2, 2],
        "temperal_downsample": [False, False],
        "in_channels": 64,
        "out_channels": 64,
        "patch_size": 4,
    },
)
"""As large as the bundled miniature, for measuring times where that is absent."""


def tiny_checkpoint(folder: Path, shape: Shape = Shape()) -> Path:
    """Build the checkpoint in `folder` and return it; seconds, no network."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    pipeline = QwenImage21Pipeline(
        scheduler=stock_scheduler(),
        vae=_vae(shape),
        text_encoder=_encoder(tokenizer, shape),
        processor=_processor(tokenizer),
        transformer=_transformer(shape),
    )
    pipeline.save_pretrained(folder)
    name_processor(folder, "Qwen3VLProcessor")
    return folder


def stock_scheduler() -> Any:
    """With the settings of all Qwen-Image checkpoints."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=0.9,
        base_image_seq_len=256,
        max_image_seq_len=8192,
        shift_terminal=0.02,
    )


def name_processor(folder: Path, kind: str) -> None:
    """diffusers refuses classes of modules that it did not import, so the index names the class we stand in
    for."""
    path = folder / "model_index.json"
    index: dict[str, Any] = json.loads(path.read_text())
    index["processor"] = ["transformers", kind]
    path.write_text(json.dumps(index, indent=2))


def byte_tokenizer() -> Any:
    """Every byte a token, and the marks of the Qwen family."""
    letters = {letter: place for place, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(
        vocab=letters,
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _processor(tokenizer: Any) -> StillImageProcessor:
    images = Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        min_pixels=32 * 32,
        max_pixels=1024 * 1024,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return StillImageProcessor(images, tokenizer, chat_template=TEMPLATE)


def _encoder(tokenizer: Any, shape: Shape) -> Any:
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.text,
        "intermediate_size": shape.text * 2,
        "num_hidden_layers": shape.text_layers,
        "num_attention_heads": shape.text // shape.text_head,
        "num_key_value_heads": shape.text // shape.text_head // 2,
        "head_dim": shape.text_head,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": list(shape.sections),
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": shape.vision_layers,
        "hidden_size": shape.vision,
        "intermediate_size": shape.vision * 2,
        "num_heads": 2,
        "out_hidden_size": shape.text,
        "patch_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    return Qwen3VLForConditionalGeneration(config).eval()


def _transformer(shape: Shape) -> Any:
    return QwenImage21Transformer2DModel(
        in_channels=shape.channels,
        out_channels=shape.channels,
        num_layers=shape.layers,
        attention_head_dim=shape.head,
        num_attention_heads=shape.heads,
        context_in_dim=shape.text,
        mlp_ratio=shape.ratio,
        axes_dims_rope=shape.axes,
    ).eval()


def _vae(shape: Shape) -> Any:
    return AutoencoderKLQwenImage21(
        z_dim=shape.channels,
        num_res_blocks=1,
        latents_mean=[0.1] * shape.channels,
        latents_std=[1.5] * shape.channels,
        **shape.vae,
    ).eval()
