"""The parts of the miniature with fresh weights: encoder, denoiser, scheduler, processor. Knows no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImage21Transformer2DModel
from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from danqing.engine.processor import StillImageProcessor
from training.tokenizer import CHAT_TEMPLATE


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the miniature. Tests use a smaller one."""

    text_hidden: int = 192
    text_layers: int = 3
    layers: int = 8
    heads: int = 4
    head_dim: int = 64
    mlp_ratio: int = 3
    latent_channels: int = 32


SHIFT = 1.0986  # ln 3: with few tokens nearly all is decided at high noise


def build_encoder(tokenizer: Any, shape: Shape) -> Any:
    """A Qwen3-VL whose vision tower is silent."""
    token = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": (len(tokenizer) + 15) // 16 * 16,
            "hidden_size": shape.text_hidden,
            "intermediate_size": shape.text_hidden * 8 // 3 // 32 * 32,
            "num_hidden_layers": shape.text_layers,
            "num_attention_heads": shape.text_hidden // 32,
            "num_key_value_heads": shape.text_hidden // 32,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": shape.text_hidden,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    encoder = Qwen3VLForConditionalGeneration(config)
    _silence_vision(encoder.model.visual)
    return encoder


def _silence_vision(visual: Any) -> None:
    """The denoiser reads pictures from their latents; a vision tower that says nothing need not be trained."""
    with torch.no_grad():
        for merger in (visual.merger, *visual.deepstack_merger_list):
            merger.linear_fc2.weight.zero_()
            merger.linear_fc2.bias.zero_()


def build_transformer(shape: Shape) -> Any:
    """The block-causal denoiser."""
    half = (shape.head_dim - 8) // 2 // 2 * 2
    return QwenImage21Transformer2DModel(
        in_channels=shape.latent_channels,
        out_channels=shape.latent_channels,
        num_layers=shape.layers,
        attention_head_dim=shape.head_dim,
        num_attention_heads=shape.heads,
        context_in_dim=shape.text_hidden,
        mlp_ratio=shape.mlp_ratio,
        axes_dims_rope=(shape.head_dim - 2 * half, half, half),
    )


def build_scheduler() -> Any:
    """The same shift for every number of tokens: the miniature has few at any size it was taught."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        use_dynamic_shifting=True,
        base_shift=SHIFT,
        max_shift=SHIFT,
        base_image_seq_len=256,
        max_image_seq_len=8192,
        shift_terminal=0.02,
        time_shift_type="exponential",
    )


def build_miniature_processor(tokenizer: Any) -> Any:
    """Cuts pictures so that one slot is 2x2 latents, and never resizes."""
    images = Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        min_pixels=32 * 32,
        max_pixels=2048 * 2048,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return StillImageProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE)
