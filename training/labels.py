"""What a picture shows, as classes: a second thing to learn from, beside the pixels.

A velocity that is a little wrong costs little, even where it makes a star of a circle; a class that is wrong costs
much. The classes are read off the denoiser's hidden states while it is trained, by a layer that is not shipped.
Compare Yu et al., "Representation alignment for generation", 2024. Knows scenes, not models.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from danqing.judge.draw import coverage, placement
from danqing.judge.glyphs import WORDS_EN, WORDS_ZH
from danqing.judge.scenes import Case
from danqing.judge.world import (
    BACKGROUNDS,
    COLOURS,
    EYES,
    FACINGS,
    GARMENTS,
    GOODS,
    HAIR,
    MATERIALS,
    POSES,
    SHAPES,
    SIZES,
    STYLES,
)

PATCH = 16  # pixels of a latent token
LEAST = 0.1  # of a token must be covered by a thing for the token to show it

# Of every token; 0 is nothing.
TOKEN: dict[str, tuple[str, ...]] = {"shape": SHAPES, "colour": tuple(COLOURS), "size": tuple(SIZES)}
# Of the whole picture; 0 is none.
WHOLE: dict[str, tuple[str, ...]] = {
    "background": BACKGROUNDS,
    "style": STYLES,
    "hair": tuple(HAIR),
    "garment": GARMENTS,
    "colour": tuple(COLOURS),
    "pose": POSES,
    "facing": FACINGS,
    "eyes": EYES,
    "kind": (*GOODS, "dress", "coat"),
    "material": MATERIALS,
    "word": (*WORDS_EN, *WORDS_ZH),
}


def label(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Classes of every token (tokens x 3) and of the whole picture (11)."""
    width, height = case.size
    covered = np.full((height // PATCH, width // PATCH), LEAST)
    tokens = np.zeros((*covered.shape, len(TOKEN)), dtype=np.int64)
    scene = case.truth_scene
    for thing in scene.things:
        rows, columns, part = coverage(thing.shape, placement(thing, width, height), width, height)
        whole = np.zeros((height, width), dtype=np.float32)
        whole[rows, columns] = part
        share = whole.reshape(height // PATCH, PATCH, width // PATCH, PATCH).mean((1, 3))
        mine = share > covered
        covered = np.maximum(covered, share)
        for number, (name, classes) in enumerate(TOKEN.items()):
            tokens[mine, number] = 1 + classes.index(getattr(thing, name))
    about = {"background": scene.background, "style": scene.style}
    values = [about.get(name, getattr(scene.piece, name, None)) for name in WHOLE]
    whole_picture = [
        1 + classes.index(value) if value in classes else 0
        for value, classes in zip(values, WHOLE.values(), strict=True)
    ]
    return tokens.reshape(-1, len(TOKEN)), np.array(whole_picture)


class Reader(nn.Module):
    """Reads the classes off hidden states; thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Linear(width, sum(1 + len(classes) for classes in TOKEN.values()))
        self.whole = nn.Linear(width, sum(1 + len(classes) for classes in WHOLE.values()))

    def forward(self, hidden: Tensor, tokens: Tensor, whole: Tensor, weights: Tensor) -> Tensor:
        """Mean cross-entropy. `hidden` (B, K, T, width), `tokens` (B, T, 3), `whole` (B, 11), `weights` (B, T)."""
        samples, count = hidden.shape[:2]
        hidden = functional.rms_norm(hidden.float(), hidden.shape[-1:])
        loss = hidden.new_zeros(())
        heavy = weights[:, None].expand(-1, count, -1).reshape(-1)
        parts = self.token(hidden).split([1 + len(classes) for classes in TOKEN.values()], dim=-1)
        for number, part in enumerate(parts):
            truth = tokens[:, None, :, number].expand(-1, count, -1).reshape(-1)
            apart = functional.cross_entropy(part.reshape(len(truth), -1), truth, reduction="none")
            loss = loss + (apart * heavy).mean()
        parts = self.whole(hidden.mean(2)).split([1 + len(classes) for classes in WHOLE.values()], dim=-1)
        for number, part in enumerate(parts):
            truth = whole[:, None, number].expand(-1, count).reshape(-1)
            loss = loss + functional.cross_entropy(part.reshape(samples * count, -1), truth) / 4
        return loss


def stack(cases: list[Case]) -> tuple[Tensor, Tensor]:
    """The classes of a batch."""
    tokens, whole = zip(*(label(case) for case in cases), strict=True)
    return torch.from_numpy(np.stack(tokens)), torch.from_numpy(np.stack(whole))
