"""DashScope JSON to an Order, in two steps. Pure: no network, no clock, no store; the model's rules are handed in.

`envelope` answers the first questions (is it JSON, which model), so that a route can ask about key, model and mode
before anything else is looked at; `order` then checks the structure of `input` and, after it, the values. The
messages are the service's own where the wire contract has them (its section 4.4), ours in its manner elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from danqing.core import sizes
from danqing.core.errors import (
    BadOrder,
    Fault,
    InputMissing,
    InputNotObject,
    ModelMissing,
    NotJson,
    UnknownModel,
)
from danqing.core.models import KnobRule, Model, SizeRule
from danqing.core.order import Knob, Order
from danqing.core.raster import Size
from danqing.wire.dashscope import pictures
from danqing.wire.json import parse

SYNC = "dashscope/multimodal-generation"
"""The catalogue's keys of the routes: messages, answered when the pictures are ready; …"""
IMAGES = "dashscope/image-generation"
"""… messages, as a task; …"""
TEXT_TO_IMAGE = "dashscope/text2image"
"""… a prompt, as a task; …"""
IMAGE_TO_IMAGE = "dashscope/image2image"
"""… a prompt and pictures by name, as a task; …"""
COMPATIBLE = "dashscope/compatible"
"""… and the flat body of the OpenAI-compatible mode."""

SEEDS = (0, 2_147_483_647)
_SIZE = re.compile(r"([0-9]{1,6})\*([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A body that is a JSON object and names a model; nothing else of it has been checked."""

    model: str
    document: Mapping[str, Any] = field(repr=False)

    def fingerprint(self) -> str:
        """SHA-256 of the canonical form (sorted members), by which an idempotency key knows its request again."""
        return hashlib.sha256(orjson.dumps(self.document, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a body asks for. `late` is the refusal of a value that the route reports in the task instead of at once;
    the order beside it holds the prompts, no pictures, and the model's defaults."""

    order: Order
    late: Fault | None = None


def envelope(body: bytes) -> Envelope:
    """The body as an object with a model's name. Raises NotJson, ModelMissing, UnknownModel (not a string)."""
    document = parse(body)
    if not isinstance(document, dict):
        raise NotJson
    model = document.get("model")
    if model is None or model == "":
        raise ModelMissing
    if not isinstance(model, str):
        raise UnknownModel
    return Envelope(model, document)


def read(envelope: Envelope, model: Model, route: str) -> Reading:
    """The order of a body that came by `route`, checked against the model: structure, then values, then pictures.
    A wrong structure is raised on every route; wrong values and picture references are raised on `SYNC` and
    `COMPATIBLE`, and told in `Reading.late` on the others."""
    texts = _content(_message(envelope.document))[0]
    try:
        return Reading(order(envelope, model))
    except Fault as fault:
        if route in (SYNC, COMPATIBLE) or not texts:
            raise
        return Reading(Order(model=model.name, prompt=texts[0], count=model.default_count), fault)


def order(envelope: Envelope, model: Model) -> Order:
    """The order in the envelope, checked against the model: structure, then values, then pictures.

    Raises InputMissing, InputNotObject, BadOrder, InputMalformed, InputTooLarge.
    """
    texts, images = _content(_message(envelope.document))
    if not texts or not texts[0] or len(images) < model.images[0]:
        raise BadOrder("lack of image or text")
    if len(texts) > 1:
        raise BadOrder("the message must contain exactly one text item", field="input.messages[0].content")
    if len(images) > model.images[1]:
        raise BadOrder(_too_many(model, len(images)))
    values = _values(_parameters(envelope.document), model)
    return Order(
        model=model.name,
        prompt=texts[0][: model.prompt_chars],
        sources=tuple(pictures.source(image, model.inputs) for image in images),
        **values,
    )


def _message(document: Mapping[str, Any]) -> Mapping[str, Any]:
    given = document.get("input")
    if given is None:
        if "messages" in document:
            raise BadOrder("Field required: input.messages")
        raise InputMissing
    if not isinstance(given, dict):
        raise InputNotObject
    messages = given.get("messages")
    if messages is None:
        raise BadOrder(
            "No messages found in input" if "messages" in given else "Field required: input.messages"
        )
    if not isinstance(messages, list):
        raise _bad("input.messages")
    if not messages:
        raise BadOrder("[] is too short")
    if len(messages) > 1:
        raise BadOrder("messages length only support 1")
    if not isinstance(messages[0], dict):
        raise _bad("input.messages[0]")
    return messages[0]


def _content(message: Mapping[str, Any]) -> tuple[list[str], list[object]]:
    """The texts and the pictures of the message, each in order."""
    if message.get("role") != "user":
        raise _bad("input.messages[0].role")
    content = message.get("content")
    if not isinstance(content, list):
        raise _bad("input.messages[0].content")
    texts: list[str] = []
    images: list[object] = []
    for place, item in enumerate(content):
        where = f"input.messages[0].content[{place}]"
        if not isinstance(item, dict) or not item.keys() & {"text", "image"}:
            raise _bad(where)
        if "text" in item:
            texts.append(_string(item["text"], f"{where}.text"))
        if "image" in item:
            images.append(item["image"])
    return texts, images


def _too_many(model: Model, count: int) -> str:
    low, high = model.images
    name = model.labels.get("internal_name", model.name)
    modes = f" (0 images = T2I mode, 1~{high} images = I2I mode)" if low == 0 < high else ""
    return f"Model '{name}' supports {low}~{high} image content items. Got {count} image items.{modes}"


def _parameters(document: Mapping[str, Any]) -> dict[str, Any]:
    """The given parameters; a member that is null counts as absent."""
    given = document.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _bad("parameters")
    return {name: value for name, value in given.items() if value is not None}


def _values(given: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The members of an Order that come from parameters, in the order in which they are checked: `n` before
    `size`."""
    negative = given.get("negative_prompt")
    watermark = given.get("watermark", False)
    if not isinstance(watermark, bool):
        raise _wrong("watermark", "true or false")
    return {
        "count": _count(given.get("n", model.default_count), model),
        "size": _size(given["size"], model) if "size" in given else None,
        "seed": _seed(given["seed"]) if "seed" in given else None,
        "negative_prompt": None
        if negative is None
        else _string(negative, "parameters.negative_prompt")[: model.negative_chars],
        "watermark": watermark,
        "knobs": {
            name: _knob(name, given.get(name, rule.default), rule) for name, rule in model.knobs.items()
        },
    }


def _count(value: object, model: Model) -> int:
    count = _whole("n", value)
    low, high = model.count
    if low <= count <= high:
        return count
    if high == 1:
        raise BadOrder("num_images_per_prompt must be 1", field="parameters.n")
    raise BadOrder(f"Range of n should be [{low}, {high}]", field="parameters.n")


def _seed(value: object) -> int:
    seed = _whole("seed", value)
    if not SEEDS[0] <= seed <= SEEDS[1]:
        raise BadOrder(f"Range of seed should be [{SEEDS[0]}, {SEEDS[1]}]", field="parameters.seed")
    return seed


def _size(value: object, model: Model) -> Size:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadOrder("Expected format: '<width>*<height>'", field="parameters.size")
    size = Size(int(match[1]), int(match[2]))
    breach = sizes.check(model.size, size)
    if breach is not None:
        raise BadOrder(_size_text(breach, size, model), field="parameters.size")
    return size


def _size_text(breach: sizes.Breach, size: Size, model: Model) -> str:
    """What the service says of a size: recorded texts for sides, area and presets, ours for the rest."""
    rule: SizeRule = model.size
    match breach:
        case sizes.Breach.FIXED:
            return f"the parameters must conform to the specification: {model.name} does not support size."
        case sizes.Breach.PRESET:
            allowed = ", ".join(f"'{_star(preset)}'" for preset in rule.presets)
            return f"The size is not match the allowed size [{allowed}]"
        case sizes.Breach.SIDES:
            low, high = rule.sides or (1, 1)
            return f"Size {_star(size)} is out of range [{low}*{low}, {high}*{high}]"
        case sizes.Breach.AREA:
            bounds = " and ".join(_square(area) for area in rule.area or ())
            return f"Image area must be between {bounds} pixels"
        case sizes.Breach.RATIO:
            low_ratio, high_ratio = rule.ratio or (1.0, 1.0)
            return f"Image aspect ratio must be between {low_ratio:g} and {high_ratio:g}"


def _star(size: Size) -> str:
    return f"{size.width}*{size.height}"


def _square(area: int) -> str:
    side = round(area**0.5)
    return f"{area} ({side}x{side})"


def _knob(name: str, value: object, rule: KnobRule) -> Knob:
    """A parameter that only the catalogue knows."""
    match rule.type, value:
        case ("bool", bool(truth)):
            return truth
        case ("int", int(whole)) if not isinstance(whole, bool):
            return _bounded(name, whole, rule)
        case ("float", float() | int() as number) if not isinstance(number, bool):
            return _bounded(name, float(number), rule)
        case ("str", str(text)) if not rule.choices or text in rule.choices:
            return text
    words = {"bool": "true or false", "int": "an integer", "float": "a number", "str": "a string"}
    raise _wrong(name, f"one of {', '.join(rule.choices)}" if rule.choices else words[rule.type])


def _bounded(name: str, value: float, rule: KnobRule) -> float:
    if rule.bounds is not None and not rule.bounds[0] <= value <= rule.bounds[1]:
        low, high = rule.bounds
        raise BadOrder(f"Range of {name} should be [{low:g}, {high:g}]", field=f"parameters.{name}")
    return value


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name, "an integer")
    return value


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _bad(where)
    return value


def _bad(where: str) -> BadOrder:
    text = f"Required parameter({where}) missing or invalid, please check the request parameters."
    return BadOrder(text, field=where)


def _wrong(name: str, expected: str) -> BadOrder:
    text = f"The type or value of {name} is out of definition: expected {expected}."
    return BadOrder(text, field=f"parameters.{name}")
