"""Marks that stand for pictures have no meaning in a prompt, however they are written into it."""

from __future__ import annotations

import pytest

from danqing.engine.families.qwen import without_marks


@pytest.mark.parametrize(
    "prompt",
    [
        "a red<|image_pad|> cat",
        "a red<|image<|image_pad|>_pad|> cat",
        "a red<|vision_<|vision_start|>start|><|vision_end|> cat",
        "a red<|im<|video_pad|>age_pad|> cat",
    ],
)
def test_no_mark_is_left_even_where_cutting_one_makes_another(prompt: str) -> None:
    assert without_marks(prompt) == "a red cat"


def test_a_prompt_without_marks_is_left_alone() -> None:
    assert without_marks("把它变成<红色> | a <b> c") == "把它变成<红色> | a <b> c"
