"""Goes on from an older checkpoint of ours whose tokenizer had other words, or whose denoiser had fewer blocks. Knows
names of weights, not training."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from danqing.judge.words import traditional

BLOCKS = "transformer.transformer_blocks."
OUTPUTS = ("attn.to_out.0.weight", "img_mlp.out.weight")  # all that a block adds to its input
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


def depth(weights: dict[str, Tensor]) -> int:
    """How many blocks the denoiser has."""
    return len(_blocks(weights))


def deepened(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The same function with `layers` blocks: the new ones, spread between the old, are copies of the block before them
    that add nothing yet, as in Net2Net (arXiv 1511.05641). ValueError where there are more blocks already."""
    blocks = _blocks(weights)
    more = layers - len(blocks)
    if more < 0:
        raise ValueError(f"a denoiser of {len(blocks)} blocks cannot become one of {layers}")
    after = [max(0, (place + 1) * len(blocks) // (more + 1) - 1) for place in range(more)]
    grown = {name: value for name, value in weights.items() if not name.startswith(BLOCKS)}
    at = 0
    for number, block in sorted(blocks.items()):
        silent = {
            part: value.new_zeros(value.shape) if part in OUTPUTS else value.clone()
            for part, value in block.items()
        }
        for parts in (block, *[silent] * after.count(number)):
            grown |= {f"{BLOCKS}{at}.{part}": value for part, value in parts.items()}
            at += 1
    return grown


def _blocks(weights: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The weights of each block by their names within it."""
    blocks: dict[int, dict[str, Tensor]] = {}
    for name, value in weights.items():
        if name.startswith(BLOCKS):
            number, part = name.removeprefix(BLOCKS).split(".", 1)
            blocks.setdefault(int(number), {})[part] = value
    return blocks
