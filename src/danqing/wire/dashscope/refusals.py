"""What this dialect says of a wrong value: the service's own texts where they were seen, ours in its manner elsewhere.
Pure words; knows no rule.

A model whose service speaks otherwise has its own `texts` in the catalogue, under the names of `TEXTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from danqing.core.errors import BadOrder
from danqing.core.models import Model

TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "format": "Expected format: '<width>{between}<height>'",
        "token": "Expected format: '<width>{between}<height>'",
        "fixed": "the parameters must conform to the specification: {name} does not support size.",
        "preset": "The size is not match the allowed size [{presets}]",
        "sides": "Size {size} is out of range [{low}*{low}, {high}*{high}]",
        "area": "Image area must be between {low} ({low_side}x{low_side}) and {high} ({high_side}x{high_side}) pixels",
        "ratio": "Image aspect ratio must be between {low:g} and {high:g}",
        "one": "num_images_per_prompt must be 1",
        "count": "Range of n should be [{low}, {high}]",
        "images": "Model '{name}' supports {low}~{high} image content items. Got {given} image items.",
        "images_or_none": "Model '{name}' supports {low}~{high} image content items. Got {given} image items. "
        "(0 images = T2I mode, 1~{high} images = I2I mode)",
        "lack": "lack of image or text",
    }
)


def says(model: Model, text: str, where: str | None = None, **values: object) -> BadOrder:
    """The refusal of that name in the model's words; `where` is the offending member."""
    name = model.labels.get("internal_name", model.name)
    words = model.texts.get(text) or TEXTS[text]
    return BadOrder(words.format(name=name, **values), field=where)


def bad(where: str) -> BadOrder:
    """A member that is missing where it must not be, or of another kind."""
    text = f"Required parameter({where}) missing or invalid, please check the request parameters."
    return BadOrder(text, field=where)


def required(where: str) -> BadOrder:
    """A member that must be there and is not."""
    return BadOrder(f"Field required: {where}", field=where)


def wrong(name: str, expected: str, where: str | None = None) -> BadOrder:
    """A parameter of another type, or not one of its choices."""
    text = f"The type or value of {name} is out of definition: expected {expected}."
    return BadOrder(text, field=where or f"parameters.{name}")


def unserved(name: str, why: str, where: str | None = None) -> BadOrder:
    """Something the contract has and this service has not."""
    because = f": {why}" if why else ""
    return BadOrder(f"{name} is not available on this service{because}.", field=where or f"parameters.{name}")
