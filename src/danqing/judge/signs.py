"""A board on two legs with one word on it, as flat layers. Refuses to know which words there are."""

from __future__ import annotations

import numpy as np

from danqing.judge.glyphs import Stroke, glyph_strokes, is_letter
from danqing.judge.layers import Layer, Plane, Point, Sheet, overlap, union
from danqing.judge.world import COLOURS, Rgb, Sign

# The board's own colour and its frame's.
BOARDS: dict[str, tuple[Rgb, Rgb]] = {
    "plain": ((250, 248, 240), (74, 56, 46)),
    "metal": ((150, 160, 172), (86, 94, 106)),
    "candy": ((255, 212, 226), (240, 104, 150)),
}
BAND: Rgb = (186, 195, 205)
RIVET: Rgb = (224, 229, 234)
STRIPE: Rgb = (255, 246, 248)
POST: Rgb = (128, 92, 62)

# The colours whose letters stand out from all of every board: by 25 in CIELAB, and by 15 in lightness alone.
SIGN_COLOURS: tuple[str, ...] = ("red", "green", "blue", "purple", "brown", "black")

_MIDDLE: Point = (0.0, -0.09)
_WIDE, _HIGH = 0.42, 0.23
_FRAME = 0.026
_TALL = {True: 0.285, False: 0.33}  # letters, characters; measured along the middle of the strokes
_ROOM = {True: 0.69, False: 0.71}
_GAP = 0.075


def sign_layers(sign: Sign, width: int, height: int) -> list[Layer]:
    """The whole sign; its letters are the last layer."""
    sheet = Sheet(width, height)
    board, frame = BOARDS[sign.material]
    feet = [sheet.box((x, 0.28), 0.032, 0.17, 0.012) for x in (-0.24, 0.24)]
    face = sheet.box(_MIDDLE, _WIDE - _FRAME, _HIGH - _FRAME, 0.02)
    strokes, radius = word_strokes(sign.word)
    legs = frame if sign.material == "metal" else POST
    return [
        Layer("legs", sheet.cover(union(*feet)), legs),
        Layer("frame", sheet.cover(sheet.box(_MIDDLE, _WIDE, _HIGH, 0.035)), frame),
        Layer("board", sheet.cover(face), board),
        *_trim(sheet, sign.material, face),
        Layer("letters", sheet.strokes(strokes, radius), COLOURS[sign.colour]),
    ]


def _trim(sheet: Sheet, material: str, face: Plane) -> list[Layer]:
    x, y = _MIDDLE
    if material == "metal":
        band = overlap(sheet.box((x, y - 0.03), _WIDE, 0.075), face)
        rivets = [
            sheet.disc((x + across * (_WIDE - 0.026), y + down * (_HIGH - 0.026)), 0.019)
            for across in (-1, 1)
            for down in (-1, 1)
        ]
        return [
            Layer("band", sheet.cover(band), BAND),
            Layer("rivets", sheet.cover(union(*rivets)), RIVET),
        ]
    if material == "candy":
        slant = (sheet.x + sheet.y) * np.float32(0.7071)
        stripes = np.abs((slant % np.float32(0.12)) - np.float32(0.06)) - np.float32(0.028)
        return [Layer("stripes", sheet.cover(overlap(stripes, face)), STRIPE)]
    return []


def word_strokes(word: str) -> tuple[list[Stroke], float]:
    """The strokes of a word laid out on the board, and half their width."""
    letters = all(is_letter(char) for char in word)
    tall = _TALL[letters]
    radius = 0.018 if not letters or len(word) > 4 else 0.02 if len(word) > 3 else 0.0225
    glyphs = [glyph_strokes(char) for char in word]
    spans = [_span(strokes) if letters else (0.0, 1.0) for strokes in glyphs]
    gaps = _GAP * (len(word) - 1)
    natural = sum(right - left for left, right in spans) * tall
    stretch = min(1.2 if letters else 1.0, (_ROOM[letters] - gaps) / natural) if natural else 1.0
    x = _MIDDLE[0] - (natural * stretch + gaps) / 2
    laid: list[Stroke] = []
    for strokes, (left, right) in zip(glyphs, spans, strict=True):
        laid += [
            tuple((x + (u - left) * tall * stretch, _MIDDLE[1] + (v - 0.5) * tall) for u, v in stroke)
            for stroke in strokes
        ]
        x += (right - left) * tall * stretch + _GAP
    return laid, radius


def _span(strokes: tuple[Stroke, ...]) -> tuple[float, float]:
    across = [x for stroke in strokes for x, _ in stroke]
    return min(across), max(across)
