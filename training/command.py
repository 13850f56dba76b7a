"""The command line of training: options, then autoencoder, denoiser, export and card, each where it was left."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage21
from transformers import AutoTokenizer

from training.adopt import adopt_words, deepened, match_words
from training.batches import CURRICULUM
from training.build import Shape
from training.card import write_card
from training.denoiser import Run, Student, lessons_from, train_denoiser
from training.evaluation import evaluate
from training.export import export, weights_of
from training.files import replace_folder
from training.together import Alone, Together, meeting_place
from training.tokenizer import build_tokenizer
from training.vae import build_vae, learned, train_vae

VAE_SHARE = 0.1
LOOK = 3  # questions a row and language, asked in between


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; those of the process where none are given."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--work", type=Path, default=Path(".train/work"), help="state and log while training")
    parser.add_argument("--minutes", type=float, default=600.0, help="time for everything, of the processor")
    parser.add_argument(
        "--vae-minutes", type=float, help=f"of which the autoencoder takes this ({VAE_SHARE:.0%})"
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="a checkpoint folder of ours to go on from, with fresh optimisers and the last lessons",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the state in --work")
    parser.add_argument(
        "--export-only", action="store_true", help="write --out from the state in --work and stop"
    )
    parser.add_argument("--processes", type=int, default=1, help="each with its own lessons")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--questions",
        type=int,
        default=25,
        help="for each row and language at the end, for the card; 0: none",
    )
    options = parser.parse_args(arguments)
    if options.out.resolve() in (options.work.resolve(), *options.work.resolve().parents):
        parser.error(f"--out {options.out} is replaced whole, and --work {options.work} would go with it")
    return options


def _tokenizer(folder: Path) -> Any:
    """Made once: numbers of tokens must not move under a run when the world gets a word more."""
    if not folder.is_dir():
        with replace_folder(folder) as fresh:
            build_tokenizer().save_pretrained(fresh)
    return AutoTokenizer.from_pretrained(folder)


def _student(options: argparse.Namespace, tokenizer: Any) -> Run:
    """Where the last run stopped, or somebody's weights, or fresh ones."""
    run = Run.start(tokenizer, Shape())
    if options.start:
        words = match_words(AutoTokenizer.from_pretrained(options.start / "tokenizer"), tokenizer)
        weights = deepened(weights_of(options.start), Shape().layers)
        run.adopt(adopt_words(weights, run.average, words))
    if (options.work / "state.pt").is_file():
        run.load(options.work / "state.pt")
    return run


def _teach(rank: int, options: argparse.Namespace, minutes: float, place: Any) -> None:
    """One process of the denoiser's training."""
    torch.set_num_threads(options.threads)
    tokenizer = _tokenizer(options.work / "tokenizer")
    run = _student(options, tokenizer)
    others = Together(rank, *place) if place else Alone()
    torch.manual_seed(options.seed + run.step + 7919 * rank)
    vae = AutoencoderKLQwenImage21.from_pretrained(options.work / "vae").float()
    # A resumed run must not see its first lessons again.
    lessons = lessons_from(vae, tokenizer, options.seed + run.step, rank)
    look = partial(_look, work=options.work, tokenizer=tokenizer) if options.questions else None
    since = CURRICULUM[-1].start if options.start else 0.0
    train_denoiser(run, lessons, folder=options.work, minutes=minutes, since=since, others=others, look=look)


def _look(run: Run, *, work: Path, tokenizer: Any) -> None:
    """How good the run is by now, into its log."""
    seen = work / "seen"
    export(run.average, vae=work / "vae", tokenizer=tokenizer, shape=Shape(), folder=seen)
    try:
        figures = evaluate(seen, LOOK)
    except RuntimeError as fault:  # a question that cannot be asked is no reason to stop learning
        figures = {"fault": str(fault)}
    line = {"stage": "evaluation", "step": run.step, "seconds": round(run.seconds)} | figures
    with (work / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _teach_vae(rank: int, options: argparse.Namespace, minutes: float, place: Any) -> None:
    """One process of the autoencoder's training."""
    torch.set_num_threads(options.threads)
    others = Together(rank, *place) if place else Alone()
    train_vae(options.work / "vae", minutes, options.seed, others=others)


def _share_out(teach: Callable[..., None], options: argparse.Namespace, minutes: float, model: Any) -> None:
    """Training of the model in as many processes as were asked for."""
    if options.processes == 1:
        teach(0, options, minutes, None)
        return
    place = meeting_place(options.processes, model)
    torch.multiprocessing.spawn(teach, (options, minutes, place), nprocs=options.processes)


def main() -> None:
    """Autoencoder, denoiser, export, evaluation and card, in this order; each goes on where it was."""
    options = parse()
    torch.set_num_threads(options.threads * options.processes)
    torch.manual_seed(options.seed)
    work: Path = options.work
    vae_minutes = 0.0 if options.start else options.vae_minutes or VAE_SHARE * options.minutes
    if not (options.resume or options.export_only):
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    if options.start and not options.resume:
        shutil.copytree(options.start / "vae", work / "vae", dirs_exist_ok=True)
    tokenizer = _tokenizer(work / "tokenizer")
    if not options.export_only:
        if not learned(work / "vae", vae_minutes):
            _share_out(_teach_vae, options, vae_minutes, build_vae())
        _share_out(_teach, options, options.minutes - vae_minutes, Student(tokenizer, Shape()))
    average = _student(options, tokenizer).average
    export(average, vae=work / "vae", tokenizer=tokenizer, shape=Shape(), folder=options.out)
    if options.questions:
        figures = evaluate(options.out, options.questions, times=True)
        write_card(options.out, work, figures)
        print(json.dumps(figures))
