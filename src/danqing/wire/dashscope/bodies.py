"""The four shapes of a DashScope body to what they ask for: structure only. Pure; values and pictures come later.

messages    {"input": {"messages": [{"role": "user", "content": [{"image": …}, {"text": …}]}]}, "parameters": {…}}
prompt      {"input": {"prompt": …, "negative_prompt": …}, "parameters": {…}}
pictures    … with "images", or with "function", "base_image_url" and "mask_image_url"
flat        {"prompt": …, "image": …, "n": …, …}, the OpenAI-compatible mode's
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from danqing.core.errors import BadOrder, InputMissing, InputNotObject
from danqing.core.models import FunctionRule, Model
from danqing.wire.dashscope.refusals import bad, required, says, wrong

FLAT = frozenset({"model", "prompt", "image", "response_format"})
"""Members of the flat body that are no parameters."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body holds, whatever its shape. `pictures` are references as given; a member of `parameters` that was
    null is absent; `negative` is that of `input`, which wins over the parameter."""

    prompt: str
    pictures: tuple[object, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    negative: object = None
    function: str | None = None
    rule: FunctionRule | None = None
    mask: object = None


def messages(document: Mapping[str, Any], model: Model) -> Asked:
    """The one message of a call. Raises InputMissing, InputNotObject, BadOrder."""
    texts, images = _content(_message(document))
    if not texts or not texts[0] or (len(images) < model.images[0] and "images" not in model.texts):
        raise says(model, "lack")
    if len(texts) > 1:
        raise BadOrder("the message must contain exactly one text item", field="input.messages[0].content")
    return Asked(texts[0], tuple(images), parameters(document))


def prompt(document: Mapping[str, Any], model: Model) -> Asked:
    """A prompt without pictures. Raises InputMissing, InputNotObject, BadOrder."""
    given = _input(document)
    _refuse(given, model)
    return Asked(_prompt(given), (), parameters(document), given.get("negative_prompt"))


def pictures(document: Mapping[str, Any], model: Model) -> Asked:
    """A prompt with pictures, or with a function and its picture. Raises InputMissing, InputNotObject, BadOrder."""
    given = _input(document)
    _refuse(given, model)
    if model.functions:
        return _function(document, given, model)
    images = given.get("images")
    if images is None:
        raise required("input.images")
    if not isinstance(images, list):
        raise bad("input.images")
    return Asked(_prompt(given), tuple(images), parameters(document), given.get("negative_prompt"))


def flat(document: Mapping[str, Any], _: Model) -> Asked:
    """The OpenAI-compatible body. Raises BadOrder."""
    given = document.get("prompt")
    if given is None:
        raise BadOrder("Field 'prompt' is required", field="prompt")
    if not isinstance(given, str) or not given:
        raise BadOrder("Field 'prompt' must be a non-empty string", field="prompt")
    image = document.get("image", ())
    images = (image,) if isinstance(image, str) else image
    if image is None or image == [] or not isinstance(images, (list, tuple)):
        raise BadOrder("Field 'image' must be a string or a non-empty array of strings", field="image")
    if not isinstance(document.get("negative_prompt"), str | None):
        raise BadOrder("Field 'negative_prompt' must be a string", field="negative_prompt")
    rest = {name: value for name, value in document.items() if name not in FLAT and value is not None}
    return Asked(given, tuple(images), rest)


def parameters(document: Mapping[str, Any]) -> dict[str, Any]:
    """The given parameters; a member that is null counts as absent. Raises BadOrder."""
    given = document.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise bad("parameters")
    return {name: value for name, value in given.items() if value is not None}


def _input(document: Mapping[str, Any]) -> Mapping[str, Any]:
    given = document.get("input")
    if given is None:
        raise InputMissing
    if not isinstance(given, dict):
        raise InputNotObject
    return given


def _refuse(given: Mapping[str, Any], model: Model) -> None:
    for member, why in model.refuses.items():
        if given.get(member) not in (None, ""):
            raise BadOrder(f"{member} is not available on this service: {why}.", field=f"input.{member}")


def _prompt(given: Mapping[str, Any]) -> str:
    text = given.get("prompt")
    if text is None:
        raise required("input.prompt")
    if not isinstance(text, str) or not text:
        raise bad("input.prompt")
    return text


def _function(document: Mapping[str, Any], given: Mapping[str, Any], model: Model) -> Asked:
    asked = given.get("function")
    if asked is None:
        raise required("input.function")
    name = next((name for name, rule in model.functions.items() if asked == name or asked in rule.also), None)
    if name is None:
        raise wrong("function", f"one of {', '.join(model.functions)}", "input.function")
    rule = model.functions[name]
    for member in ("base_image_url", "mask_image_url")[: 2 if rule.mask else 1]:
        if given.get(member) is None:
            raise required(f"input.{member}")
    return Asked(
        prompt=_prompt(given),
        pictures=(given["base_image_url"],),
        parameters=parameters(document),
        function=name,
        rule=rule,
        mask=given["mask_image_url"] if rule.mask else None,
    )


def _message(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if document.get("input") is None and "messages" in document:
        raise required("input.messages")
    given = _input(document)
    found = given.get("messages")
    if found is None:
        raise (BadOrder("No messages found in input") if "messages" in given else required("input.messages"))
    if not isinstance(found, list):
        raise bad("input.messages")
    if not found:
        raise BadOrder("[] is too short")
    if len(found) > 1:
        raise BadOrder("messages length only support 1")
    if not isinstance(found[0], dict):
        raise bad("input.messages[0]")
    return found[0]


def _content(message: Mapping[str, Any]) -> tuple[list[str], list[object]]:
    """The texts and the pictures of the message, each in order."""
    if message.get("role") != "user":
        raise bad("input.messages[0].role")
    content = message.get("content")
    if not isinstance(content, list):
        raise bad("input.messages[0].content")
    texts: list[str] = []
    images: list[object] = []
    for place, item in enumerate(content):
        where = f"input.messages[0].content[{place}]"
        if not isinstance(item, dict) or not item.keys() & {"text", "image"}:
            raise bad(where)
        if "text" in item:
            if not isinstance(item["text"], str):
                raise bad(f"{where}.text")
            texts.append(item["text"])
        if "image" in item:
            images.append(item["image"])
    return texts, images
