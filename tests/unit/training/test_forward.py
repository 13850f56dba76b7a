"""The training forward is the stock pipeline's first step."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from diffusers import AutoencoderKLQwenImage21, QwenImage21Pipeline  # noqa: E402
from PIL import Image  # noqa: E402

from training.build import (  # noqa: E402
    Shape,
    build_encoder,
    build_miniature_processor,
    build_scheduler,
    build_transformer,
)
from training.forward import Batch, encode_text, system_length, tokenise, velocity  # noqa: E402
from training.tokenizer import build_tokenizer  # noqa: E402

TINY = Shape(text_hidden=64, text_layers=2, layers=2, heads=2, head_dim=32, mlp_ratio=2, latent_channels=8)
SIDE = 64


@pytest.fixture(scope="module")
def pipe() -> Any:
    torch.manual_seed(3)
    tokenizer = build_tokenizer()
    vae = AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=8,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, False],
        latents_mean=[0.1] * 8,
        latents_std=[0.3] * 8,
        in_channels=64,
        out_channels=64,
        patch_size=4,
    )
    made = QwenImage21Pipeline(
        scheduler=build_scheduler(),
        vae=vae,
        text_encoder=build_encoder(tokenizer, TINY).eval(),
        processor=build_miniature_processor(tokenizer),
        transformer=build_transformer(TINY).eval(),
    )
    with torch.no_grad():
        for parameter in made.transformer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    made.set_progress_bar_config(disable=True)
    return made


def _first_step(pipe: Any, prompt: str, images: list[Image.Image], noise: Any) -> tuple[Any, Any]:
    """Velocity and input latents of the stock pipeline at its first step."""
    seen: dict[str, Any] = {}
    stock = pipe.transformer.forward

    def spy(*args: Any, **kwargs: Any) -> Any:
        answer = stock(*args, **kwargs)
        if not seen:
            seen["inputs"] = kwargs["hidden_states"][:, : -noise.shape[1]]
            seen["velocity"] = answer[0][:, -noise.shape[1] :]
            seen["time"] = kwargs["timestep"]
        return answer

    pipe.transformer.forward = spy
    try:
        pipe(
            prompt,
            image=images or None,
            num_inference_steps=2,
            output_resolution=SIDE,
            height=SIDE,
            width=SIDE,
            latents=noise,
            output_type="latent",
        )
    finally:
        pipe.transformer.forward = stock
    assert float(seen["time"][0]) == pytest.approx(1.0)
    return seen["velocity"], seen["inputs"]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_training_forward_gives_the_pipelines_first_velocity(pipe: Any, count: int) -> None:
    rng = np.random.default_rng(count)
    sizes = [(64, 64), (96, 32), (32, 96)][:count]
    images = [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    prompts = ["Make the red circle blue.", "把图1的背景换成图2的背景，把黄色星星放到中间。"]
    noises = torch.randn(2, 16, TINY.latent_channels)
    wanted, inputs = [], []
    with torch.no_grad():
        for prompt, noise in zip(prompts, noises, strict=True):
            answer, latents = _first_step(pipe, prompt, images, noise[None])
            wanted.append(answer)
            inputs.append(latents)
        tokenizer = pipe.processor.tokenizer
        grids = tuple((h // 16, w // 16) for w, h in [(64, 64), (96, 32), (32, 96)][:count])
        ids, lengths = tokenise(tokenizer, prompts, grids)
        batch = Batch(
            ids=ids,
            lengths=lengths,
            dropped=system_length(tokenizer),
            image_token=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
            inputs=torch.cat(inputs),
            input_grids=grids,
            target_grid=(4, 4),
        )
        text = encode_text(pipe.text_encoder, batch)
        got = velocity(pipe.transformer, text, batch, noises[:, None].repeat(1, 2, 1, 1), torch.ones(2, 2))
    assert lengths[0] != lengths[1]
    for which in range(2):
        for target in range(2):
            assert torch.allclose(got[which, target], wanted[which][0], atol=1e-5)
    assert float(torch.cat(wanted).std()) > 0.05
