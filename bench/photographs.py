"""What becomes of a photograph in the bundled checkpoint? Measured on pictures with a photograph's statistics.

    python -m bench.photographs [--model FOLDER] [--count 24]

Each is sent through the autoencoder alone, and through an edit that should leave it as it is ("Make the picture
sharp"). PSNR in decibels over all pixels; the last line is JSON. Reads no photograph: there is none in this project.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage21
from PIL import Image

from bench.answers import EngineAnswers, profile_of
from danqing.judge.backdrops import Pixels
from danqing.judge.scenes import Case, Plan
from danqing.judge.world import Scene
from training.pictures import photograph_like
from training.vae import to_tensor

SIDE = 128


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal to noise in decibels."""
    error = float(((one.astype(np.float32) - other) ** 2).mean())
    return 10 * math.log10(255**2 / max(error, 1e-9))


def decoded(folder: Path, pictures: Sequence[Pixels]) -> list[Pixels]:
    """The pictures after the way through the autoencoder."""
    vae = AutoencoderKLQwenImage21.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    with torch.no_grad():
        drawn = [
            vae.decode(vae.encode(to_tensor([picture])).latent_dist.mode()).sample for picture in pictures
        ]
    return [
        ((one[0, :3, 0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().byte().numpy() for one in drawn
    ]


def question(seed: int, picture: Pixels) -> Case:
    """An edit of a picture that is no scene; nobody knows its right answer."""
    scene = Scene("white")
    return Case("enhance", "en", seed, "Make the picture sharp.", (picture,), picture, Plan((scene,), scene))


def main() -> None:
    """Draw, encode, edit, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--sheet", type=Path, default=Path(".eval/photographs.png"))
    options = parser.parse_args()
    folder = next(iter(profile_of(options.model).checkpoints.values())).folder
    if folder is None:
        raise SystemExit("the checkpoint is not here yet")
    rng = np.random.default_rng(4)
    pictures = [np.asarray(photograph_like(rng, (SIDE, SIDE))) for _ in range(options.count)]
    through = decoded(folder, pictures)
    edited = EngineAnswers(options.model).ask([question(n, picture) for n, picture in enumerate(pictures)])
    rows = [np.concatenate(three, axis=1) for three in zip(pictures, through, edited, strict=True)]
    options.sheet.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows[:8], axis=0)).save(options.sheet)
    line = {
        "autoencoder_psnr": round(
            float(np.mean([psnr(a, b) for a, b in zip(pictures, through, strict=True)])), 2
        ),
        "edit_psnr": round(float(np.mean([psnr(a, b) for a, b in zip(pictures, edited, strict=True)])), 2),
        "count": options.count,
    }
    print(f"{options.sheet}: a photograph's stand-in, after the autoencoder, after an edit")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
