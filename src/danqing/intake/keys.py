"""API keys: how they are made, checked and revoked. Knows no header and no socket.

A key is `sk-` + 8 characters id + 32 characters secret + 6 characters checksum, all Base62. The checksum (CRC-32 of
what stands before it) refuses typing errors without a look at the store. Stored are the id and the HMAC-SHA-256 of
the whole key under the installation's pepper; the key itself is shown once and kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from danqing.core.errors import BadKey, NoKey
from danqing.core.keys import ApiKey
from danqing.core.ports import Clock, JobStore

PREFIX = "sk-"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID, SECRET, CHECK = 8, 32, 6
PEPPER_BYTES = 32

CACHE_SECONDS = 3.0
"""How long a record is trusted without asking the store: a revocation takes effect within this time."""
CACHE_KEYS = 4096

_SHAPE = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{ID}}})[0-9A-Za-z]{{{SECRET + CHECK}}}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a tenant, through one of its keys."""

    tenant: str
    key_id: str
    scopes: tuple[str, ...] = ("images",)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key's record and, this once, the key itself."""

    record: ApiKey
    secret: str


def new_secret() -> str:
    """A fresh key: 190 random bits in its secret part."""
    body = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(ID + SECRET))
    return body + _checksum(body)


def key_id(secret: str) -> str | None:
    """The id within a well-formed key, or None for any other string."""
    match = _SHAPE.fullmatch(secret)
    if match is None or not hmac.compare_digest(secret[-CHECK:], _checksum(secret[:-CHECK])):
        return None
    return match[1]


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(CHECK):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


class Keys:
    """The keys of an installation. One object serves every room that asks about them."""

    def __init__(self, store: JobStore, *, pepper: bytes, clock: Clock) -> None:
        """`pepper` has 32 secret bytes, kept apart from the store; raises ValueError for another length."""
        if len(pepper) != PEPPER_BYTES:
            raise ValueError(f"the pepper has {PEPPER_BYTES} bytes")
        self._store, self._pepper, self._clock = store, pepper, clock
        self._cache: OrderedDict[str, tuple[float, ApiKey | None]] = OrderedDict()

    async def check(self, secret: str | None) -> Caller:
        """The caller behind a key. Raises NoKey for none, BadKey for an unknown, expired or revoked one."""
        if not secret:
            raise NoKey
        wanted = key_id(secret)
        record = await self._record(wanted) if wanted is not None else None
        if record is None or not hmac.compare_digest(record.mac, self._mac(secret)):
            raise BadKey
        if record.revoked is not None or (
            record.expires is not None and record.expires <= self._clock.wall()
        ):
            raise BadKey
        return Caller(record.tenant, record.key_id, record.scopes)

    async def create(self, name: str, *, tenant: str, expires: float | None = None) -> NewKey:
        """Make and store a key. `expires` in Unix seconds. The secret in the answer is shown nowhere else."""
        secret = new_secret()
        record = ApiKey(
            key_id=secret[len(PREFIX) : len(PREFIX) + ID],
            tenant=tenant,
            name=name,
            mac=self._mac(secret),
            created=self._clock.wall(),
            expires=expires,
        )
        await self._store.add_key(record)
        self._cache.pop(record.key_id, None)
        return NewKey(record, secret)

    async def list(self) -> Sequence[ApiKey]:
        """All keys, oldest first."""
        return await self._store.keys()

    async def revoke(self, wanted: str) -> bool:
        """Revoke a key by its id, at once in this process; False if there is none."""
        known = await self._store.revoke_key(wanted)
        self._cache.pop(wanted, None)
        return known

    def _mac(self, secret: str) -> bytes:
        return hmac.digest(self._pepper, secret.encode(), hashlib.sha256)

    async def _record(self, wanted: str) -> ApiKey | None:
        now = self._clock.monotonic()
        kept = self._cache.get(wanted)
        if kept is not None and now - kept[0] < CACHE_SECONDS:
            return kept[1]
        record = await self._store.key(wanted)
        self._cache[wanted] = (now, record)
        self._cache.move_to_end(wanted)
        while len(self._cache) > CACHE_KEYS:
            self._cache.popitem(last=False)
        return record
