"""The command line of training: options, then autoencoder, denoiser, export and card, each where it was left."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage21
from transformers import AutoTokenizer

from training.adopt import adopt_words, deepened, depth, match_words
from training.batches import CURRICULUM
from training.build import Shape
from training.card import write_card
from training.denoiser import STATE, Run, Student, lessons_from, train_denoiser
from training.evaluation import evaluate
from training.export import export, weights_of
from training.files import add_line, replace_folder
from training.together import Alone, Together, meeting_place
from training.tokenizer import build_tokenizer
from training.vae import build_vae, learned, state_of, train_vae

VAE_SHARE = 0.1
LOOK = 3  # questions a row and language, asked in between


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; those of the process where none are given. Ends the program where they would destroy something or
    could not be followed."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--work", type=Path, default=Path(".train/work"), help="state and log while training")
    parser.add_argument("--minutes", type=_more, default=600.0, help="time for everything, of the processor")
    parser.add_argument(
        "--vae-minutes", type=_more, help=f"of which the autoencoder takes this ({VAE_SHARE:.0%}%)"
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="begin with this checkpoint of ours: its autoencoder, its weights, and the last lessons",
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
    if wrong := _wrong(options):
        parser.error(wrong)
    return options


def _more(text: str) -> float:
    """Minutes: more than none."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of minutes above 0, not {text!r}")
    return minutes


def _wrong(options: argparse.Namespace) -> str:
    """What cannot be done as asked; empty where all can."""
    out, work, start = options.out, options.work, options.start
    begun = work.is_dir() and any(work.iterdir())
    if out.resolve() in (work.resolve(), *work.resolve().parents):
        return f"--out {out} is replaced whole, and --work {work} would go with it"
    if begun and not (options.resume or options.export_only):
        return f"there is a run in --work {work}: go on with it by --resume, or name another folder"
    if options.export_only and not (work / STATE).is_file():
        return f"there is no state of a denoiser in --work {work} to write a checkpoint from"
    if start and not (start / "model_index.json").is_file():
        return f"--start {start} is no checkpoint folder: it has no model_index.json"
    if start and (work / STATE).is_file():
        return f"the run in --work {work} has begun: --start is for a new one"
    return ""


def _tokenizer(folder: Path) -> Any:
    """Made once: numbers of tokens must not move under a run when the world gets a word more."""
    if not folder.is_dir():
        with replace_folder(folder) as fresh:
            build_tokenizer().save_pretrained(fresh)
    return AutoTokenizer.from_pretrained(folder)


def _begin(options: argparse.Namespace, tokenizer: Any) -> None:
    """The first state: made once, so that all processes begin with the same weights."""
    torch.manual_seed(options.seed)
    run = Run.start(tokenizer, Shape())
    if options.start:
        weights = weights_of(options.start)
        blocks = depth(weights)
        words = match_words(AutoTokenizer.from_pretrained(options.start / "tokenizer"), tokenizer)
        run.adopt(adopt_words(deepened(weights, Shape().layers), run.average, words))
        run.since = CURRICULUM[-1].start
        add_line(options.work, {"stage": "start", "blocks": blocks})
    run.save(options.work / STATE)


def _student(work: Path, tokenizer: Any) -> Run:
    """Where the last run stopped."""
    run = Run.start(tokenizer, Shape())
    run.load(work / STATE)
    return run


def _teach(rank: int, options: argparse.Namespace, minutes: float, place: Any) -> None:
    """One process of the denoiser's training."""
    torch.set_num_threads(options.threads)
    tokenizer = _tokenizer(options.work / "tokenizer")
    run = _student(options.work, tokenizer)
    others = Together(rank, *place) if place else Alone()
    torch.manual_seed(options.seed + run.step + 7919 * rank)
    vae = AutoencoderKLQwenImage21.from_pretrained(options.work / "vae").float()
    # A resumed run must not see its first lessons again.
    lessons = lessons_from(vae, tokenizer, options.seed + run.step, rank)
    look = partial(_look, work=options.work, tokenizer=tokenizer) if options.questions else None
    train_denoiser(run, lessons, folder=options.work, minutes=minutes, others=others, look=look)


def _look(run: Run, *, work: Path, tokenizer: Any) -> None:
    """How good the run is by now, into its log."""
    seen = work / "seen"
    export(run.average, vae=work / "vae", tokenizer=tokenizer, shape=Shape(), folder=seen)
    try:
        figures = evaluate(seen, LOOK, sheet=work / "seen.png")
    except RuntimeError as fault:  # a question that cannot be asked is no reason to stop learning
        figures = {"fault": str(fault)}
    add_line(work, {"stage": "evaluation", "step": run.step, "seconds": round(run.seconds)} | figures)


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


def _autoencoder(options: argparse.Namespace) -> float:
    """See that there is one; answers how many of the minutes it takes: none where it came from elsewhere."""
    folder = options.work / "vae"
    if options.start and not folder.exists():
        with replace_folder(folder) as fresh:
            shutil.copytree(options.start / "vae", fresh, dirs_exist_ok=True)
    if not state_of(folder).is_file() and learned(folder, 0.0):
        return 0.0
    minutes: float = options.vae_minutes or VAE_SHARE * options.minutes
    if not learned(folder, minutes):
        _share_out(_teach_vae, options, minutes, build_vae())
    return minutes


def main() -> None:
    """Autoencoder, denoiser, export, evaluation and card, in this order; each goes on where it was."""
    options = parse()
    work: Path = options.work
    torch.set_num_threads(options.threads * options.processes)
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(work / "tokenizer")
    if not options.export_only:
        spent = _autoencoder(options)
        if not (work / STATE).is_file():
            _begin(options, tokenizer)
        _share_out(_teach, options, options.minutes - spent, Student(tokenizer, Shape()))
    average = _student(work, tokenizer).average
    export(average, vae=work / "vae", tokenizer=tokenizer, shape=Shape(), folder=options.out)
    if options.questions:
        figures = evaluate(options.out, options.questions, sheet=work / "answers.png", times=True)
        write_card(options.out, work, figures)
        print(json.dumps(figures))
