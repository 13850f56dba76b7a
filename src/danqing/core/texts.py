"""Texts as callers may send them and as others can take them. Knows no protocol."""

from __future__ import annotations


def sayable(text: str) -> str:
    """The text as UTF-8 can say it: half a surrogate pair, which JSON can carry, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
