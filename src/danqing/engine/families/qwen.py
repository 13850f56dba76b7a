"""What the Qwen-Image families share: marks in prompts, the schedule's shift, statistics of latents, levels of pixels.
Knows none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from danqing.engine.families.contract import NotFinite

_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def without_marks(prompt: str) -> str:
    """The prompt without the marks that stand for pictures: in a prompt they have no meaning."""
    before = None
    while before != prompt:  # what is left when a mark is cut out may be another one
        before = prompt
        for mark in _MARKS:
            prompt = prompt.replace(mark, "")
    return prompt


def shift(config: Any, tokens: int) -> float:
    """mu of the dynamic schedule, linear in the target's tokens; defaults as in the stock `calculate_shift`."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (top - base) / (high - low)
    return float(tokens * slope + (base - slope * low))


def channels(values: Sequence[float], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A number a channel, shaped for latents (batch, channels, 1, height, width)."""
    return torch.tensor(values).view(1, -1, 1, 1, 1).to(device, dtype)


def to_picture(pixels: torch.Tensor) -> Image.Image:
    """A decoded picture (channels, height, width) in [-1, 1], rounded to levels. Raises NotFinite."""
    if not torch.isfinite(pixels).all():
        raise NotFinite("the decoded picture has numbers that are not finite")
    levels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
    return Image.fromarray((levels * 255).round().astype(np.uint8))
