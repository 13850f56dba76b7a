"""Keys and values of what precedes the target in a block-causal transformer, kept in parts: Qwen-Image-2.1's attention
over them, and its rotary tables. Knows no prompt, no picture and no step.

A part's keys and values depend on what stands before it and on nothing after, so they are computed once, in a pass of
the part's own, and shared by whoever has the same beginning: the pictures of a work, its guidance branches, later
works. They are never copied into longer ones: attention puts the parts of one layer side by side when it looks at
them. What a lane looks at is looked at for that lane alone, so lanes of unlike prefixes go through the same matrices
together, and each sees what it would alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_qwenimage21 import (
    QwenImage21AttnProcessor,
    _qwenimage21_prepare_qkv,
)

PREFIX = "prefix"
"""The kind, to a `Memory`, of filled parts."""

Pair = tuple[torch.Tensor, torch.Tensor]
Attend = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class Filled:
    """What a part's tokens leave behind in each layer: keys and values (1, tokens, heads, width); and the rotary
    position that follows them."""

    layers: tuple[Pair, ...]
    position: int

    @property
    def tokens(self) -> int:
        """How many they are."""
        return self.layers[0][0].shape[1]


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens of a part, from `start` to `end`, that see all before them and each other: backwards only by a mask, else
    all of them."""

    start: int
    end: int
    mask: torch.Tensor | None = None


class Looking(Protocol):
    """What the attention of a layer is handed as its cache."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, with_: Attend
    ) -> torch.Tensor:
        """The values that the queries find; all (lanes, tokens, heads, width)."""
        ...


class Filling:
    """A part's own pass through one layer: its tokens look at the parts before them and at themselves, and their keys
    and values stay in `own`."""

    def __init__(self, before: Sequence[Pair], runs: Sequence[Run]) -> None:
        """`before` are the keys and values of the parts before it."""
        self._before, self._runs = before, runs
        self.own: Pair | None = None

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, with_: Attend
    ) -> torch.Tensor:
        """See `Looking`."""
        self.own = key, value
        keys = torch.cat([*(k for k, _ in self._before), key], dim=1)
        values = torch.cat([*(v for _, v in self._before), value], dim=1)
        first = keys.shape[1] - key.shape[1]
        found = [
            with_(
                query[:, run.start : run.end],
                keys[:, : first + run.end],
                values[:, : first + run.end],
                run.mask,
            )
            for run in self._runs
        ]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def filled(self) -> Pair:
        """The part's own keys and values in that layer."""
        if self.own is None:
            raise RuntimeError("the layer was not passed")
        return self.own


class Beside:
    """A step of lanes through one layer. `prefixes` are the parts that each lane looks at; neighbours of one prefix
    name the same object."""

    def __init__(self, prefixes: Sequence[Sequence[Pair]]) -> None:
        """A prefix a lane."""
        self._prefixes = prefixes

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, with_: Attend
    ) -> torch.Tensor:
        """See `Looking`."""
        found: list[torch.Tensor] = []
        before: Sequence[Pair] | None = None
        for lane, prefix in enumerate(self._prefixes):
            own = key[lane : lane + 1], value[lane : lane + 1]
            if prefix is not before:
                keys = torch.cat([*(k for k, _ in prefix), own[0]], dim=1)
                values = torch.cat([*(v for _, v in prefix), own[1]], dim=1)
                before = prefix
            else:  # the prefix lies there already
                keys[:, -key.shape[1] :], values[:, -key.shape[1] :] = own
            found.append(with_(query[lane : lane + 1], keys, values, None))
        return found[0] if len(found) == 1 else torch.cat(found, dim=0)


class PartedAttention(QwenImage21AttnProcessor):  # type: ignore[misc]
    """The stock attention, with keys and values that lie in parts. `layer_cache` is a `Looking`; `rotary_emb`
    broadcasts to (lanes, tokens, heads, width / 2)."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, **given: Any) -> torch.Tensor:
        """See the stock `__call__`."""
        query, key, value, _ = _qwenimage21_prepare_qkv(attn, hidden_states, None, None, None, None)
        rope = given["rotary_emb"]
        mixed = given["layer_cache"].attend(_turned(query, rope), _turned(key, rope), value, self._attend)
        return attn.to_out[1](attn.to_out[0](mixed.flatten(2, 3).type_as(query)))

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        # A mask is for the few rows of a text, and not every backend takes one.
        backend = self._attention_backend if mask is None else None
        found: torch.Tensor = dispatch_attention_fn(query, key, value, attn_mask=mask, backend=backend)
        return found


def _turned(heads: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
    """Queries or keys (lanes, tokens, heads, width), turned to their positions (`apply_rotary_emb_qwen`)."""
    pairs = torch.view_as_complex(heads.float().reshape(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rope).flatten(3).type_as(heads)


class Rotary:
    """The rotary tables of Qwen-Image-2.1's `pos_embed`, without walking over tokens: text goes forward on three axes,
    a picture stays at one place of the first and lies centred on the other two."""

    def __init__(self, tables: Sequence[torch.Tensor], device: torch.device) -> None:
        """`tables` are the module's own, one an axis, by position; negative ones from the end."""
        self._axes = [table.to(device) for table in tables]
        self._picture = functools.lru_cache(maxsize=64)(self._turns)

    def words(self, position: int, count: int) -> torch.Tensor:
        """So many tokens of text from that position on: (tokens, 1, width / 2)."""
        return torch.cat([axis[position : position + count] for axis in self._axes], dim=-1)[:, None]

    def picture(self, position: int, rows: int, columns: int) -> torch.Tensor:
        """A picture's tokens, after text that ends before that position: (rows · columns, 1, width / 2)."""
        return self._picture(position, rows, columns)

    def _turns(self, position: int, rows: int, columns: int) -> torch.Tensor:
        first, second, third = self._axes
        down = torch.arange(rows, device=first.device) - (rows - rows // 2)
        along = torch.arange(columns, device=first.device) - (columns - columns // 2)
        parts = (
            first[position].expand(rows, columns, -1),
            second[down % len(second)][:, None].expand(rows, columns, -1),
            third[along % len(third)][None].expand(rows, columns, -1),
        )
        return torch.cat(parts, dim=-1).reshape(rows * columns, 1, -1)


def runs_of(device: torch.device, before: int, lengths: Sequence[tuple[int, bool]]) -> tuple[Run, ...]:
    """A part's runs after `before` tokens, from the lengths of its stretches and whether they are text."""
    runs, start = [], 0
    for length, text in lengths:
        end = start + length
        mask = None
        if text and length > 1:
            seen = torch.ones(length, before + end, dtype=torch.bool, device=device)
            mask = seen.tril(diagonal=before + start)[None, None]
        if length:
            runs.append(Run(start, end, mask))
        start = end
    return tuple(runs)
