"""A checkpoint's text encoder as what it was before it served a painter: a language model that can see.

No extra weights are loaded; the encoder must have kept its head. Answers come a few tokens at a time, so that whoever
holds the engine's thread can do something else in between. Nothing is left behind in the modules: positions are given
with every call and each answer has a memory of its own, so pictures in progress do not notice. Refuses to know what
is asked and what the answer is good for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from danqing.core.raster import Raster, Size
from danqing.engine.canvas import on_white, to_canvas

TOKENS_A_UNIT = 8
"""Written between two looks at what else waits: about a quarter of a second on the card of a 7 B encoder."""

SEEN_AREA = 512 * 512
"""Pixels that a picture is shown with: 256 tokens, enough to say what is in it."""

_SLOT = "<|vision_start|>{pads}<|vision_end|>"
_PAD = "<|image_pad|>"
_YES, _NO = ("Yes", "yes", "YES", "是"), ("No", "no", "NO", "否")


@dataclass(slots=True)
class _Draft:
    """An answer in the making: the encoder's memory, where the next token stands, and the logits (vocabulary,) that
    choose it."""

    memory: Any
    following: int
    logits: torch.Tensor


class Language:
    """The encoder of one checkpoint with its head. Every method belongs on the engine's thread; `write` gives it back
    at each `yield`."""

    def __init__(self, encoder: Any, processor: Any, device: torch.device) -> None:
        """See `open_language`."""
        self._encoder, self._device = encoder, device
        self._tokenizer, self._images = processor.tokenizer, processor.image_processor
        self._cell: int = self._images.patch_size * self._images.merge_size
        self._marks = sorted(self._tokenizer.get_added_vocab(), key=len, reverse=True)
        self._ends = frozenset(self._ids_of(("<|im_end|>", "<|endoftext|>")))
        self._yes, self._no = self._words(_YES), self._words(_NO)

    def write(self, system: str, text: str, pictures: Sequence[Raster], tokens: int) -> Iterator[str]:
        """The answer to `text` under the instruction `system`, greedy, at most so many tokens: what there is of it
        after each unit of work. The last one is the whole."""
        draft = self._read(system, text, pictures)
        written: list[int] = []
        yield ""
        for place in range(tokens):
            token = int(draft.logits.argmax())
            if token in self._ends:
                break
            written.append(token)
            if place + 1 < tokens:
                self._go_on(draft, token)
            if len(written) % TOKENS_A_UNIT == 0:
                yield self._spelt(written)
        yield self._spelt(written)

    def agree(self, question: str, pictures: Sequence[Raster]) -> float:
        """How likely "yes" is as the first word of the answer, among "yes" and "no" alone, 0 to 1: one forward."""
        logits = self._read("Answer with yes or no only.", question, pictures).logits
        both = torch.cat([logits[self._yes], logits[self._no]]).float().softmax(0)
        return float(both[: len(self._yes)].sum())

    @torch.inference_mode()
    def _read(self, system: str, text: str, pictures: Sequence[Raster]) -> _Draft:
        """The whole question at once."""
        seen = self._look(pictures)
        grids = [] if seen is None else list(seen.image_grid_thw)
        pads = [int(grid.prod()) // self._images.merge_size**2 for grid in grids]
        ids = self._ids(self._asked(system, text, pads))
        slots = ids == self._tokenizer.convert_tokens_to_ids(_PAD)
        model = self._encoder.model
        given: dict[str, Any] = {}
        if seen is None:
            positions = torch.arange(ids.shape[1], device=self._device).expand(3, 1, -1)
        else:
            positions, _ = model.get_rope_index(ids, slots.int(), image_grid_thw=seen.image_grid_thw)
            given = {"pixel_values": seen.pixel_values, "image_grid_thw": seen.image_grid_thw}
        answer = self._encoder(
            input_ids=ids, position_ids=positions, use_cache=True, logits_to_keep=1, **given
        )
        return _Draft(answer.past_key_values, int(positions.max()) + 1, answer.logits[0, -1])

    @torch.inference_mode()
    def _go_on(self, draft: _Draft, token: int) -> None:
        """One token more."""
        answer = self._encoder(
            input_ids=torch.tensor([[token]], device=self._device),
            position_ids=torch.full((3, 1, 1), draft.following, device=self._device),
            past_key_values=draft.memory,
            use_cache=True,
            logits_to_keep=1,
        )
        draft.memory, draft.logits = answer.past_key_values, answer.logits[0, -1]
        draft.following += 1

    def _look(self, pictures: Sequence[Raster]) -> Any:
        """The pictures as the vision tower takes them; None without any."""
        if not pictures:
            return None
        canvases = [on_white(to_canvas(raster, shown_size(raster.size, self._cell))) for raster in pictures]
        return self._images(images=canvases, return_tensors="pt").to(self._device)

    def _asked(self, system: str, text: str, pads: Sequence[int]) -> str:
        """The conversation up to the answer. Marks that structure it have no meaning within a text: they are cut."""
        slots = "".join(
            f"Picture {place}: " + _SLOT.format(pads=_PAD * count)
            for place, count in enumerate(pads, start=1)
        )
        return (
            f"<|im_start|>system\n{unmarked(system, self._marks)}<|im_end|>\n"
            f"<|im_start|>user\n{slots}{unmarked(text, self._marks)}<|im_end|>\n<|im_start|>assistant\n"
        )

    def _ids(self, text: str) -> torch.Tensor:
        ids: torch.Tensor = self._tokenizer(text, return_tensors="pt").input_ids
        return ids.to(self._device)

    def _spelt(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def _ids_of(self, marks: Sequence[str]) -> list[int]:
        vocabulary = self._tokenizer.get_vocab()
        return [vocabulary[mark] for mark in marks if mark in vocabulary]

    def _words(self, words: Sequence[str]) -> list[int]:
        """The first tokens of the words; each word's own."""
        firsts = (self._tokenizer(word, add_special_tokens=False).input_ids[0] for word in words)
        return sorted(set(firsts))


def unmarked(text: str, marks: Sequence[str]) -> str:
    """The text without any of the marks. What is left when one is cut out may be another: until there is none."""
    before = None
    while before != text:
        before = text
        for mark in marks:
            text = text.replace(mark, "")
    return text


def shown_size(size: Size, cell: int) -> Size:
    """A picture's size as the vision tower sees it: about its aspect, at most `SEEN_AREA` pixels, sides of whole
    cells, each `cell` pixels to a side and one token."""
    scale = min(1.0, math.sqrt(SEEN_AREA / size.area))
    width, height = (max(cell, int(side * scale) // cell * cell) for side in (size.width, size.height))
    return Size(width, height)


def open_language(
    encoder: Any, processor: Any, device: torch.device, *, new: Sequence[str]
) -> Language | None:
    """The language of a loaded encoder; None where its head was not among the weights (`new` names the parameters
    that were not), or where nothing says that it was taught to hold conversations. A head tied to the embeddings is
    there with them."""
    tied = encoder.get_output_embeddings().weight is encoder.get_input_embeddings().weight
    if any("lm_head" in name for name in new) and not tied:
        return None
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    return Language(encoder, processor, device) if template and "<|im_start|>" in template else None
