"""A body's schema for the OpenAPI page, where a dialect reads the body by hand for the sake of its own messages."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_DEFS = "#/$defs/"
ANY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": {"type": "object", "description": "not looked at"}}},
    }
}
"""For `openapi_extra` of a route that takes a body and does not look at it."""


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """For `openapi_extra`: a required JSON body of that shape. References are written out, as the page has no place
    for definitions of one operation; the model must not contain itself."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inlined(schema, definitions)}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inlined(inner, definitions) for inner in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        target = definitions[value["$ref"].removeprefix(_DEFS)]
        value = {**target, **{name: inner for name, inner in value.items() if name != "$ref"}}
    return {name: _inlined(inner, definitions) for name, inner in value.items()}


def answers(model: Any, text: str, failure: Any) -> dict[int | str, dict[str, Any]]:
    """What a route answers: `model` when all is well, described by `text`, else `failure`."""
    return {
        200: {"model": model, "description": text},
        "4XX": {"model": failure, "description": "the request was refused"},
        "5XX": {"model": failure, "description": "the service failed; nothing is charged"},
    }
