"""A lease to a work for the engine: fetch the inputs. Knows no engine."""

from __future__ import annotations

from danqing.core.events import Work
from danqing.core.job import Lease
from danqing.core.raster import Raster
from danqing.lease.client import LeaseClient


async def prepare(lease: Lease, client: LeaseClient) -> Work:
    """The work, its inputs in order, and its mask; a raster named twice is fetched once. Raises TokenGone, ServerAway,
    Internal."""
    brief = lease.brief
    rasters: dict[str, Raster] = {}
    for digest in brief.rasters:
        rasters[digest] = await client.input(lease.token, digest)
    return Work(
        token=lease.token,
        model=brief.model,
        prompt=brief.prompt,
        negative_prompt=brief.negative_prompt,
        inputs=tuple(rasters[digest] for digest in brief.inputs),
        count=brief.count,
        size=brief.size,
        seed=brief.seed,
        tenant=lease.tenant,
        knobs=brief.knobs,
        cost=lease.cost,
        mask=rasters[brief.mask.digest] if brief.mask is not None else None,
        edited=brief.mask.of if brief.mask is not None else 0,
        priority=lease.priority,
    )
