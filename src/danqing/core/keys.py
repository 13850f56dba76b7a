"""API keys as the store keeps them. The secret itself is never here."""

from __future__ import annotations

from dataclasses import dataclass

REGIONS = frozenset(
    {"cn-beijing", "ap-southeast-1", "cn-hongkong", "us-east-1", "eu-central-1", "ap-northeast-1"}
)
"""Those of the hosted service, which an address may name."""
MOST_PRIORITY = 10
"""A priority lies between minus this and this."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's record: `key_id` is the public first part, `mac` the HMAC-SHA-256 of the whole key under the pepper.
    Times are wall-clock Unix seconds; `expires` and `revoked` are None for "not". `region` is empty for this
    installation's own, `workspace` for the whole account (which is the tenant). Of the tenant's jobs those of a key
    with a higher `priority` go first; other tenants' jobs do not notice."""

    key_id: str
    tenant: str
    name: str
    mac: bytes
    created: float
    expires: float | None = None
    revoked: float | None = None
    scopes: tuple[str, ...] = ("images",)
    region: str = ""
    workspace: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request came in: the region that its address names, empty for this installation's own, and the
    workspace that it asks for, None for the key's own."""

    region: str = ""
    workspace: str | None = None


HERE = Place()


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant's balance in pictures: `held` for open jobs, `used` for delivered ones; quota None is unlimited."""

    tenant: str
    quota: int | None
    held: int
    used: int


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key as its owner gets it: the public id, and the whole key, which is shown this once."""

    key_id: str
    secret: str
