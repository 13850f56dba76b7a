"""Drafts, pictures and lives of jobs for tests of whatever holds a job store."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

from danqing.core.blobkeys import new_nonce, result_key, upload_key
from danqing.core.job import Draft, Image, Lease
from danqing.core.order import Brief
from danqing.core.ports import JobStore
from danqing.core.raster import Size
from danqing.core.uploads import Upload

_numbers = itertools.count()


def digest(name: str) -> str:
    """A content name, as `Raster.digest` would give."""
    return hashlib.sha256(name.encode()).hexdigest()


def draft(job_id: str | None = None, *, count: int = 1, inputs: tuple[str, ...] = (), **more: Any) -> Draft:
    """A job about to be stored; `inputs` are names to be hashed."""
    brief = Brief(
        model="miniature",
        prompt="一只红色的圆 and a square \ud83d",  # half a surrogate pair: callers can send it
        negative_prompt=None,
        inputs=tuple(digest(name) for name in inputs),
        count=count,
        size=Size(512, 512),
        seed=7,
    )
    return Draft(id=job_id or f"job-{next(_numbers)}", api="dashscope", brief=brief, **more)


def pictures(job_id: str, count: int = 1) -> list[Image]:
    """What a worker delivered."""
    return [
        Image(result_key(job_id, i, "20261121", digest(job_id)[:32]), Size(512, 512), digest(f"{job_id}-{i}"))
        for i in range(count)
    ]


async def claim(store: JobStore, worker: str = "worker-1") -> Lease:
    """The next job; fails the test if there is none."""
    (lease,) = (await store.news(worker, room=1, seconds=0)).leases
    return lease


async def no_claim(store: JobStore, worker: str = "worker-1") -> bool:
    """Whether there is nothing to claim."""
    return (await store.news(worker, room=1, seconds=0)).leases == ()


async def audited(store: JobStore) -> bool:
    """Whether every count of the auditor is 0; shows them when one is not."""
    counts = await store.audit()
    assert not any(counts.values()), counts
    return True


def sent(key: str, now: float, *, tenant: str = "ann", size: int = 10, content: str = "") -> Upload:
    """A file sent ahead, with a life of 48 hours; its bytes lie elsewhere with every call."""
    blob = upload_key(tenant, new_nonce())
    return Upload(key, tenant, "miniature", blob, size, digest(content), now, now + 48 * 3600.0)
