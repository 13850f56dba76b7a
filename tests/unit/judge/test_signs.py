"""Signs: every word fits the board, no two look alike, and the letters stand out from every board."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from danqing.judge.glyphs import WORDS_EN, WORDS_ZH, glyph_strokes, glyphs
from danqing.judge.signs import BAND, BOARDS, SIGN_COLOURS, STRIPE, sign_layers
from danqing.judge.world import COLOURS, MATERIALS, SHAPES, Rgb, Sign

SIZES = ((128, 128), (224, 96))
WORDS = (*WORDS_EN, *WORDS_ZH)


def letters(word: str, width: int = 128, height: int = 128) -> NDArray[np.float32]:
    layer = sign_layers(Sign(word, "black"), width, height)[-1]
    assert layer.name == "letters"
    return layer.cover


def lab(colour: Rgb) -> NDArray[np.float64]:
    level = np.asarray(colour) / 255
    light = np.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
    rows = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(rows @ light / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_there_are_enough_words_of_the_right_length() -> None:
    assert len(set(WORDS_EN)) == len(WORDS_EN) == 40
    assert all(2 <= len(word) <= 5 and word.isascii() and word.isupper() for word in WORDS_EN)
    assert len(set(WORDS_ZH)) == len(WORDS_ZH) >= 34
    assert all(1 <= len(word) <= 2 for word in WORDS_ZH)
    assert len(set("".join(WORDS_ZH))) >= 60
    assert set("".join(WORDS_EN)) == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_no_word_is_the_name_of_a_shape_or_a_colour() -> None:
    assert not {word.lower() for word in WORDS_EN} & {*SHAPES, *COLOURS}


def test_every_glyph_is_used_and_lies_in_the_unit_square() -> None:
    assert set(glyphs()) == set("".join(WORDS))
    for char in glyphs():
        for stroke in glyph_strokes(char):
            assert len(stroke) >= 2
            assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in stroke)


def test_a_glyph_we_do_not_have_is_an_error() -> None:
    with pytest.raises(KeyError):
        glyph_strokes("鑫")


def test_no_two_english_words_of_one_length_share_all_letters_but_one() -> None:
    for one, other in combinations(WORDS_EN, 2):
        if len(one) == len(other):
            assert sum(a != b for a, b in zip(one, other, strict=True)) >= 2, (one, other)


def test_no_two_glyphs_and_no_two_words_look_alike() -> None:
    drawn = {word: letters(word) > 0.5 for word in WORDS}
    for one, other in combinations(WORDS, 2):
        apart = int((drawn[one] ^ drawn[other]).sum())
        assert apart > 0.35 * min(drawn[one].sum(), drawn[other].sum()), (one, other, apart)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_word_lies_on_the_board_and_fills_it(width: int, height: int) -> None:
    board = next(layer for layer in sign_layers(Sign("NO", "red"), width, height) if layer.name == "board")
    side = min(width, height)
    for word in WORDS:
        cover = letters(word, width, height)
        assert 0 <= cover.min() <= cover.max() <= 1
        assert cover[board.cover < 1].max() == 0, word
        rows, columns = np.flatnonzero(cover.max(axis=1) > 0.5), np.flatnonzero(cover.max(axis=0) > 0.5)
        assert rows[-1] - rows[0] > 0.29 * side, word
        assert len(word) < 5 or columns[-1] - columns[0] > 0.68 * side, word


@pytest.mark.parametrize(("width", "height"), [*SIZES, (96, 128), (512, 512)])
def test_every_material_lies_inside_the_picture_and_is_told_from_the_others(width: int, height: int) -> None:
    for material in MATERIALS:
        layers = sign_layers(Sign("OPEN", "red", material), width, height)
        for layer in layers:
            rim = (layer.cover[0], layer.cover[-1], layer.cover[:, 0], layer.cover[:, -1])
            assert not any(edge.any() for edge in rim), (material, layer.name)
            assert layer.cover.dtype == np.float32
            assert 0 <= layer.cover.min() < 0.5 < layer.cover.max() <= 1
    faces = [lab(face) for face, _ in BOARDS.values()]
    assert all(np.linalg.norm(one - other) > 15 for one, other in combinations(faces, 2))
    assert tuple(BOARDS) == MATERIALS


def test_the_colours_of_letters_stand_out_from_all_of_every_board() -> None:
    grounds = [lab(ground) for ground in (*(face for face, _ in BOARDS.values()), BAND, STRIPE)]
    stand_out = {
        name
        for name, colour in COLOURS.items()
        if min(np.linalg.norm(lab(colour) - ground) for ground in grounds) >= 25
        and min(abs(lab(colour)[0] - ground[0]) for ground in grounds) >= 15
    }
    assert set(SIGN_COLOURS) == stand_out
