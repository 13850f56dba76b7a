"""Goes on from an older checkpoint of ours whose tokenizer had other words. Knows embeddings, not training."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from danqing.judge.words import traditional

EMBEDDINGS = ("encoder.model.language_model.embed_tokens.weight", "encoder.lm_head.weight")


def match_words(old: Any, new: Any) -> dict[int, int]:
    """For every token of `new` that `old` knew, or knew in Simplified Chinese: its number there."""
    known = {token: number for number, token in enumerate(old.convert_ids_to_tokens(range(len(old))))}
    simplified = {traditional(old.decode([number])): number for number in range(len(old))}
    matched = {}
    for number, token in enumerate(new.convert_ids_to_tokens(range(len(new)))):
        found = known.get(token, simplified.get(new.decode([number])))
        if found is not None:
            matched[number] = found
    return matched


def adopt_words(
    weights: dict[str, Tensor], fresh: dict[str, Tensor], matched: dict[int, int]
) -> dict[str, Tensor]:
    """The old weights with the fresh embeddings, in which every matched token has its old row."""
    adopted = dict(weights)
    here, there = list(matched), list(matched.values())
    for name in EMBEDDINGS:
        if name in weights:
            rows = fresh[name].detach().clone()
            rows[here] = weights[name][there].to(rows)
            adopted[name] = rows
    return adopted
