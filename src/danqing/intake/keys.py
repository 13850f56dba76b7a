"""API keys: how they are made, checked and revoked, and the temporary ones that stand in for them. Knows no header and
no socket.

A key is `sk-` + 8 characters id + 32 characters secret + 6 characters checksum, all Base62. The checksum (CRC-32 of
what stands before it) refuses typing errors without a look at the store. Stored are the id and the HMAC-SHA-256 of
the whole key under the installation's pepper; the key itself is shown once and kept nowhere.

A key belongs to one region: a request that came by another region's address is none of its business. It may belong to
a workspace of its account; a key that does not may name any workspace that a key of the account carries.

A temporary key is `st-` + 8 characters id of its parent + 10 digits Unix seconds of its end + 16 random characters +
64 hexadecimal digits HMAC-SHA-256 of all that under the pepper. It is stored nowhere, may what its parent may, has its
priority and ends with it; it cannot be revoked by itself and makes no further one.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from danqing.core.errors import BadKey, NoKey, NotPermitted, WorkspaceUnknown
from danqing.core.keys import HERE, MOST_PRIORITY, REGIONS, ApiKey, Place
from danqing.core.ports import Clock, JobStore

PREFIX = "sk-"
TEMPORARY = "st-"
REGION = "cn-beijing"
"""The region of an installation that does not say another: where clients of the hosted service call by default."""
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID, SECRET, CHECK = 8, 32, 6
NONCE = 16
PEPPER_BYTES = 32

CACHE_SECONDS = 3.0
"""How long a record is trusted without asking the store: a revocation takes effect within this time."""
CACHE_KEYS = 4096

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}", re.ASCII)
_TOKEN = re.compile(
    rf"({TEMPORARY}([0-9A-Za-z]{{{ID}}})([0-9]{{10}})[0-9A-Za-z]{{{NONCE}}})([0-9a-f]{{64}})", re.ASCII
)
_SHAPE = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{ID}}})[0-9A-Za-z]{{{SECRET + CHECK}}}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a tenant, through one of its keys, or through a temporary one made of that key."""

    tenant: str
    key_id: str
    scopes: tuple[str, ...] = ("images",)
    workspace: str = ""
    temporary: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key's record and, this once, the key itself."""

    record: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class Token:
    """A temporary key and its end, in Unix seconds."""

    secret: str
    expires: int


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

    def __init__(self, store: JobStore, *, pepper: bytes, clock: Clock, region: str = REGION) -> None:
        """`pepper` has 32 secret bytes, kept apart from the store; raises ValueError for another length. `region` is
        this installation's own."""
        if len(pepper) != PEPPER_BYTES:
            raise ValueError(f"the pepper has {PEPPER_BYTES} bytes")
        self._store, self._pepper, self._clock = store, pepper, clock
        self.region = region
        self._cache: OrderedDict[str, tuple[float, ApiKey | None]] = OrderedDict()

    async def check(self, secret: str | None, place: Place = HERE) -> Caller:
        """The caller behind a key, in the workspace that the request asks for. Raises NoKey for none; BadKey for an
        unknown, expired or revoked one and for one of another region; WorkspaceUnknown."""
        if not secret:
            raise NoKey
        temporary = secret.startswith(TEMPORARY)
        record = await (self._parent(secret) if temporary else self._holder(secret))
        if record.revoked is not None or (
            record.expires is not None and record.expires <= self._clock.wall()
        ):
            raise BadKey
        if (record.region or self.region) != (place.region or self.region):
            raise BadKey
        workspace = await self._workspace(record, place)
        return Caller(record.tenant, record.key_id, record.scopes, workspace, temporary, record.priority)

    async def _holder(self, secret: str) -> ApiKey:
        wanted = key_id(secret)
        record = await self._record(wanted) if wanted is not None else None
        if record is None or not hmac.compare_digest(record.mac, self._mac(secret)):
            raise BadKey
        return record

    async def _parent(self, secret: str) -> ApiKey:
        """The key that a temporary one was made of, once its seal and its time are seen to be good."""
        match = _TOKEN.fullmatch(secret)
        if match is None or not hmac.compare_digest(self._mac(match[1]).hex(), match[4]):
            raise BadKey
        if int(match[3]) <= self._clock.wall():
            raise BadKey
        record = await self._record(match[2])
        if record is None:
            raise BadKey
        return record

    async def _workspace(self, record: ApiKey, place: Place) -> str:
        asked = place.workspace
        if asked is None or asked == record.workspace:
            return record.workspace
        if record.workspace or not _NAME.fullmatch(asked):
            raise WorkspaceUnknown
        if not await self._store.has_workspace(record.tenant, asked):
            raise WorkspaceUnknown
        return asked

    def lend(self, caller: Caller, seconds: int) -> Token:
        """A temporary key with the caller's rights. Raises NotPermitted to a caller that came with one."""
        if caller.temporary:
            raise NotPermitted
        expires = math.floor(self._clock.wall()) + seconds
        nonce = "".join(secrets.choice(ALPHABET) for _ in range(NONCE))
        body = f"{TEMPORARY}{caller.key_id}{expires:010d}{nonce}"
        return Token(body + self._mac(body).hex(), expires)

    async def create(
        self,
        name: str,
        *,
        tenant: str,
        expires: float | None = None,
        region: str | None = None,
        workspace: str = "",
        priority: int = 0,
    ) -> NewKey:
        """Make and store a key. `expires` in Unix seconds; `region` None is this installation's. The secret in the
        answer is shown nowhere else. Raises ValueError for an empty name, a region that no address can name, a
        workspace that is no plain name, and a priority beyond the bounds."""
        if type(priority) is not int or abs(priority) > MOST_PRIORITY:
            raise ValueError(
                f"priority is a whole number from {-MOST_PRIORITY} to {MOST_PRIORITY}, not {priority!r}"
            )
        if not name.strip():
            raise ValueError("a key needs a name, by which it is known in lists")
        region = self.region if region is None else region
        for given in (region, *([workspace] if workspace else [])):
            if not _NAME.fullmatch(given):
                raise ValueError(f"{given!r} is not a name: letters, digits, - and _, at most 64")
        if region not in REGIONS | {self.region}:
            there = ", ".join(sorted(REGIONS | {self.region}))
            raise ValueError(f"no request can name the region {region!r}; there are: {there}")
        secret = new_secret()
        record = ApiKey(
            key_id=secret[len(PREFIX) : len(PREFIX) + ID],
            tenant=tenant,
            name=name,
            mac=self._mac(secret),
            created=self._clock.wall(),
            expires=expires,
            region=region,
            workspace=workspace,
            priority=priority,
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
