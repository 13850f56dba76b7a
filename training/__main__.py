"""One command makes the checkpoint: `python -m training --out FOLDER [--minutes N] [--resume]`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage21

from training.build import Shape
from training.denoiser import Run, lessons_from, train_denoiser
from training.export import export
from training.tokenizer import build_tokenizer
from training.vae import train_vae

VAE_SHARE = 0.12


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--work", type=Path, default=Path(".train"), help="state and log while training")
    parser.add_argument("--minutes", type=float, default=110.0, help="time for everything")
    parser.add_argument("--vae-minutes", type=float, help=f"of which the autoencoder takes this ({VAE_SHARE:.0%})")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --work")
    parser.add_argument("--export-only", action="store_true", help="write --out from the state in --work and stop")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    work: Path = options.work
    vae_minutes = options.vae_minutes or VAE_SHARE * options.minutes
    if not (options.resume or options.export_only):
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "vae" / "config.json").is_file():
        train_vae(work / "vae", vae_minutes, options.seed)
    vae = AutoencoderKLQwenImage21.from_pretrained(work / "vae")
    tokenizer, shape = build_tokenizer(), Shape()
    run = Run.start(tokenizer, shape)
    if (work / "state.pt").is_file():
        run.load(work / "state.pt")
    if not options.export_only:
        # A resumed run must not see its first lessons again.
        lessons = lessons_from(vae, tokenizer, options.seed + run.step)
        train_denoiser(run, lessons, folder=work, minutes=options.minutes - vae_minutes)
    export(run.average, vae=work / "vae", tokenizer=tokenizer, shape=shape, folder=options.out)


if __name__ == "__main__":
    main()
