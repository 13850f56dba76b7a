"""Draws training batches: requests of one layout as token ids and latents. Knows the judge's world, not the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danqing.judge.draw import backdrop
from danqing.judge.scenes import FIRST_TRAINING_SEED, INPUTS, LANGUAGES, Case, draw_case
from training.forward import Batch, Grid, system_length, tokenise
from training.vae import to_tensor

# (share of the time done, weights of the rows from then on)
CURRICULUM: tuple[tuple[float, dict[str, float]], ...] = (
    (0.0, {"text_to_image": 5, "recolour": 3, "replace": 1.5, "delete": 0.5, "add": 2, "background": 0.5}),
    (
        0.6,
        {
            "text_to_image": 5,
            "recolour": 3,
            "replace": 0.7,
            "delete": 0.4,
            "add": 0.8,
            "move": 0.4,
            "background": 0.4,
            "fusion_object": 0.6,
            "fusion_background": 0.3,
            "fusion_three": 2,
            "background_of_three": 0.7,
        },
    ),
    (
        0.73,
        {
            "text_to_image": 5,
            "recolour": 0.8,
            "replace": 1.5,
            "delete": 0.3,
            "add": 2,
            "move": 0.5,
            "background": 0.3,
            "fusion_object": 1,
            "fusion_background": 0.2,
            "fusion_three": 4,
            "background_of_three": 0.4,
        },
    ),
)
# A sample of n inputs costs about (4 + n) / 4 of one without.
PREFIXES = {0: 20, 1: 14, 2: 11, 3: 9}
TARGETS = 2
HEED = 6.0  # how much more a token counts where something stands or changes
PROMPT_DROPOUT = 0.05
SIZES: dict[tuple[int, int], float] = {(128, 128): 0.7, (160, 96): 0.15, (96, 160): 0.15}
WIDE_SIZES: dict[tuple[int, int], float] = {
    (128, 128): 0.6,
    (160, 96): 0.1,
    (96, 160): 0.1,
    (128, 96): 0.05,
    (96, 128): 0.05,
    (160, 128): 0.05,
    (128, 160): 0.05,
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch and the latents that answer it."""

    batch: Batch
    targets: Tensor  # (B, T, C)
    weights: Tensor  # (B, T), one on average
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
        latents = (self.vae.encode(to_tensor(pictures)).latent_dist.mode() - self.mean) / self.std
        return latents.flatten(2).transpose(1, 2).contiguous()


def _choose(rng: np.random.Generator, weights: dict[Any, float]) -> Any:
    keys, shares = list(weights), np.array(list(weights.values()))
    return keys[int(rng.choice(len(keys), p=shares / shares.sum()))]


def _careless(rng: np.random.Generator, text: str) -> str:
    """People drop the full stop and the capital."""
    if rng.random() < 0.3:
        text = text.rstrip(".。")
    return text[0].lower() + text[1:] if rng.random() < 0.3 else text


def _heed(case: Case) -> np.ndarray:
    """Weights of a case's tokens: flat background is learned in minutes, the things are what takes the time."""
    width, height = case.size
    plain = backdrop(case.truth_scene.background, width, height)
    changed = np.zeros((height, width), dtype=np.bool_)
    for picture in (plain, *case.inputs[:1]):
        changed |= np.abs(picture.astype(np.int16) - case.truth).max(-1) > 12
    tiles = changed.reshape(height // 16, 16, width // 16, 16).any((1, 3)).ravel()
    return np.where(tiles, HEED, 1.0).astype(np.float32)


def weights_at(done: float) -> dict[str, float]:
    """How often each row is taught at that share of the time."""
    return [weights for start, weights in CURRICULUM if done >= start][-1]


class Lessons:
    """An endless source; the seed of a case is never one of the held-out ones."""

    def __init__(self, tokenizer: Any, codec: Codec, seed: int) -> None:
        self.tokenizer = tokenizer
        self.codec = codec
        self.rng = np.random.default_rng([seed, 2])
        self.dropped = system_length(tokenizer)
        self.image_token = int(tokenizer.convert_tokens_to_ids("<|image_pad|>"))

    def _cases(self, done: float) -> tuple[list[Case], int]:
        weights = weights_at(done)
        count = INPUTS[_choose(self.rng, weights)]
        alike = {row: weight for row, weight in weights.items() if INPUTS[row] == count}
        size = _choose(self.rng, SIZES if count else WIDE_SIZES)
        cases = [
            draw_case(
                _choose(self.rng, alike),
                FIRST_TRAINING_SEED + int(self.rng.integers(1 << 40)),
                LANGUAGES[int(self.rng.integers(2))],
                size=size,
            )
            for _ in range(PREFIXES[count])
        ]
        return cases, count

    def draw(self, done: float) -> Lesson:
        """The next batch; `done` is the share of the training time gone by."""
        cases, count = self._cases(done)
        width, height = cases[0].size
        grid: Grid = (height // 16, width // 16)
        said = [
            "" if self.rng.random() < PROMPT_DROPOUT else _careless(self.rng, case.instruction)
            for case in cases
        ]
        ids, lengths = tokenise(self.tokenizer, said, (grid,) * count)
        latents = self.codec.encode([picture for case in cases for picture in (*case.inputs, case.truth)])
        latents = latents.view(len(cases), count + 1, grid[0] * grid[1], -1)
        batch = Batch(
            ids=ids,
            lengths=lengths,
            dropped=self.dropped,
            image_token=self.image_token,
            inputs=latents[:, :count].flatten(1, 2),
            input_grids=(grid,) * count,
            target_grid=grid,
        )
        weights = torch.from_numpy(np.stack([_heed(case) for case in cases]))
        return Lesson(batch, latents[:, count], weights / weights.mean(), tuple(case.row for case in cases))
