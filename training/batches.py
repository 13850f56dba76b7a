"""Draws training batches: requests of one layout as token ids and latents. Knows the judge's world, not the model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danqing.judge.backdrops import backdrop
from danqing.judge.scenes import FIRST_TRAINING_SEED, LANGUAGES, TASKS, Case, draw_case
from training.forward import Batch, Grid, system_length, tokenise
from training.labels import stack
from training.vae import to_tensor

Weights = dict[str, float]

FIRST: Weights = {
    "text_to_image": 5,
    "text_to_image_loose": 0.3,
    "recolour": 2,
    "replace": 2,
    "delete": 0.8,
    "add": 2,
    "move": 1.2,
    "background": 0.7,
    "fusion_object": 1,
    "fusion_background": 0.4,
    "fusion_three": 0.8,
    "restore": 0.4,
    "colourise": 0.7,
    "enhance": 0.4,
    "sketch": 0.7,
    "depth": 0.7,
}
SECOND: Weights = {
    "style": 0.5,
    "fusion_headline": 1,
    "consistency_clothes": 0.4,
    "consistency_place": 0.3,
    "goods": 0.5,
    "keypoints": 0.6,
    "pose": 0.5,
    "portrait": 0.3,
    "viewpoint": 0.5,
    "sign_word": 1,
    "sign_colour": 0.3,
    "sign_material": 0.3,
}


@dataclass(frozen=True, slots=True)
class Stage:
    """From `start`, a share of the training time: how often each task comes, and how many things a scene has."""

    start: float
    tasks: Weights
    most: int


def _and(share: float, first: Weights = FIRST) -> Weights:
    return first | {task: share * weight for task, weight in SECOND.items()}


# Captions are learned first. Then what is exact to the pixel, and still wrong by a line's breadth, has its time.
LATE = FIRST | {
    "text_to_image": 3.5,
    "delete": 1,
    "restore": 0.7,
    "colourise": 0.8,
    "enhance": 0.9,
    "sketch": 1.1,
    "depth": 0.6,
}

# At last, what is still wrong most often, for as long as what is right needs to stay so.
LATER = LATE | {
    "text_to_image": 2,
    "text_to_image_loose": 0.2,
    "recolour": 2.5,
    "replace": 2.5,
    "delete": 1.4,
    "add": 1.2,
    "move": 1.6,
    "background": 1,
    "fusion_object": 0.6,
    "fusion_background": 0.2,
    "fusion_three": 0.4,
    "restore": 1.2,
    "colourise": 1.6,
    "enhance": 1.6,
    "sketch": 1.5,
    "style": 1.3,
    "fusion_headline": 0.4,
    "consistency_clothes": 0.15,
    "consistency_place": 0.1,
    "goods": 0.15,
    "keypoints": 0.25,
    "pose": 0.2,
    "portrait": 0.15,
    "viewpoint": 0.25,
    "sign_word": 1,
    "sign_colour": 0.25,
    "sign_material": 0.25,
}

# One thing in a scene comes first: places are learned within minutes, then colours, then shapes. Scenes of many
# things from the start teach nothing for a long time.
CURRICULUM: tuple[Stage, ...] = (
    Stage(0.0, FIRST, 1),
    Stage(0.02, _and(0.15), 2),
    Stage(0.06, _and(0.3), 3),
    Stage(0.15, _and(0.6), 5),
    Stage(0.45, _and(0.8, LATE), 5),
    Stage(0.78, LATER, 5),
)
# A sample of n inputs costs about (4 + n) / 4 of one without. At 128 x 128; larger pictures, fewer of them.
PREFIXES = {0: 20, 1: 14, 2: 11, 3: 9}
TARGETS = 2
# How much more a token counts where a thing stands, and where it differs from the picture that is edited.
HEED_THING, HEED_CHANGE = 2.0, 6.0
SHARES_SEED = 11
PROMPT_DROPOUT = 0.05
TRADITIONAL_SHARE = 0.1
MIXED_SIZES = 0.15  # of batches with inputs whose sizes differ from the target's
SIZES: dict[tuple[int, int], float] = {
    (128, 128): 0.6,
    (192, 128): 0.08,
    (128, 192): 0.08,
    (128, 96): 0.05,
    (96, 128): 0.05,
    (224, 128): 0.05,
    (128, 224): 0.05,
    (224, 96): 0.04,
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch and the latents that answer it."""

    batch: Batch
    targets: Tensor  # (B, T, C)
    weights: Tensor  # (B, T), one on average
    channels: Tensor  # (C,), one on average
    classes: tuple[Tensor, Tensor]  # see `labels`: (B, T, 3), (B, 11)
    rows: tuple[str, ...]


class Codec:
    """Pictures to normalised latent tokens and back, by a trained VAE."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
        self.std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)

    @torch.no_grad()
    def encode(self, pictures: list[np.ndarray]) -> Tensor:
        """Normalised latents, one row of tokens a picture."""
        return self._latents(pictures).flatten(2).transpose(1, 2).contiguous()

    @torch.no_grad()
    def shares(self, pictures: list[np.ndarray], by: float = 0.3) -> Tensor:
        """How much of a decoded picture hangs on each channel, (C,), one on average: the mean square of what changes in
        it when that channel's normalised latents move by `by`, up or down as a coin falls for each token.

        An autoencoder uses its channels unequally: of the miniature's 32, 16 change a picture a hundred times less.
        """
        latents = self._latents(pictures)
        generator = torch.Generator().manual_seed(SHARES_SEED)
        before, changes = self._decode(latents), []
        for channel in range(latents.shape[1]):
            moved = latents.clone()
            moved[:, channel] += by * (2 * torch.randint(2, moved[:, channel].shape, generator=generator) - 1)
            changes.append((self._decode(moved) - before).square().mean())
        found = torch.stack(changes)
        return found / found.mean()

    def _latents(self, pictures: list[np.ndarray]) -> Tensor:
        """(B, C, 1, rows, columns)."""
        return (self.vae.encode(to_tensor(pictures)).latent_dist.mode() - self.mean) / self.std

    def _decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents * self.std + self.mean, return_dict=False)[0][:, :3]


def _choose(rng: np.random.Generator, weights: dict[Any, float]) -> Any:
    keys, shares = list(weights), np.array(list(weights.values()))
    return keys[int(rng.choice(len(keys), p=shares / shares.sum()))]


def _careless(rng: np.random.Generator, text: str) -> str:
    """People drop the full stop and the capitals."""
    if rng.random() < 0.3:
        text = text.rstrip(".。")
    if rng.random() < 0.1:
        return text.lower()
    return text[0].lower() + text[1:] if rng.random() < 0.3 else text


def _differs(picture: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which tokens show something else, one row of them."""
    height, width = truth.shape[:2]
    changed = np.abs(picture.astype(np.int16) - truth).max(-1) > 12
    return changed.reshape(height // 16, 16, width // 16, 16).any((1, 3)).ravel()


def _heed(case: Case) -> np.ndarray:
    """Weights of a case's tokens: flat ground and copying are learned in minutes, the change is what takes time."""
    plain = backdrop(case.truth_scene.background, *case.size)
    weights = np.where(_differs(plain, case.truth), HEED_THING, 1.0)
    before = case.inputs[0] if case.inputs and case.inputs[0].shape == case.truth.shape else plain
    return np.where(_differs(before, case.truth), HEED_CHANGE, weights).astype(np.float32)


def stage_at(done: float) -> Stage:
    """What is taught at that share of the time."""
    return [stage for stage in CURRICULUM if done >= stage.start][-1]


def _grid(size: tuple[int, int]) -> Grid:
    width, height = size
    return height // 16, width // 16


class Lessons:
    """An endless source; the seed of a case is never one of the held-out ones.

    Processes of other ranks draw other cases of the same layouts, so that none waits long for the others.
    """

    def __init__(self, tokenizer: Any, codec: Codec, seed: int, rank: int = 0) -> None:
        self.tokenizer = tokenizer
        self.codec = codec
        self.rng = np.random.default_rng([seed, 2, rank])
        self.shared = np.random.default_rng([seed, 3])
        self.dropped = system_length(tokenizer)
        self.image_token = int(tokenizer.convert_tokens_to_ids("<|image_pad|>"))

    @cached_property
    def channels(self) -> Tensor:
        """What each channel of the latents counts for, (C,), one on average: the root of its share in a picture."""
        rng = np.random.default_rng(SHARES_SEED)
        seeds = [FIRST_TRAINING_SEED + int(rng.integers(1 << 40)) for _ in range(4)]
        pictures = [draw_case("text_to_image", seed, "en", least=3, most=5).truth for seed in seeds]
        weights = self.codec.shares(pictures).sqrt()
        return weights / weights.mean()

    def _language(self) -> str:
        spoken = LANGUAGES[int(self.rng.integers(len(LANGUAGES)))]
        return "zh-Hant" if spoken == "zh" and self.rng.random() < TRADITIONAL_SHARE else spoken

    def _layout(self, count: int) -> list[tuple[int, int]]:
        """The target's size, then those of the inputs."""
        size = _choose(self.shared, SIZES)
        if self.shared.random() < MIXED_SIZES:
            return [size, *(_choose(self.shared, SIZES) for _ in range(count))]
        return [size] * (count + 1)

    def _cases(self, done: float) -> tuple[list[Case], list[tuple[int, int]]]:
        stage = stage_at(done)
        count = TASKS[_choose(self.shared, stage.tasks)].inputs
        alike = {task: weight for task, weight in stage.tasks.items() if TASKS[task].inputs == count}
        layout = self._layout(count)
        tokens = sum(width * height for width, height in layout) / len(layout) / 128**2
        cases = [
            draw_case(
                _choose(self.rng, alike),
                FIRST_TRAINING_SEED + int(self.rng.integers(1 << 40)),
                self._language(),
                size=layout[0],
                input_sizes=layout[1:],
                least=1,
                most=stage.most,
            )
            for _ in range(max(2, round(PREFIXES[count] / tokens)))
        ]
        return cases, layout

    def _latents(self, pictures: list[list[np.ndarray]]) -> list[Tensor]:
        """Latent tokens of every column of pictures; columns of one size are encoded together."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, column in enumerate(pictures):
            by_shape.setdefault(column[0].shape, []).append(number)
        found: dict[int, Tensor] = {}
        for numbers in by_shape.values():
            together = self.codec.encode([picture for number in numbers for picture in pictures[number]])
            found |= dict(zip(numbers, together.chunk(len(numbers)), strict=True))
        return [found[number] for number in range(len(pictures))]

    def draw(self, done: float) -> Lesson:
        """The next batch; `done` is the share of the training time gone by."""
        cases, layout = self._cases(done)
        grids = tuple(_grid(size) for size in layout)
        said = [
            "" if self.rng.random() < PROMPT_DROPOUT else _careless(self.rng, case.instruction)
            for case in cases
        ]
        ids, lengths = tokenise(self.tokenizer, said, grids[1:])
        columns = [[case.truth for case in cases]]
        columns += [[case.inputs[number] for case in cases] for number in range(len(layout) - 1)]
        target, *inputs = self._latents(columns)
        batch = Batch(
            ids=ids,
            lengths=lengths,
            dropped=self.dropped,
            image_token=self.image_token,
            inputs=torch.cat(inputs, dim=1) if inputs else target[:, :0],
            input_grids=grids[1:],
            target_grid=grids[0],
        )
        weights = torch.from_numpy(np.stack([_heed(case) for case in cases]))
        weights = weights / weights.mean()
        return Lesson(batch, target, weights, self.channels, stack(cases), tuple(case.row for case in cases))
