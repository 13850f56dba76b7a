"""An image value of DashScope to a Source. Pure; never looks at the picture and never opens a connection."""

from __future__ import annotations

import binascii
import re

from danqing.core.errors import InputMalformed, InputTooLarge
from danqing.core.models import InputRule
from danqing.core.order import Inline, Remote, Source, Uploaded

NOT_A_URL = "The provided URL does not appear to be valid. Ensure it is correctly formatted."
_DATA = re.compile(r"data:([^,;]{0,127})(?:;[^,;]{1,127}){0,8};base64,", re.IGNORECASE)
_DATA_HEAD = 1280
"""The longest head that the pattern above accepts, rounded up: the data behind it need not be scanned."""


UPLOADED = "oss://"
_LONGEST_KEY = 1023
"""Bytes; the hosted service's store has no longer names."""


def source(value: object, rule: InputRule, *, resolve: bool = False) -> Source:
    """The picture behind an `image` value: a URL, a file sent ahead (`oss://`, if the request asks to `resolve`
    such), or the bytes of a data URI in strict Base64.

    Raises InputMalformed ("image format error"; for `oss://` that is not to be resolved that the URL is not valid, as
    the service says) and InputTooLarge for an encoded item over `rule.max_item` bytes.
    """
    if not isinstance(value, str):
        raise InputMalformed("image format error")
    scheme = value[:8].lower()
    if scheme.startswith(("http://", "https://")):
        return Remote(value)
    if scheme.startswith(UPLOADED):
        key = value[len(UPLOADED) :]
        if not resolve or len(key.encode("utf-8", "replace")) > _LONGEST_KEY:
            raise InputMalformed(NOT_A_URL)
        return Uploaded(key)
    head = _DATA.match(value[:_DATA_HEAD])
    if head is None:
        raise InputMalformed("image format error")
    if len(value) > rule.max_item:
        # The stray quotation mark is the service's own.
        raise InputTooLarge(f"Exceeded limit on max bytes per data-uri item : {rule.max_item}'.")
    return Inline(_decoded(value[head.end() :]), head[1].lower())


def _decoded(text: str) -> bytes:
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InputMalformed("image format error") from None
    if not data:
        raise InputMalformed("image format error")
    return data
