"""Untrusted bytes to JSON values, under limits. Knows no dialect."""

from __future__ import annotations

from typing import Any

import orjson

from danqing.core.errors import NotJson

MAX_DEPTH = 32
"""Containers within containers; the deepest body of any dialect has eight."""

MAX_MEMBERS = 262_144
"""Brackets and commas in a body. Each may become an object of some 60 bytes, so that a body of commas alone would
take thirty times its size; a prompt of a book's length has far fewer, and Base64 has none."""


def parse(body: bytes) -> Any:
    """The value in the body. Raises NotJson for bytes that are not JSON in UTF-8, for NaN and infinities, for too
    deep nesting and for too many members; the last one of duplicate members counts."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_MEMBERS:
        raise NotJson
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotJson from None
    if _deeper(value, MAX_DEPTH):
        raise NotJson
    return value


def _deeper(value: Any, limit: int) -> bool:
    """Whether containers nest deeper than that; level by level, so that no recursion is needed."""
    level = [value]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent) if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
