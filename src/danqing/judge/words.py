"""How the drawn world is spoken of, in English and in Chinese. Refuses to know geometry and pixels.

The sentences are in `phrases.toml`: for each task as many ways in each language, in the same order, so that one
question can be asked in all languages alike. Traditional Chinese is Simplified Chinese put through a table.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

from danqing.judge.world import Figure, Garment, Thing

LANGUAGES: tuple[str, ...] = ("en", "zh")
ALL_LANGUAGES: tuple[str, ...] = (*LANGUAGES, "zh-Hant")


@dataclass(frozen=True, slots=True)
class Said:
    """The same in English and in Simplified Chinese."""

    en: str
    zh: str

    def within(self, language: str) -> str:
        """In one of ALL_LANGUAGES, Traditional Chinese still written as Simplified."""
        return self.en if language == "en" else self.zh


COLOUR: dict[str, Said] = {
    "red": Said("red", "红色"),
    "orange": Said("orange", "橙色"),
    "yellow": Said("yellow", "黄色"),
    "green": Said("green", "绿色"),
    "blue": Said("blue", "蓝色"),
    "purple": Said("purple", "紫色"),
    "pink": Said("pink", "粉色"),
    "brown": Said("brown", "棕色"),
    "cyan": Said("cyan", "青色"),
    "black": Said("black", "黑色"),
}
SHAPE: dict[str, Said] = {
    "circle": Said("circle", "圆形"),
    "square": Said("square", "正方形"),
    "triangle": Said("triangle", "三角形"),
    "star": Said("star", "星星"),
    "heart": Said("heart", "爱心"),
    "diamond": Said("diamond", "菱形"),
    "cross": Said("cross", "十字"),
    "ring": Said("ring", "圆环"),
    "moon": Said("moon", "月亮"),
    "arrow": Said("arrow", "箭头"),
    "house": Said("house", "房子"),
    "fish": Said("fish", "鱼"),
}
SIZE: dict[str, Said] = {
    "tiny": Said("tiny", "极小的"),
    "small": Said("small", "小的"),
    "medium": Said("", ""),
    "large": Said("large", "大的"),
}


@dataclass(frozen=True, slots=True)
class PlaceWords:
    """`on` follows a verb or a thing; `to` follows 'move'."""

    on: Said
    to: Said


def _place(on: str, to: str, zh: str) -> PlaceWords:
    return PlaceWords(Said(on, zh), Said(to, zh))


PLACE: dict[str, PlaceWords] = {
    "centre": _place("in the middle", "to the middle", "中间"),
    "left": _place("on the left", "to the left", "左边"),
    "right": _place("on the right", "to the right", "右边"),
    "top": _place("at the top", "to the top", "上方"),
    "bottom": _place("at the bottom", "to the bottom", "下方"),
    "top_left": _place("in the top left corner", "to the top left corner", "左上角"),
    "top_right": _place("in the top right corner", "to the top right corner", "右上角"),
    "bottom_left": _place("in the bottom left corner", "to the bottom left corner", "左下角"),
    "bottom_right": _place("in the bottom right corner", "to the bottom right corner", "右下角"),
}
BACKGROUND: dict[str, Said] = {
    "white": Said("plain white", "白色"),
    "grey": Said("plain grey", "灰色"),
    "cream": Said("plain cream", "米色"),
    "beach": Said("a beach", "海滩"),
    "night": Said("a night sky", "夜空"),
    "grass": Said("a meadow", "草地"),
    "snow": Said("a snow field", "雪地"),
    "room": Said("a room", "房间"),
    "classroom": Said("a classroom with a blackboard", "有黑板的教室"),
}
STYLE: dict[str, Said] = {
    "flat": Said("flat colours", "平涂"),
    "outline": Said("line drawing", "线描"),
    "pixel": Said("pixel art", "像素画"),
    "night": Said("night scene", "夜景"),
}
GARMENT: dict[str, Said] = {
    "dress": Said("dress", "连衣裙"),
    "shirt": Said("shirt", "衬衫"),
    "coat": Said("coat", "大衣"),
}
HAIR: dict[str, Said] = {
    "black": Said("black", "黑"),
    "brown": Said("brown", "棕"),
    "yellow": Said("yellow", "黄"),
    "red": Said("red", "红"),
}
# What follows "make her", and what follows "a girl who".
POSE: dict[str, tuple[Said, Said]] = {
    "stand": (Said("stand with her arms down", "站着，双臂放下"), Said("stands", "站着")),
    "sit": (Said("sit down", "坐下"), Said("sits", "坐着")),
    "hands_up": (Said("raise both hands", "举起双手"), Said("raises both hands", "举着双手")),
    "wave": (Said("wave with one hand", "挥一只手"), Said("waves with one hand", "挥着一只手")),
    "arms_out": (Said("stretch out her arms", "张开双臂"), Said("stretches out her arms", "张开双臂")),
}
FACING: dict[str, Said] = {
    "front": Said("to the front", "正面"),
    "back": Said("from behind", "背面"),
    "left": Said("to the left", "左侧"),
    "right": Said("to the right", "右侧"),
}
EYES: dict[str, Said] = {"open": Said("open", "睁开"), "closed": Said("close", "闭上")}
GOODS: dict[str, Said] = {"shirt": Said("T-shirt", "T恤"), "bag": Said("tote bag", "手提袋")}
MATERIAL: dict[str, Said] = {
    "plain": Said("wood painted white", "白漆木板"),
    "metal": Said("metal", "金属"),
    "candy": Said("candy", "糖果"),
}


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def with_article(said: Said) -> Said:
    """As something new: "a red circle", "一个红色圆形"."""
    return Said(article(said.en), f"一个{said.zh}")


def thing(it: Thing, *, size: bool = True) -> Said:
    """Without an article: 'large red circle'."""
    colour, shape = COLOUR[it.colour], SHAPE[it.shape]
    big = SIZE[it.size] if size else SIZE["medium"]
    return Said(f"{big.en} {colour.en} {shape.en}".strip(), f"{big.zh}{colour.zh}{shape.zh}")


def garment(it: Garment) -> Said:
    """Without an article: 'red dress'."""
    colour, kind = COLOUR[it.colour], GARMENT[it.kind]
    return Said(f"{colour.en} {kind.en}", f"{colour.zh}{kind.zh}")


def figure(it: Figure) -> Said:
    """With an article, in full: 'a girl with red hair in a blue dress who sits'."""
    hair, wears, does = HAIR[it.hair], garment(Garment(it.garment, it.colour)), POSE[it.pose][1]
    en = f"a girl with {hair.en} hair in {article(wears.en)} who {does.en}"
    return Said(en, f"一个{hair.zh}头发、穿{wears.zh}的女孩{does.zh}")


def listed(said: list[Said]) -> Said:
    """One after the other."""
    en = ", ".join(part.en for part in said[:-1])
    return Said(f"{en} and {said[-1].en}" if en else said[-1].en, "，".join(part.zh for part in said))


_TRADITIONAL = str.maketrans(
    "个为们体侧写划删动张态挥损换据摆旧显极条涂滩点现环画着红线给绿蓝补衬视计让设该请质转边这连锐键闭间头颜风鱼黄双后图坏复变势举关强状爱圆发只应睁开属",
    "個為們體側寫劃刪動張態揮損換據擺舊顯極條塗灘點現環畫著紅線給綠藍補襯視計讓設該請質轉邊這連銳鍵閉間頭顏風魚黃雙後圖壞復變勢舉關強狀愛圓髮隻應睜開屬",
)


def traditional(text: str) -> str:
    """Simplified characters in their Traditional form, one by one."""
    return text.translate(_TRADITIONAL)


_SIMPLIFIED = {new: old for old, new in _TRADITIONAL.items()}


def simplified(text: str) -> str:
    """Traditional characters of this world's sentences in their Simplified form, one by one."""
    return text.translate(_SIMPLIFIED)


def _phrases() -> dict[str, dict[str, tuple[str, ...]]]:
    text = resources.files("danqing.judge").joinpath("phrases.toml").read_text(encoding="utf-8")
    return {
        task: {language: tuple(ways) for language, ways in by_language.items()}
        for task, by_language in tomllib.loads(text).items()
    }


PHRASES = _phrases()


QUOTED = ("word", "old")
"""Slots that repeat what a picture shows, letter by letter: no other script for them."""


def say(task: str, way: int, language: str, slots: dict[str, Said]) -> str:
    """One of the ways to ask for a task, with its slots filled."""
    spoken = "en" if language == "en" else "zh"
    ways = PHRASES[task][spoken]
    sentence, filled = ways[way % len(ways)], {name: said.within(spoken) for name, said in slots.items()}
    if language == "zh-Hant":
        sentence = traditional(sentence)
        filled = {name: text if name in QUOTED else traditional(text) for name, text in filled.items()}
    said = sentence.format(**filled)
    return said[0].upper() + said[1:] if spoken == "en" else said
