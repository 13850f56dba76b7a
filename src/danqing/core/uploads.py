"""Files that callers send ahead of their orders, and what a permit to send them allows. Pure: knows no form."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Upload:
    """A file under the name by which orders call it (`key`): whose it is, for which model, where its bytes lie, their
    number and their SHA-256. Times are wall-clock Unix seconds."""

    key: str
    tenant: str
    model: str
    blob: str
    size: int
    digest: str
    created: float
    expires: float


class Kept(StrEnum):
    """What became of an upload in the store."""

    KEPT = "kept"
    SAME = "same"
    """The same bytes were there before under that name; the new ones are not needed."""
    TAKEN = "taken"
    """Other bytes were there before."""
    FULL = "full"
    """The tenant's uploads together would be more than it may have."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a permit allows to whoever holds it: files of one model's orders, for one tenant, until `ends` (wall-clock
    Unix seconds). `most` is the bytes of one file, `capacity` those of all of the tenant's."""

    tenant: str
    model: str
    ends: float
    most: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a permit allows for one name: a file of at most `most` bytes, for this tenant and model."""

    key: str
    tenant: str
    model: str
    most: int


class Why(StrEnum):
    """Why a file was not taken."""

    UNKNOWN_SIGNER = "the permit names a key that is not this service's"
    FORGED = "the permit is not one that this service wrote"
    EXPIRED = "the permit's time is over"
    OUTSIDE = "the name does not lie in the permit's folder"
    CONDITION = "a field is not what the permit says it must be"
    NAME = "the name is too long, or has characters that no name may have"
    TOO_LARGE = "the file is larger than the permit allows"
    TAKEN = "another file has that name"
    FULL = "the account's uploads take all the room it may have"


class UploadRefused(Exception):
    """A file was not taken."""

    def __init__(self, why: Why, detail: str = "") -> None:
        """`detail` is what the caller sent, for the answer."""
        super().__init__(why)
        self.why = why
        self.detail = detail
