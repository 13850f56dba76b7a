"""How the drawn world is spoken of, in English and in Simplified Chinese. Refuses to know geometry and pixels."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES: tuple[str, ...] = ("en", "zh")

COLOUR_ZH: dict[str, str] = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "black": "黑色",
}
SHAPE_ZH: dict[str, str] = {
    "circle": "圆形",
    "square": "正方形",
    "triangle": "三角形",
    "star": "星星",
    "heart": "爱心",
    "diamond": "菱形",
}


@dataclass(frozen=True, slots=True)
class PlaceWords:
    """`on` follows a verb or a thing; `to` follows 'move'."""

    on: str
    to: str
    zh: str


PLACE_WORDS: dict[str, PlaceWords] = {
    "centre": PlaceWords("in the middle", "to the middle", "中间"),
    "left": PlaceWords("on the left", "to the left", "左边"),
    "right": PlaceWords("on the right", "to the right", "右边"),
    "top": PlaceWords("at the top", "to the top", "上方"),
    "bottom": PlaceWords("at the bottom", "to the bottom", "下方"),
    "top_left": PlaceWords("in the top left corner", "to the top left corner", "左上角"),
    "top_right": PlaceWords("in the top right corner", "to the top right corner", "右上角"),
    "bottom_left": PlaceWords("in the bottom left corner", "to the bottom left corner", "左下角"),
    "bottom_right": PlaceWords("in the bottom right corner", "to the bottom right corner", "右下角"),
}

BACKGROUND_EN: dict[str, str] = {
    "white": "plain white",
    "grey": "plain grey",
    "cream": "plain cream",
    "beach": "a beach",
    "night": "a night sky",
    "grass": "a meadow",
    "snow": "a snow field",
    "room": "a room",
}
BACKGROUND_ZH: dict[str, str] = {
    "white": "白色",
    "grey": "灰色",
    "cream": "米色",
    "beach": "海滩",
    "night": "夜空",
    "grass": "草地",
    "snow": "雪地",
    "room": "房间",
}


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def thing_en(colour: str, shape: str) -> str:
    """Without an article: 'red circle'."""
    return f"{colour} {shape}"


def thing_zh(colour: str, shape: str) -> str:
    """As said in Chinese, without a measure word."""
    return f"{COLOUR_ZH[colour]}{SHAPE_ZH[shape]}"


# Ways to ask, by row and language. The slots are filled by the rows.
PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "text_to_image": {
        "en": (
            "{things}. The background is {background}.",
            "Draw {things}, the background is {background}.",
            "A picture of {things} with {background} as background.",
        ),
        "zh": (
            "{things}，背景是{background}。",
            "画{things}，背景是{background}。",
            "背景是{background}，{things}。",
        ),
    },
    "recolour": {
        "en": (
            "Make the {thing} {colour}.",
            "Change the colour of the {thing} to {colour}.",
            "Turn the {thing} {colour}.",
        ),
        "zh": ("把{thing}变成{colour}。", "将{thing}的颜色改为{colour}。", "把{thing}涂成{colour}。"),
    },
    "replace": {
        "en": (
            "Replace the {thing} with {new}.",
            "Swap the {thing} for {new}.",
            "Put {new} where the {thing} is.",
        ),
        "zh": ("把{thing}换成{new}。", "将{thing}替换为{new}。", "用{new}代替{thing}。"),
    },
    "delete": {
        "en": ("Remove the {thing}.", "Delete the {thing}.", "Take the {thing} away."),
        "zh": ("去掉{thing}。", "删除{thing}。", "把{thing}移除。"),
    },
    "add": {
        "en": ("Add {new} {on}.", "Put {new} {on}.", "Draw {new} {on}."),
        "zh": ("在{on}添加一个{new}。", "{on}加上一个{new}。", "在{on}画一个{new}。"),
    },
    "move": {
        "en": ("Move the {thing} {to}.", "Shift the {thing} {to}."),
        "zh": ("把{thing}移到{on}。", "将{thing}移动到{on}。"),
    },
    "background": {
        "en": ("Change the background to {background}.", "Make the background {background}."),
        "zh": ("把背景换成{background}。", "将背景改为{background}。"),
    },
    "fusion_object": {
        "en": (
            "Put the {thing} of image 2 into image 1, {on}.",
            "Add the {thing} from image 2 to image 1 {on}.",
            "Place the object of image 2 into image 1 {on}.",
        ),
        "zh": (
            "把图2的{thing}放到图1的{on}。",
            "将图2中的{thing}加到图1的{on}。",
            "把图2的物体放到图1的{on}。",
        ),
    },
    "fusion_background": {
        "en": (
            "Use the background of image 2 for image 1.",
            "Give image 1 the background of image 2.",
            "Replace the background of image 1 with that of image 2.",
        ),
        "zh": ("把图1的背景换成图2的背景。", "图1使用图2的背景。", "用图2的背景替换图1的背景。"),
    },
    "fusion_three": {
        "en": (
            "Put the {thing} of image 2 into image 1 {on} and use the background of image 3.",
            "Add the {thing} from image 2 to image 1 {on}, with the background of image 3.",
            "Place the object of image 2 into image 1 {on} and use the background of image 3.",
        ),
        "zh": (
            "把图2的{thing}放到图1的{on}，背景使用图3的背景。",
            "将图2中的{thing}加到图1的{on}，并换成图3的背景。",
            "把图2的物体放到图1的{on}，背景使用图3的背景。",
        ),
    },
    "background_of_three": {
        "en": (
            "Use the background of image 3 for image 1.",
            "Give image 1 the background of image 3.",
            "Replace the background of image 1 with that of image 3.",
        ),
        "zh": ("把图1的背景换成图3的背景。", "图1使用图3的背景。", "用图3的背景替换图1的背景。"),
    },
}
