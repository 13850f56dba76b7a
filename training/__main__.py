"""One command makes the checkpoint: `python -m training --out FOLDER [--minutes N] [--resume]`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage21
from transformers import AutoTokenizer

from training.build import Shape
from training.denoiser import Run, lessons_from, train_denoiser
from training.export import export, weights_of
from training.files import replace_folder
from training.tokenizer import build_tokenizer
from training.vae import train_vae

VAE_SHARE = 0.12


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--work", type=Path, default=Path(".train"), help="state and log while training")
    parser.add_argument("--minutes", type=float, default=110.0, help="time for everything")
    parser.add_argument(
        "--vae-minutes", type=float, help=f"of which the autoencoder takes this ({VAE_SHARE:.0%})"
    )
    parser.add_argument(
        "--start", type=Path, help="a checkpoint folder of ours to go on from, with fresh optimisers"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the state in --work")
    parser.add_argument(
        "--export-only", action="store_true", help="write --out from the state in --work and stop"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def _tokenizer(folder: Path) -> Any:
    """Made once: numbers of tokens must not move under a run when the world gets a word more."""
    if not folder.is_dir():
        with replace_folder(folder) as fresh:
            build_tokenizer().save_pretrained(fresh)
    return AutoTokenizer.from_pretrained(folder)


def main() -> None:
    """Autoencoder, denoiser, export, in this order; each goes on where it was."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    work: Path = options.work
    vae_minutes = options.vae_minutes or VAE_SHARE * options.minutes
    if not (options.resume or options.export_only):
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    if options.start and not options.resume:
        for part in ("vae", "tokenizer"):
            shutil.copytree(options.start / part, work / part)
    if not (work / "vae" / "config.json").is_file():
        train_vae(work / "vae", vae_minutes, options.seed)
    vae = AutoencoderKLQwenImage21.from_pretrained(work / "vae").float()
    tokenizer, shape = _tokenizer(work / "tokenizer"), Shape()
    run = Run.start(tokenizer, shape)
    if options.start:
        run.adopt(weights_of(options.start))
    if (work / "state.pt").is_file():
        run.load(work / "state.pt")
    if not options.export_only:
        # A resumed run must not see its first lessons again.
        lessons = lessons_from(vae, tokenizer, options.seed + run.step)
        train_denoiser(run, lessons, folder=work, minutes=options.minutes - vae_minutes)
    export(run.average, vae=work / "vae", tokenizer=tokenizer, shape=shape, folder=options.out)


if __name__ == "__main__":
    main()
