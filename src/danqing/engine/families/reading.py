"""How a Qwen encoder reads a request, part by part: the fixed words, each input picture, a prompt. Knows no transformer
and no autoencoder.

The encoder reads from left to right, so what it makes of a part depends on what stands before it and on nothing after.
Each part is read in a pass of its own over tensors that are laid out alike whether they were computed just now or
remembered, so what is remembered changes no bit: neither the same pictures under another prompt, nor the first of them
beside another second one.

The fixed words end before the line break after "user": every tokenizer of the kind splits there, so the parts'
tokens are those of the whole text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from transformers import DynamicCache

from danqing.core.raster import Size
from danqing.engine.cache import Memory

CONDITIONS = "conditions"
"""The kind, to a `Memory`, of what encoder and autoencoder make of inputs and prompts."""

_AFTER = "<|vision_end|>"
_SLOT = "<|image_pad|>"


@dataclass(frozen=True, slots=True)
class Look:
    """An input picture as the encoder sees it: its content, at which size, and the words before it."""

    digest: str
    size: Size
    words: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it was read: states (1, tokens, width), keys and values (1, heads, tokens, width) of each layer, the
    position of the next token, and where the slots of a picture begin and end; 0 and 0 in words alone."""

    states: torch.Tensor
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    following: int
    slots: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture as the vision tower leaves it: its slots (slots, width), and the same from some of its layers."""

    slots: torch.Tensor
    deeper: tuple[torch.Tensor, ...]


class Reader:
    """Reads with an encoder, remembering for each tenant what it read."""

    def __init__(
        self,
        encoder: Any,
        processor: Any,
        memory: Memory,
        fixed: str,
        *,
        device: torch.device,
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`fixed` are the words that every request begins with; on `device` the encoder computes, wherever it lies
        meanwhile; inside `reading` it answers the states that are wanted of it."""
        self._device = device
        self._encoder, self._processor, self._memory = encoder, processor, memory
        self._fixed, self._reading = fixed, reading
        self._start: Part | None = None
        self._slot = processor.tokenizer.convert_tokens_to_ids(_SLOT)

    @property
    def start(self) -> Part:
        """The fixed words. They are the checkpoint's and nobody's, so they are read once and stay."""
        if self._start is None:
            self._start = self._memory.tight(self._words((), self._ids(self._fixed)))
        return self._start

    def forget(self) -> None:
        """The fixed words are read again."""
        self._start = None

    def pictures(
        self, tenant: str, looks: Sequence[Look], show: Callable[[int], Image.Image]
    ) -> tuple[Part, ...]:
        """The fixed words, and each input after all before it; `show` answers the picture that the encoder sees of
        one, and is asked only for those that must be looked at."""
        chain: tuple[Part, ...] = (self.start,)
        for place in range(len(looks)):
            key = (CONDITIONS, tenant, "read", tuple(looks[: place + 1]))
            part = self._memory.get(key)
            if part is None:
                part = self._memory.put(key, self._picture(tenant, chain, looks[place], lambda: show(place)))  # noqa: B023  # called at once
            chain = (*chain, part)
        return chain

    def known(self, tenant: str, looks: Sequence[Look]) -> int:
        """How many of the inputs, from the first, need not be read."""
        keys = [(CONDITIONS, tenant, "read", tuple(looks[: place + 1])) for place in range(len(looks))]
        return self._memory.first(keys)

    def said(self, tenant: str, looks: Sequence[Look], words: str) -> bool:
        """Whether that prompt after those inputs need not be read."""
        return (CONDITIONS, tenant, "said", tuple(looks), words) in self._memory

    def prompt(
        self, tenant: str, looks: Sequence[Look], chain: Sequence[Part], words: str, most: int | None = None
    ) -> torch.Tensor:
        """The states (1, tokens, width) of a prompt after what `pictures` answered for the same looks; of its tokens
        no more than `most`."""
        key = (CONDITIONS, tenant, "said", tuple(looks), words)
        states: torch.Tensor | None = self._memory.get(key)
        if states is None:
            ids = self._ids(words)[:, :most]
            states = self._memory.put(key, self._words(chain, ids).states)
        # A part is of no use without those before it: of a chain the end has to make way first.
        self._memory.renew(
            (CONDITIONS, tenant, "read", tuple(looks[:end])) for end in range(len(looks), 0, -1)
        )
        return states

    def _ids(self, text: str) -> torch.Tensor:
        ids: torch.Tensor = self._processor.tokenizer(text, return_tensors="pt").input_ids
        return ids.to(self._device)

    def _words(self, chain: Sequence[Part], ids: torch.Tensor) -> Part:
        start = chain[-1].following if chain else 0
        positions = torch.arange(start, start + ids.shape[1], device=ids.device).expand(3, 1, -1)
        memory = _joined(chain)
        with self._reading():
            read = self._encoder.model.language_model(
                input_ids=ids, position_ids=positions, past_key_values=memory, use_cache=True
            )
        return _part(chain, read, start + ids.shape[1])

    def _picture(
        self, tenant: str, chain: Sequence[Part], look: Look, show: Callable[[], Image.Image]
    ) -> Part:
        key = (CONDITIONS, tenant, "seen", look.digest, look.size)
        seen, grid = self._memory.get(key) or self._memory.put(key, self._see(show()))
        ids = self._ids(look.words + _SLOT * seen.slots.shape[0] + _AFTER)
        kinds = (ids == self._slot).int()
        encoder = self._encoder.model
        # Without being told which tokens are pictures the encoder takes them for lines of text (diffusers issue 14194).
        positions, _ = encoder.get_rope_index(ids, kinds, image_grid_thw=torch.tensor([grid]).to(ids.device))
        positions = positions + chain[-1].following
        shown = SimpleNamespace(
            pooler_output=(seen.slots,), deepstack_features=[(one,) for one in seen.deeper]
        )
        with self._reading():
            read = encoder(
                input_ids=ids,
                position_ids=positions,
                past_key_values=_joined(chain),
                use_cache=True,
                mm_encoder_outputs={"image": shown},
            )
        before = self._ids(look.words).shape[1]
        slots = (before, before + seen.slots.shape[0])
        return _part(chain, read, int(positions.max()) + 1, slots)

    def _see(self, picture: Image.Image) -> tuple[Seen, tuple[int, ...]]:
        """Through the vision tower; and the grid of its patches (frames, rows, columns)."""
        given = self._processor.image_processor(images=[picture], return_tensors="pt")
        grid = given.image_grid_thw
        given = given.to(self._device)
        seen = self._encoder.model.get_image_features(
            given.pixel_values, given.image_grid_thw, return_dict=True
        )
        deeper = getattr(seen, "deepstack_features", None) or ()
        return Seen(seen.pooler_output[0], tuple(one[0] for one in deeper)), tuple(grid[0].tolist())


def _joined(chain: Sequence[Part]) -> DynamicCache:
    """The encoder's own cache after all parts of a chain."""
    cache = DynamicCache()
    for layer, parts in enumerate(zip(*(part.layers for part in chain), strict=True)):
        cache.update(torch.cat([k for k, _ in parts], dim=2), torch.cat([v for _, v in parts], dim=2), layer)
    return cache


def _part(chain: Sequence[Part], read: Any, following: int, slots: tuple[int, int] = (0, 0)) -> Part:
    """What a pass added to the chain."""
    before = sum(part.states.shape[1] for part in chain)
    layers = tuple(
        (layer.keys[:, :, before:], layer.values[:, :, before:]) for layer in read.past_key_values.layers
    )
    return Part(read.last_hidden_state, layers, following, slots)
