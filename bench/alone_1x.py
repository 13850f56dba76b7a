"""How fast is one request to a Qwen-Image 1.x checkpoint alone, against the stock pipelines of diffusers?

    python -m bench.alone_1x [--pairs 15] [--steps 8]

As `bench.alone`: the same weights (random, in the shapes of 1.x) and number format (fp32), one thread, the two in
turns, medians of processor time, the autoencoder counted. The stock pipelines are told which tokens are pictures, as
the engine tells its own encoder (diffusers issue 14194), so that both do the same work. Then the autoencoder apart:
for one frame, as videos' own convolutions and in the plane. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers import AutoencoderKLQwenImage, DiffusionPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from bench.alone import PROMPT, SIDE, bench_engine, compare, engine_run, make_work, pictures
from danqing.core.events import Event
from danqing.engine import flat
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.loop import StepEngine
from danqing.engine.processor import build_processor
from danqing.profiles.loader import Native
from tests.support.tiny_1x import BENCH_SHAPE, tell_kinds, tiny_1x

CASES = {"text to image": ("paint", 0), "one input": ("edit_plus", 1), "three inputs": ("edit_plus", 3)}
READ = SIDE * SIDE
"""Pixels that both read of an input, instead of a million."""


def stock_of(folder: Path, kind: str) -> Any:
    """The stock pipeline of a checkpoint."""
    given = {} if kind == "paint" else {"processor": build_processor(folder)}
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **given)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.text_encoder.register_forward_pre_hook(tell_kinds, with_kwargs=True)
    return pipeline


def engine_of(folder: Path, steps: int) -> tuple[StepEngine, list[Event]]:
    """The engine with the same checkpoint, and what it says."""
    family = QwenImage1(folder, torch.device("cpu"), torch.float32)
    native = Native(multiple=16, input_area=READ)
    engine = bench_engine(folder, family, steps=steps, native=native)
    heard: list[Event] = []
    engine.listen(heard.append)
    return engine, heard


def alone(spare: Path, pairs: int, steps: int) -> dict[str, float]:
    """Stock time over ours, by case."""
    ratios: dict[str, float] = {}
    folders = {kind: tiny_1x(spare / kind, kind, BENCH_SHAPE) for kind, _ in CASES.values()}
    print(f"{'case':<22}{'stock ms':>10}{'engine ms':>11}{'ratio':>8}")
    for name, (kind, inputs) in CASES.items():
        pipeline = stock_of(folders[kind], kind)
        engine, heard = engine_of(folders[kind], steps)
        given = {"image": pictures(inputs)} if inputs else {}

        def stock(pipeline: Any = pipeline, given: dict[str, Any] = given) -> object:
            noise = torch.Generator().manual_seed(1)
            size = {"height": SIDE, "width": SIDE, "num_inference_steps": steps}
            return pipeline(prompt=PROMPT, true_cfg_scale=1.0, generator=[noise], **size, **given).images

        one, other = compare(stock, engine_run(engine, heard, make_work(inputs, 1)), pairs)
        ratios[name] = one / other
        print(f"{name:<22}{one * 1e3:>10.1f}{other * 1e3:>11.1f}{one / other:>8.2f}")
    return ratios


def autoencoder(pairs: int) -> dict[str, float]:
    """Stock time over ours for one frame, reading and drawing; both must agree to 1e-5."""
    torch.manual_seed(0)
    stock = AutoencoderKLQwenImage(base_dim=32).eval()
    ours = AutoencoderKLQwenImage(base_dim=32).eval()
    ours.load_state_dict(stock.state_dict())
    flat.flatten(ours)
    pixels = torch.rand(1, 3, 1, 2 * SIDE, 2 * SIDE) * 2 - 1
    ratios: dict[str, float] = {}
    with torch.inference_mode():
        latents = stock.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(flat.read(ours, pixels), latents, atol=1e-5, rtol=0)
        torch.testing.assert_close(flat.draw(ours, latents), stock.decode(latents).sample, atol=1e-5, rtol=0)
        for name, theirs, mine in (
            ("reading", lambda: stock.encode(pixels), lambda: flat.read(ours, pixels)),
            ("drawing", lambda: stock.decode(latents), lambda: flat.draw(ours, latents)),
        ):
            one, other = compare(theirs, mine, pairs)
            ratios[name] = one / other
            print(f"{name:<22}{one * 1e3:>10.1f}{other * 1e3:>11.1f}{one / other:>8.2f}")
    return ratios


def measure(*, pairs: int = 15, steps: int = 8) -> dict[str, Any]:
    """The figures as a dictionary; tables on the way. Sets torch to one thread."""
    torch.set_num_threads(1)
    look = {"VAE_IMAGE_SIZE": READ, "CONDITION_IMAGE_SIZE": READ * (384 / 1024) ** 2}
    with tempfile.TemporaryDirectory() as spare, mock.patch.multiple(pipeline_qwenimage_edit_plus, **look):
        whole = alone(Path(spare), pairs, steps)
    parts = autoencoder(pairs)
    return {
        "load": [round(load, 2) for load in os.getloadavg()],
        "ratios": {name: round(ratio, 3) for name, ratio in (whole | parts).items()},
        "alone_1x_ratio": round(min(whole.values()), 3),
        "vae_ratio": round(min(parts.values()), 3),
    }


def main() -> None:
    """The command."""
    read = argparse.ArgumentParser()
    read.add_argument("--pairs", type=int, default=15)
    read.add_argument("--steps", type=int, default=8)
    asked = read.parse_args()
    print(json.dumps(measure(pairs=asked.pairs, steps=asked.steps)))


if __name__ == "__main__":
    main()
