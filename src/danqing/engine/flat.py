"""The Qwen-Image autoencoder as a network of pictures. Knows that one class, and no size, schedule or checkpoint.

`AutoencoderKLQwenImage` is made for videos: its convolutions are causal in time, and before the first frame there is
nothing but zeros. For a single frame all but the last slice in time of every kernel meets zeros only, so the slice
alone, as a convolution in the plane, computes the same with a third of the work, and the caches between frames are
never read.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d
from torch import nn
from torch.nn import functional


class PlaneConv(nn.Module):
    """What a causal convolution does to one frame, (batch, channels, 1, height, width)."""

    def __init__(self, conv: Any) -> None:
        """Takes the kernel's last slice in time over; padding and strides in the plane stay."""
        super().__init__()
        left, right, top, bottom = conv._padding[:4]  # noqa: SLF001  # no other name for it
        if left != right or top != bottom:
            raise ValueError("a convolution that pads one side only is none of this autoencoder")
        self.padding, self.stride = (top, left), conv.stride[1:]
        kernel = conv.weight.detach()[:, :, -1]
        self.weight = nn.Parameter(kernel.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)

    def forward(self, frame: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """See the class. `cache_x` is the stock layer's, and None for a first frame."""
        if frame.shape[2] != 1 or cache_x is not None:
            raise ValueError("this autoencoder was made for single pictures")
        plane = functional.conv2d(frame[:, :, 0], self.weight, self.bias, self.stride, self.padding)
        return plane[:, :, None]


def flatten(vae: Any) -> None:
    """Exchange every convolution that reads past frames for its plane. The autoencoder takes single pictures after
    that, by `read` and `draw`."""
    for module in list(vae.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, QwenImageCausalConv3d) and name != "time_conv":
                setattr(module, name, PlaneConv(part))


def read(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The mode of the posterior of a picture (batch, 3, 1, height, width) in [-1, 1]: latents
    (batch, channels, 1, height / 8, width / 8), not normalised."""
    moments: torch.Tensor = vae.quant_conv(vae.encoder(pixels))
    return moments.chunk(2, dim=1)[0]


def draw(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The picture of latents that are not normalised, clamped to [-1, 1]; shapes as `read` has them."""
    pixels: torch.Tensor = vae.decoder(vae.post_quant_conv(latents))
    return pixels.clamp(-1.0, 1.0)
