"""DashScope JSON to an Order, in two steps. Pure: no network, no clock, no store; the model's rules are handed in.

`envelope` answers the first questions (is it JSON, which model), so that a route can ask about key, model and mode
before anything else is looked at; `read` then checks the structure of the body, after it the values, and last the
references of the pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from danqing.core.errors import Fault, ModelMissing, NotJson, UnknownModel
from danqing.core.models import Model
from danqing.core.order import Order
from danqing.wire.dashscope import bodies, functions, pictures, values
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

SHAPES: Mapping[str, Callable[[Mapping[str, Any], Model], bodies.Asked]] = MappingProxyType(
    {
        SYNC: bodies.messages,
        IMAGES: bodies.messages,
        TEXT_TO_IMAGE: bodies.prompt,
        IMAGE_TO_IMAGE: bodies.pictures,
        COMPATIBLE: bodies.flat,
    }
)
AT_ONCE = frozenset({SYNC, COMPATIBLE})
"""Routes that answer everything at once; on the others a wrong value ends the task."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A body that is a JSON object and names a model; nothing else of it has been checked."""

    model: str
    document: Mapping[str, Any] = field(repr=False)

    def fingerprint(self, route: str) -> str:
        """SHA-256 of the route and the canonical form (sorted members), by which an idempotency key knows its request
        again, and the store, with or without a key, one that ended workers."""
        told = orjson.dumps([route, self.document], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(told).hexdigest()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a body asks for. `late` is the refusal of a value that the route reports in the task instead of at once;
    the order beside it then holds the prompt, no pictures, the count, and the model's defaults."""

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


def read(
    envelope: Envelope, model: Model, route: str, *, resolve: bool = False, frames: bool = False
) -> Reading:
    """The order of a body that came by `route`, checked against the model: structure, then values, then pictures.
    With `resolve` they may be files that were sent ahead; with `frames` the answer may come in parts.

    Raises InputMissing, InputNotObject and BadOrder for a wrong structure; on the routes `AT_ONCE` also BadOrder,
    InputMalformed and InputTooLarge for values and pictures, which the others tell in `Reading.late`.
    """
    asked = SHAPES[route](envelope.document, model)
    grammar = values.FLAT if route == COMPATIBLE else values.NATIVE
    limits = values.limits(asked, model)
    values.served(asked, limits, grammar, plain=None if frames else route)
    prompt = functions.prompt(asked.prompt[: model.prompt_chars], asked.rule)
    try:
        members = values.members(asked, limits, grammar)
        sources = tuple(pictures.source(picture, model.inputs, resolve=resolve) for picture in asked.pictures)
        mask = None if asked.mask is None else pictures.source(asked.mask, model.inputs, resolve=resolve)
    except Fault as fault:
        if route in AT_ONCE:
            raise
        return Reading(Order(model=model.name, prompt=prompt, count=values.asked_count(asked, limits)), fault)
    return Reading(Order(model=model.name, prompt=prompt, sources=sources, mask=mask, **members))
