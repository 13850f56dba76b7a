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

from danqing.judge.glyphs import WORDS_EN, WORDS_ZH
from danqing.judge.words import (
    BACKGROUND,
    COLOUR,
    EYES,
    FACING,
    GARMENT,
    GOODS,
    HAIR,
    MATERIAL,
    PHRASES,
    PLACE,
    POSE,
    SHAPE,
    SIZE,
    STYLE,
    figure,
    traditional,
)
from danqing.judge.world import Figure

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
TABLES = (COLOUR, SHAPE, SIZE, BACKGROUND, STYLE, GARMENT, HAIR, FACING, EYES, GOODS, MATERIAL)
_SLOT = re.compile(r"\{\w+\}")
_HAN = re.compile(r"[\u201c\u201d\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_LETTERS = re.compile(r" ?[A-Za-z]+")


def _bytes(word: str) -> tuple[str, ...]:
    """A word in the letters of byte-level BPE."""
    marked = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
    return tuple("".join(piece for piece, _ in marked))


def _texts() -> tuple[list[str], list[str]]:
    """All English and all Chinese text of the world, in a fixed order; slots of sentences are left open."""
    said = [
        *(word for table in TABLES for word in table.values()),
        *(words.on for words in PLACE.values()),
        *(words.to for words in PLACE.values()),
        *(part for pair in POSE.values() for part in pair),
        figure(Figure("black", "dress", "red")),
    ]
    english, chinese = [one.en for one in said], [one.zh for one in said]
    for by_language in PHRASES.values():
        english += [_SLOT.sub(" ", way) for way in by_language["en"]]
        chinese += [_SLOT.sub(" ", way) for way in by_language["zh"]]
    chinese += [traditional(text) for text in chinese]
    return english, chinese


def _words() -> list[str]:
    """Everything the world says: Han characters one by one, English words with and without a space, compounds."""
    english, chinese = _texts()
    seen: Counter[str] = Counter()
    for text in (*chinese, *WORDS_ZH):
        seen.update(_HAN.findall(text))
    for text in (*english, SYSTEM_PROMPT, "system user assistant image picture a an the and in at on to of"):
        for word in _LETTERS.findall(text):
            low = word.strip().lower()
            seen.update({low, " " + low} | ({word} if word[0].isupper() else set()))
    for word in WORDS_EN:
        seen.update({word.upper(), word.lower()})
    compounds = [one.zh for table in TABLES for one in table.values()]
    compounds += [words.on.zh for words in PLACE.values()] + ["背景", "图像", "女孩", "一个"]
    compounds += [traditional(word) for word in compounds]
    return [word for word, _ in seen.most_common()] + [w for w in dict.fromkeys(compounds) if len(w) > 1]


def _apply(pieces: tuple[str, ...], ranks: dict[tuple[str, str], int]) -> tuple[str, ...]:
    while True:
        pairs = [(ranks[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not pairs:
            return pieces
        _, at = min(pairs)
        pieces = (*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :])


def build_tokenizer() -> Any:
    """The same words always give the same tokenizer."""
    # The marks come before the words: words that the world gains later move no number.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate([*alphabet, *SPECIAL, *IMAGE_MARKS])}
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
