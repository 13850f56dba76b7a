"""Links that open one object until a moment: how they are signed, read and refused. Knows no folder and no HTTP.

    {base}/results/<key>?Expires=<unix seconds>&OSSAccessKeyId=<key id>&Signature=<Base64, URL-encoded>

The same keys seal other texts for `core.ports.BlobStore`, under a word of their own, so that no seal is a link.

The names of the query are those of an OSS V1 link, which clients of the hosted service may look at; the signature is
ours: HMAC-SHA-256 over `v1|key id|GET|path|expires`. HEAD is answered as GET is, with the same signature. The path
may name a result and nothing else, so an input is never served back.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from danqing.core.blobkeys import is_result
from danqing.core.ports import LinkExpired, LinkForged, Seal

PREFIX = "/results/"
_NAMES = {"Expires", "OSSAccessKeyId", "Signature"}
_SECONDS = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
_LONGEST_QUERY = 512


@dataclass(frozen=True, slots=True)
class LinkKey:
    """One signing key: its public id and its secret bytes."""

    id: str
    secret: bytes = field(repr=False)


class Links:
    """Signs with the newest key and reads with every one it was given, so that a new key breaks no link."""

    def __init__(self, keys: Sequence[LinkKey]) -> None:
        """`keys` oldest first, at least one."""
        if not keys:
            raise ValueError("links need a key to sign with")
        self._newest = keys[-1]
        self._keys = {key.id: key.secret for key in keys}

    def sign(self, key: str, *, base: str, expires: int) -> str:
        """The absolute URL of an object. Raises ValueError for a key that is not a result's."""
        if not is_result(key):
            raise ValueError(f"{key!r} is not the key of a result")
        path = PREFIX + key
        mac = base64.b64encode(_mac(self._newest, path, expires)).decode()
        query = f"Expires={expires}&OSSAccessKeyId={self._newest.id}&Signature={quote(mac, safe='')}"
        return f"{base.rstrip('/')}{path}?{query}"

    def seal(self, text: str) -> Seal:
        """Sign a text with the newest key."""
        return Seal(self._newest.id, _code(self._newest, text))

    def knows(self, key_id: str) -> bool:
        """Whether there is a key of this id."""
        return key_id in self._keys

    def sealed(self, text: str, seal: Seal) -> bool:
        """Whether one of the keys signed that text so."""
        secret = self._keys.get(seal.key_id)
        good = _code(LinkKey(seal.key_id, secret or b""), text)
        return hmac.compare_digest(seal.code, good) and secret is not None

    def read(self, path: str, query: str, now: float) -> str:
        """The blob key behind a path and query as they came. Raises LinkForged, then LinkExpired."""
        key = path.removeprefix(PREFIX)
        if key == path or not is_result(key):
            raise LinkForged
        expires, key_id, given = _query(query)
        secret = self._keys.get(key_id)
        good = _mac(LinkKey(key_id, secret or b""), path, expires)
        if not hmac.compare_digest(given, good) or secret is None:
            raise LinkForged
        if now >= expires:
            raise LinkExpired(expires)
        return key


def _mac(key: LinkKey, path: str, expires: int) -> bytes:
    return hmac.digest(key.secret, f"v1|{key.id}|GET|{path}|{expires}".encode(), hashlib.sha256)


def _code(key: LinkKey, text: str) -> bytes:
    return hmac.digest(key.secret, f"v1|{key.id}|SEAL|{text}".encode(), hashlib.sha256)


def _query(query: str) -> tuple[int, str, bytes]:
    """Expires, key id and the 32 bytes of the signature. Each name once and no other; clients may have encoded the
    values more or less than we did, and may have turned the order around."""
    if len(query) > _LONGEST_QUERY:
        raise LinkForged
    pairs = [part.partition("=")[::2] for part in query.split("&")]
    values = {name: unquote(value) for name, value in pairs}
    if len(pairs) != len(_NAMES) or values.keys() != _NAMES or not _SECONDS.fullmatch(values["Expires"]):
        raise LinkForged
    try:
        given = base64.b64decode(values["Signature"].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise LinkForged from None
    if len(given) != hashlib.sha256().digest_size or base64.b64encode(given).decode() != values["Signature"]:
        raise LinkForged
    return int(values["Expires"]), values["OSSAccessKeyId"], given
