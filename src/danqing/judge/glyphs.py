"""A stroke font of our own: the capital letters and some Chinese characters, and the words that stand on signs.

Refuses to know how thick or how large a stroke is drawn.
"""

from __future__ import annotations

import itertools
import tomllib
from functools import cache
from importlib.resources import files

Stroke = tuple[tuple[float, float], ...]

# Sign words of two to five letters, and of one or two characters. No two letter words of one length share all
# letters but one, so that a word half read is not another.
_ENGLISH = """
OPEN SHOP SALE TEA CANDY HOME PARK BUS TAXI EXIT HELLO MILK BOOK ZOO SUSHI GIFT LOVE SUN HOT COLD
NEW FREE YES NO PIZZA JUICE QUIET MUSIC HOTEL BREAD KEY VIP TOYS WIFI UP MAP IN SWEET RICE LUCKY
"""
_CHINESE = """
开门 上下 大小 日月 山水 出口 火车 中文 牛羊 木马 白云 东西 左右 早市 平安 玉石 手工 自由 面包 书店 竹林
正午 加油 元旦 丰年 千万 花布 雨天 户外 女生 电 米 王 心 北 田 光 家 回 古 五 衣
"""
WORDS_EN: tuple[str, ...] = tuple(_ENGLISH.split())
WORDS_ZH: tuple[str, ...] = tuple(_CHINESE.split())

_GRID = "0123456789a"


@cache
def _table() -> dict[str, str]:
    data = tomllib.loads(files("danqing.judge").joinpath("glyphs.toml").read_text(encoding="utf-8"))
    return {**data["letters"], **data["characters"]}


@cache
def glyph_strokes(char: str) -> tuple[Stroke, ...]:
    """The strokes of a capital letter or a character, in the unit square, y down; KeyError if we have none."""
    return tuple(_stroke(text) for text in _table()[char].split())


def glyphs() -> tuple[str, ...]:
    """Every letter and character there is."""
    return tuple(_table())


def is_letter(char: str) -> bool:
    """Whether this is one of the letters, which are as wide as their strokes; a character fills the square."""
    return char.isascii()


def _stroke(text: str) -> Stroke:
    curved = text.startswith("~")
    last = len(_GRID) - 1
    points = tuple(
        (_GRID.index(point[0]) / last, _GRID.index(point[1]) / last)
        for point in text.removeprefix("~").split("-")
    )
    return _smooth(points) if curved else points


def _smooth(points: Stroke, rounds: int = 2) -> Stroke:
    """Cut the corners; the ends of an open stroke stay where they are."""
    closed = points[0] == points[-1]
    for _ in range(rounds):
        cut: list[tuple[float, float]] = []
        for (x, y), (to_x, to_y) in itertools.pairwise(points):
            cut.append((x + (to_x - x) * 0.25, y + (to_y - y) * 0.25))
            cut.append((x + (to_x - x) * 0.75, y + (to_y - y) * 0.75))
        points = (*cut, cut[0]) if closed else (points[0], *cut[1:-1], points[-1])
    return points
