"""Trains encoder and denoiser together by flow matching on drawn lessons. Resumable; knows no file layout but its own.

The state file holds weights, their running average, optimiser state and the share of the time already spent, so a
stopped run goes on where it was. Time is the processor's, so that a run beside other work is as long as one alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.batches import TARGETS, Codec, Lesson, Lessons
from training.build import SHIFT, Shape, build_encoder, build_transformer
from training.files import add_line, save_state
from training.forward import encode_text, velocity
from training.labels import Reader
from training.muon import Muon, split
from training.together import Alone, Together, worked

ALONE = Alone()
STATE = "state.pt"  # in the folder of a run
PEAK = 2e-3
AVERAGE = 0.995
READING = 0.05  # weight of the classes' cross-entropy beside the velocity's error
EMPHASIS = 1.5  # the sampler's shift is multiplied by this
INNER = ("transformer_blocks.", "language_model.layers.", "modulation.", "time_text_embed.", "txt_in.")


class Student(nn.Module):
    """The two models that learn, their velocity, and who reads classes off their states."""

    def __init__(self, tokenizer: Any, shape: Shape) -> None:
        super().__init__()
        self.encoder = build_encoder(tokenizer, shape)
        self.transformer = build_transformer(shape)
        self.reader = Reader(shape.heads * shape.head_dim)
        self.encoder.model.visual.requires_grad_(False)

    def forward(self, lesson: Lesson, noisy: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity of every noisy target, and how badly its classes are read off the last states but one."""
        text = encode_text(self.encoder, lesson.batch)
        hidden: list[Tensor] = []
        guess = velocity(self.transformer, text, lesson.batch, noisy, times, hidden=hidden)
        return guess, self.reader(hidden[-2], *lesson.classes, lesson.weights)


def sample_times(samples: int, count: int) -> Tensor:
    """Stratified over a prefix's targets, then shifted: what is said is learned where the noise hides all else."""
    even = (torch.arange(count)[None] + torch.rand(samples, count)) / count
    shift = math.exp(SHIFT) * EMPHASIS
    return (shift * even / (1 + (shift - 1) * even)).clamp(0.005, 1.0)


def flow_loss(student: Student, lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Squared error of the velocity, weighted by token and channel, and a share of the classes' cross-entropy."""
    clean = lesson.targets[:, None].expand(-1, TARGETS, -1, -1)
    times = sample_times(len(clean), TARGETS)
    noise = torch.randn_like(clean)
    mixed = torch.lerp(clean, noise, times[..., None, None])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        guess, misread = student(lesson, mixed, times)
    error = ((guess.float() - (noise - clean)).square() * lesson.channels).mean(-1)
    return (error * lesson.weights[:, None]).mean(), misread


def total(losses: tuple[Tensor, Tensor]) -> Tensor:
    """What is brought down."""
    return losses[0] + READING * losses[1]


@dataclass(slots=True)
class Run:
    """Everything that must survive a stop."""

    student: Student
    muon: Muon
    adam: torch.optim.AdamW
    average: dict[str, Tensor]
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    since: float = 0.0
    """The share of the curriculum up to which it is left out: whoever goes on from a checkpoint knows that already."""

    @classmethod
    def start(cls, tokenizer: Any, shape: Shape) -> Run:
        """Fresh weights."""
        student = Student(tokenizer, shape)
        matrices, others = split(student, INNER)
        muon = Muon(matrices, lr=PEAK)
        adam = torch.optim.AdamW(others, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.0)
        return cls(student, muon, adam, {k: v.detach().clone() for k, v in student.state_dict().items()})

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        state = {
            "student": self.student.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "average": self.average,
            "counts": (self.step, self.samples, self.seconds),
            "since": self.since,
        }
        save_state(state, path)

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.average = state["average"]
        self.step, self.samples, self.seconds = state["counts"]
        self.since = state["since"]

    def adopt(self, weights: dict[str, Tensor]) -> None:
        """Somebody's weights, our optimisers and clock."""
        known = {name: weights.get(name, value).to(value) for name, value in self.average.items()}
        self.student.load_state_dict(known)
        self.average = {name: value.detach().clone() for name, value in self.student.state_dict().items()}

    def advance(self, loss: Tensor, rate: float, others: Alone | Together = ALONE) -> None:
        """One step of both optimisers, and of the running average; sets the clock to that of the first process."""
        for optimiser in (self.muon, self.adam):
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.seconds = others.average(self.student.parameters(), self.seconds)
        self.muon.others = others
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.muon.step()
        self.adam.step()
        self.step += 1
        keep = min(AVERAGE, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            current = self.student.state_dict()
            names = [name for name, value in current.items() if value.is_floating_point()]
            torch._foreach_lerp_([self.average[n] for n in names], [current[n] for n in names], 1 - keep)


def rate_at(done: float, step: int) -> float:
    """Warm up, hold, then fall in a line over the last three fifths."""
    return PEAK * min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - done) / 0.6))


def train_denoiser(
    run: Run,
    lessons: Lessons,
    *,
    folder: Path,
    minutes: float,
    others: Alone | Together = ALONE,
    save_every: float = 240,
    look: Callable[[Run], None] | None = None,
    look_every: float = 3600,
) -> None:
    """Until each thread has spent `minutes` of processor time over all runs; `look` is called after every `look_every`
    seconds of it. Only the first of several processes writes and looks."""
    start, before, saved = worked(), run.seconds, time.monotonic()
    looked = run.seconds
    recent: list[list[float]] = []
    run.student.train()
    while run.seconds < 60 * minutes:
        done = run.seconds / (60 * minutes)
        lesson = lessons.draw(max(done, run.since))
        losses = flow_loss(run.student, lesson)
        run.seconds = before + worked() - start
        run.advance(total(losses), rate_at(done, run.step), others)
        run.samples += len(lesson.targets) * others.count
        recent.append([float(loss.detach()) for loss in losses])
        if others.rank:
            continue
        if run.step % 50 == 0:
            _log(folder, run, recent)
            recent.clear()
        if time.monotonic() - saved > save_every:
            run.save(folder / STATE)
            saved = time.monotonic()
        if look is not None and run.seconds - looked > look_every:
            look(run)
            looked = run.seconds
    if not others.rank:
        run.save(folder / STATE)


def _log(folder: Path, run: Run, recent: list[list[float]]) -> None:
    loss, misread = (sum(column) / len(recent) for column in zip(*recent, strict=True))
    line = {
        "stage": "denoiser",
        "step": run.step,
        "samples": run.samples,
        "loss": round(loss, 4),
        "misread": round(misread, 3),
        "seconds": round(run.seconds),
    }
    add_line(folder, line)


def lessons_from(vae: Any, tokenizer: Any, seed: int, rank: int = 0) -> Lessons:
    """The source of lessons for a trained autoencoder; every process has its own."""
    return Lessons(tokenizer, Codec(vae), seed, rank)
