"""Uploads in the store: their statements and what holds between them. Plain and blocking, within a transaction of the
writer or on a reader's connection. Knows no bytes and no permit.
"""

# ruff: noqa: ARG001 - `verb` reads the arguments named `values`

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Delete, Insert, RowMapping, Select, delete, func, insert, select

from danqing.core.uploads import Kept, Upload
from danqing.store.statements import verb
from danqing.store.tables import upload


@verb
def find(tenant: str, key: str, wall: float) -> Select[Any]:
    """A tenant's upload within its life."""
    return select(upload).where(upload.c.key == key, upload.c.tenant == tenant, upload.c.expires > wall)


@verb
def holder(key: str) -> Select[Any]:
    """Whoever has the name, alive or not."""
    return select(upload.c.tenant, upload.c.digest).where(upload.c.key == key)


@verb
def weight(tenant: str) -> Select[Any]:
    """The bytes of all uploads of a tenant."""
    return select(func.coalesce(func.sum(upload.c.size), 0)).where(upload.c.tenant == tenant)


@verb
def add(values: dict[str, Any]) -> Insert:
    """One row of `upload`."""
    return insert(upload)


@verb
def expired(wall: float, limit: int) -> Select[Any]:
    """Uploads past their life."""
    return select(upload.c.key, upload.c.blob).where(upload.c.expires <= wall).limit(limit)


@verb
def forget(keys: Sequence[str]) -> Delete:
    """Their end."""
    return delete(upload).where(upload.c.key.in_(keys))


@verb
def named(blobs: Sequence[str]) -> Select[Any]:
    """Those of the blob keys that an upload names."""
    return select(upload.c.blob).where(upload.c.blob.in_(blobs))


def keep(conn: Connection, new: Upload, most: int) -> Kept:
    """Give the name to these bytes, unless it is taken or the tenant would have more than `most` bytes."""
    there = conn.execute(*holder(new.key)).mappings().first()
    if there is not None:
        same = (there["tenant"], there["digest"]) == (new.tenant, new.digest)
        return Kept.SAME if same else Kept.TAKEN
    if conn.execute(*weight(new.tenant)).scalar_one() + new.size > most:
        return Kept.FULL
    conn.execute(*add(asdict(new)))
    return Kept.KEPT


def purge(conn: Connection, wall: float, limit: int) -> list[str]:
    """Forget uploads past their life, at most `limit`; answers their blob keys."""
    found = conn.execute(*expired(wall, limit)).mappings().all()
    if found:
        conn.execute(*forget([row["key"] for row in found]))
    return [row["blob"] for row in found]


def read(row: RowMapping) -> Upload:
    """A row of `upload`."""
    return Upload(**row)
