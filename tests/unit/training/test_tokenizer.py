"""The tokenizer keeps the world's words whole and never fails on others."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from danqing.judge.words import COLOUR, traditional
from training.forward import prompt_text, system_length, tokenise
from training.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()


def test_the_words_of_the_world_are_single_tokens() -> None:
    for word in (
        " red",
        " circle",
        " background",
        *(said.zh for said in COLOUR.values()),
        "圆形",
        "三角形",
        "OPEN",
        traditional("红色"),
    ):
        assert len(TOKENIZER.encode(word)) == 1, word


def test_unknown_words_come_back_unharmed() -> None:
    text = "Ein Häuschen, 一座寺庙 🙂"
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_marks_are_single_tokens_and_the_system_part_is_what_the_chat_template_makes_of_it() -> None:
    for mark in ("<image1>", "<image10>", "<|image_pad|>", "<|im_end|>"):
        assert len(TOKENIZER.encode(mark)) == 1
    system = prompt_text("x", 0).split("<|im_start|>user")[0]
    assert TOKENIZER.encode(prompt_text("x", 0))[: system_length(TOKENIZER)] == TOKENIZER.encode(system)


def test_every_input_takes_a_slot_for_each_two_by_two_latents() -> None:
    ids, lengths = tokenise(TOKENIZER, ["Remove the red circle.", "去掉红色圆形。"], ((8, 8), (6, 10)))
    slots = (ids == TOKENIZER.convert_tokens_to_ids("<|image_pad|>")).sum(1)
    assert slots.tolist() == [31, 31]
    assert int(lengths.max()) == ids.shape[1]
