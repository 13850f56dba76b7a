"""What the OpenAPI page says of routes that read their bodies, headers and queries by hand, for the sake of their own
messages. Knows no route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


OPEN: dict[str, Any] = {"security": []}
"""For `openapi_extra` of a route that asks for no key."""

KEY = "key"
SECURITY: dict[str, Any] = {KEY: {"type": "http", "scheme": "bearer", "description": "`danqing keys create`"}}
"""The schemes of the page; every route that is not `OPEN` asks for a key."""

_NAMED = {"X-Request-ID": {"description": "the request's id", "schema": {"type": "string", "format": "uuid"}}}
_WAIT = {"Retry-After": {"description": "seconds to wait before another try", "schema": {"type": "integer"}}}


def json_body(model: type[BaseModel], names: Sequence[str] = ()) -> dict[str, Any]:
    """For `openapi_extra`: a required JSON body of that shape, whose `model` is one of `names`. References are
    written out, as the page has no place for definitions of one operation; the model must not contain itself."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    schema = _inlined(schema, definitions)
    if names:
        schema["properties"]["model"]["enum"] = list(names)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def parameter(
    name: str, text: str, *, where: str = "header", required: bool = False, **schema: object
) -> dict[str, Any]:
    """One header or, with `where`, one member of the query: what it is for and which values it has."""
    found = {"type": "string", **schema}
    return {"name": name, "in": where, "required": required, "description": text, "schema": found}


def parameters(*each: Mapping[str, Any]) -> dict[str, Any]:
    """For `openapi_extra`: headers and members of the query."""
    return {"parameters": [dict(one) for one in each]}


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inlined(inner, definitions) for inner in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        target = definitions[value["$ref"].removeprefix(_DEFS)]
        value = {**target, **{name: inner for name, inner in value.items() if name != "$ref"}}
    return {name: _inlined(inner, definitions) for name, inner in value.items()}


def answers(model: Any, text: str, failure: Any, *, frames: bool = False) -> dict[int | str, dict[str, Any]]:
    """What a route answers: `model` when all is well, described by `text`, else `failure`; with `frames`, as an event
    stream too."""
    more = {"content": {"text/event-stream": {"schema": {"type": "string"}}}} if frames else {}
    refused = {"model": failure, "headers": {**_NAMED, **_WAIT}, **more}
    return {
        200: {"model": model, "description": text, "headers": _NAMED, **more},
        "4XX": {**refused, "description": "the request was refused"},
        "5XX": {**refused, "description": "the service failed; nothing is charged"},
    }
