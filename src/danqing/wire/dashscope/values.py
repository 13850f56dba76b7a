"""The parameters of a DashScope body, checked against a model: numbers, sizes, truths, colours, boxes. Pure.

Which of size and count is looked at first is the model's; the rest follows in one order. A parameter that the model
does not have is ignored, as the service ignores it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from danqing.core import sizes
from danqing.core.errors import BadOrder
from danqing.core.models import KnobRule, Model, ModeRule, SizeRule, Standing
from danqing.core.order import Box, Knob
from danqing.core.raster import Size
from danqing.wire.dashscope import functions, lists
from danqing.wire.dashscope.bodies import Asked
from danqing.wire.dashscope.refusals import bad, says, unserved, wrong

SEEDS = (0, 2_147_483_647)
TOKENS = ("1K", "2K", "4K")
"""Words for sizes that some models take; the others say what they say of any wrong size."""

_TRUTHS = {"true": True, "false": False}
_KINDS = {"bool": "true or false", "int": "an integer", "float": "a number", "str": "a string"}


@dataclass(frozen=True, slots=True)
class Grammar:
    """How a route spells a size: between the numbers, and the word for none at all."""

    pattern: re.Pattern[str]
    between: str
    none: str | None = None


NATIVE = Grammar(re.compile(r"([0-9]{1,6})\*([0-9]{1,6})"), "*")
FLAT = Grammar(re.compile(r"([0-9]{1,6})x([0-9]{1,6})"), "x", none="auto")


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one request: the model's limits, or those of the mode that it turned on."""

    model: Model
    images: tuple[int, int]
    count: tuple[int, int]
    default_count: int
    size: SizeRule
    pictures: int
    mode: str | None = None
    most: str | None = None


def limits(asked: Asked, model: Model) -> Limits:
    """The limits of a request, its number of pictures checked against them. Raises BadOrder."""
    name, mode = _mode(asked.parameters, model)
    pictures = len(asked.pictures)
    low, high = mode.images if mode is not None else model.images
    if not low <= pictures <= high:
        text = "images_or_none" if low == 0 < high and "images" not in model.texts else "images"
        raise says(model, text, low=low, high=high, given=pictures)
    size = model.size if not pictures or model.edit_size is None else model.edit_size
    if mode is None:
        return Limits(model, model.images, model.count, model.default_count, size, pictures)
    rule = mode.size or size
    return Limits(model, mode.images, mode.count, mode.default_count, rule, pictures, name, mode.most)


def served(asked: Asked, found: Limits, grammar: Grammar = NATIVE, *, plain: str | None = None) -> None:
    """Raises BadOrder for a mode or a function that nothing here can do, and for a mode that is streamed on the route
    `plain`, which is answered otherwise; after the service's own complaints."""
    mode = found.model.modes[found.mode] if found.mode is not None else None
    if mode is not None and mode.standing is Standing.REFUSED:
        members(asked, found, grammar)
        raise unserved(str(found.mode), mode.note)
    if mode is not None and plain in mode.streamed:
        members(asked, found, grammar)
        raise BadOrder(
            f"{found.mode} is supported for streaming calls only, please set the header X-DashScope-SSE to enable",
            field=f"parameters.{found.mode}",
        )
    if asked.rule is not None and asked.rule.standing is Standing.REFUSED:
        members(asked, found, grammar)
        raise unserved(f"function {asked.function}", asked.rule.note, "input.function")


def members(asked: Asked, found: Limits, grammar: Grammar = NATIVE) -> dict[str, Any]:
    """The members of an Order that come from parameters. Raises BadOrder for the first that is wrong."""
    given, model = asked.parameters, found.model
    made: dict[str, Any] = {}
    for check in model.checks:
        made |= _sized(given, found, grammar) if check == "size" else {"count": _count(given, found)}
    made["seed"] = _seed(given["seed"]) if "seed" in given else None
    made["negative_prompt"] = _negative(asked, model)
    made["watermark"] = _watermark(given) if model.watermark else False
    rules = {**model.knobs, **(asked.rule.knobs if asked.rule is not None else {})}
    made["knobs"] = _knobs(given, rules, found)
    if found.most is not None:
        made["count"] = made["knobs"][found.most]
    made["boxes"] = _boxes(given, rules)
    if asked.rule is not None:
        made |= functions.members(asked.rule, made["knobs"])
    return made


def asked_count(asked: Asked, found: Limits) -> int:
    """How many pictures were asked for, whatever else is wrong; the default where that number is wrong itself."""
    with suppress(BadOrder):
        return _count(asked.parameters, found)
    return found.default_count


def _mode(given: Mapping[str, Any], model: Model) -> tuple[str | None, ModeRule | None]:
    for name, rule in model.modes.items():
        value = given.get(name, False)
        if not isinstance(value, bool):
            raise wrong(name, "true or false")
        if value:
            return name, rule
    return None, None


def _count(given: Mapping[str, Any], found: Limits) -> int:
    if "n" not in given:
        return found.default_count
    count = _whole("n", given["n"])
    low, high = found.count
    if low <= count <= high:
        return count
    text = "one" if high == 1 and "count" not in found.model.texts else "count"
    raise says(found.model, text, "parameters.n", low=low, high=high)


def _seed(value: object) -> int:
    seed = _whole("seed", value)
    if not SEEDS[0] <= seed <= SEEDS[1]:
        raise BadOrder(f"Range of seed should be [{SEEDS[0]}, {SEEDS[1]}]", field="parameters.seed")
    return seed


def _negative(asked: Asked, model: Model) -> str | None:
    """Cut without a word, as prompts are; ignored where the model has none."""
    inside = asked.negative is not None
    value = asked.negative if inside else asked.parameters.get("negative_prompt")
    if value is None or not model.negative_chars:
        return None
    if not isinstance(value, str):
        raise bad("input.negative_prompt" if inside else "parameters.negative_prompt")
    return value[: model.negative_chars]


def _watermark(given: Mapping[str, Any]) -> bool:
    value = given.get("watermark", False)
    if not isinstance(value, bool):
        raise wrong("watermark", "true or false")
    return value


def _sized(given: Mapping[str, Any], found: Limits, grammar: Grammar) -> dict[str, Any]:
    """The size, or the area that a word stands for; nothing where none is asked or none is read."""
    rule, value = found.size, given.get("size")
    if value is None or rule.follow or value == grammar.none:
        return {}
    if isinstance(value, str) and value in rule.tokens:
        return {"area": rule.tokens[value]}
    match = grammar.pattern.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        text, most = ("token", list(rule.tokens)[-1]) if rule.tokens and value in TOKENS else ("format", "")
        raise says(
            *(found.model, text, "parameters.size"),
            size=value,
            most=most,
            mode=_scene(found),
            between=grammar.between,
        )
    size = Size(int(match[1]), int(match[2]))
    breach = sizes.check(rule, size)
    if breach is not None:
        raise _breached(breach, size, found, value)
    return {"size": size}


def _breached(breach: sizes.Breach, size: Size, found: Limits, value: object) -> BadOrder:
    rule = found.size
    bounds = {sizes.Breach.SIDES: rule.sides, sizes.Breach.AREA: rule.area, sizes.Breach.RATIO: rule.ratio}
    low, high = bounds.get(breach) or (1, 1)
    return says(
        found.model,
        breach.value,
        "parameters.size",
        size=value,
        pixels=size.area,
        low=low,
        high=high,
        low_side=round(low**0.5),
        high_side=round(high**0.5),
        presets=", ".join(f"'{preset.width}*{preset.height}'" for preset in rule.presets),
        mode=_scene(found),
    )


def _scene(found: Limits) -> str:
    return "i2i" if found.pictures else "t2i"


def _knobs(given: Mapping[str, Any], rules: Mapping[str, KnobRule], found: Limits) -> dict[str, Knob]:
    knobs: dict[str, Knob] = {} if found.mode is None else {found.mode: True}
    for name, rule in rules.items():
        value = given.get(name)
        if value is not None and found.mode in rule.not_with:
            raise BadOrder(f"{name} is not supported when {found.mode} is true", field=f"parameters.{name}")
        if rule.type in lists.CHECKS:
            made = None if value is None else lists.CHECKS[rule.type](name, value, found.pictures)
            if made is not None:
                knobs[name] = made
            continue
        knobs[name] = rule.default if value is None else _knob(name, value, rule, found.model)
        if found.pictures and knobs[name] in rule.text_only:
            raise BadOrder(
                f"{name} '{knobs[name]}' is supported for text-to-image requests only",
                field=f"parameters.{name}",
            )
    return knobs


def _boxes(given: Mapping[str, Any], rules: Mapping[str, KnobRule]) -> tuple[tuple[Box, ...], ...]:
    """Those of each picture, checked already."""
    given_lists = [given[name] for name, rule in rules.items() if rule.type == "boxes" and name in given]
    return tuple(tuple(tuple(box) for box in boxes) for boxes in given_lists[0]) if given_lists else ()


def _knob(name: str, value: object, rule: KnobRule, model: Model | None = None) -> Knob:
    """A parameter that only the catalogue knows."""
    if rule.spelt and isinstance(value, str) and value in _TRUTHS:
        return _TRUTHS[value]
    match rule.type, value:
        case ("bool", bool(truth)):
            return truth
        case ("int", int(whole)) if not isinstance(whole, bool):
            return _bounded(name, whole, rule)
        case ("float", float() | int() as number) if not isinstance(number, bool):
            return _bounded(name, float(number), rule)
        case ("str", str(text)) if not rule.choices or text in rule.choices:
            return text
    if model is not None and name in model.texts:
        raise says(model, name, f"parameters.{name}")
    raise wrong(name, f"one of {', '.join(rule.choices)}" if rule.choices else _KINDS[rule.type])


def _bounded(name: str, value: float, rule: KnobRule) -> float:
    if rule.bounds is not None and not rule.bounds[0] <= value <= rule.bounds[1]:
        low, high = rule.bounds
        raise BadOrder(f"Range of {name} should be [{low:g}, {high:g}]", field=f"parameters.{name}")
    return value


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(name, "an integer")
    return value
