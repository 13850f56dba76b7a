"""The miniature's tokenizer: byte-level BPE of the class the 2.1 layout names, with the drawn world's words whole.

It never fails on an unknown word: bytes remain. Knows words only, no weights.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer

from danqing.judge.rows import ROWS
from danqing.judge.scenes import FIRST_TRAINING_SEED, plan_case
from danqing.judge.words import BACKGROUND_ZH, COLOUR_ZH, LANGUAGES, PLACE_WORDS, SHAPE_ZH

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
IMAGE_MARKS = tuple(f"<image{number}>" for number in range(1, 11))
SYSTEM_PROMPT = "Comprehend and analyze the provided prompt."
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_HAN = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_LETTERS = re.compile(r" ?[A-Za-z]+")


def _bytes(word: str) -> tuple[str, ...]:
    """A word in the letters of byte-level BPE."""
    marked = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
    return tuple("".join(piece for piece, _ in marked))


def _words(samples: int = 120) -> list[str]:
    """Everything the world says, the most frequent first: Han characters one by one, then the world's compounds."""
    seen: Counter[str] = Counter()
    for row in ROWS:
        for language in LANGUAGES:
            for seed in range(samples):
                text = plan_case(row, FIRST_TRAINING_SEED + seed, language).instruction
                seen.update(_HAN.findall(text))
                for word in _LETTERS.findall(text):
                    seen.update({word, word.lower()})
    seen.update([*_LETTERS.findall(SYSTEM_PROMPT), "system", "user", "assistant", "image", "picture"])
    compounds = [*COLOUR_ZH.values(), *SHAPE_ZH.values(), *BACKGROUND_ZH.values(), "背景", "左上角", "右上角"]
    compounds += [words.zh for words in PLACE_WORDS.values()]
    return [word for word, _ in seen.most_common()] + list(dict.fromkeys(compounds))


def _apply(pieces: tuple[str, ...], ranks: dict[tuple[str, str], int]) -> tuple[str, ...]:
    while True:
        pairs = [(ranks[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not pairs:
            return pieces
        _, at = min(pairs)
        pieces = (*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :])


def build_tokenizer() -> Any:
    """The same words always give the same tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(alphabet)}
    ranks: dict[tuple[str, str], int] = {}
    for word in _words():
        pieces = _apply(_bytes(word), ranks)
        while len(pieces) > 1:
            ranks[(pieces[0], pieces[1])] = len(ranks)
            vocab.setdefault(pieces[0] + pieces[1], len(vocab))
            pieces = (pieces[0] + pieces[1], *pieces[2:])
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=[pair for pair, _ in sorted(ranks.items(), key=lambda item: item[1])],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=[*SPECIAL, *IMAGE_MARKS],
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
    )
