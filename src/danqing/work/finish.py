"""From the engine's last events to the end of the attempt: upload each picture as it comes, then say how it went.

Every way in which an attempt can end becomes one `End` here. Knows no engine and no store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from danqing.core.errors import EngineFailed, Fault, Internal, Unavailable
from danqing.core.events import Cancelled, Event, Failed, Finished, ImageReady
from danqing.core.job import Lease
from danqing.lease.client import LeaseClient, ServerAway
from danqing.lease.messages import End, Outcome, Wrong


@dataclass(slots=True)
class Making:
    """One attempt in this worker: its lease, how far it is, what the engine told and was not yet dealt with."""

    lease: Lease
    claimed: float
    """On the worker's monotonic clock."""
    step: int = 0
    steps: int = 0
    left: float | None = None
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    ending: bool = False
    """The end was sent: losing the token now is how an end looks from the side."""


async def deliver(making: Making, client: LeaseClient, now: Callable[[], float]) -> End:
    """Upload pictures in the order in which they are ready, one at a time, until the engine is done with the token.
    Raises TokenGone; ServerAway if the pictures cannot be stored."""
    token = making.lease.token
    delivered: set[int] = set()
    while True:
        match await making.events.get():
            case ImageReady(index=index, raster=raster):
                await client.image(token, index, raster)
                delivered.add(index)
            case Finished(seconds=seconds) if len(delivered) == making.lease.brief.count:
                return End(token, Outcome.SUCCEEDED, seconds=seconds, wall=now() - making.claimed)
            case Finished():
                return failed(
                    token, EngineFailed(f"{len(delivered)} of {making.lease.brief.count} pictures came")
                )
            case Failed(fault=fault):
                return failed(token, fault)
            case Cancelled():
                return End(token, Outcome.RELEASED)
            case _:  # steps are told by the beat
                pass


def failed(token: str, fault: Fault) -> End:
    """The end of an attempt that went wrong."""
    return End(token, Outcome.FAILED, Wrong.of(fault))


def refused(token: str, reason: Exception) -> End:
    """The end of an attempt that the server's side would not let finish: away too long, or not what was ordered."""
    if isinstance(reason, ServerAway):
        return failed(token, reason.fault or Unavailable())
    return failed(token, reason if isinstance(reason, Fault) else Internal())
