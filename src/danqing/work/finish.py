"""From the engine's last events to the end of the attempt: upload each picture as it comes, then say how it went.

Every way in which an attempt can end becomes one `End` here. Knows no engine and no store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from danqing.core.errors import EngineFailed, Fault, Internal, OutputRefused, Unavailable, Unchecked
from danqing.core.events import Cancelled, Event, Failed, Finished, ImageReady, Preview
from danqing.core.job import Lease
from danqing.core.raster import Raster
from danqing.lease.client import ServerAway
from danqing.lease.messages import End, Lost, Outcome, Wrong

WITHHELD = (OutputRefused, Unchecked)
"""Why a picture is not shown, while the others of its job are."""


class Shelf(Protocol):
    """Where finished pictures go: a `LeaseClient`, for one."""

    async def image(self, token: str, index: int, raster: Raster) -> None:
        """Have a picture stored. Raises TokenGone, ServerAway, BadMessage; those of `WITHHELD` if it is not to be."""
        ...


@dataclass(slots=True)
class Making:
    """One attempt in this worker: its lease, how far it is, what the engine told and was not yet dealt with."""

    lease: Lease
    claimed: float
    """On the worker's monotonic clock."""
    step: int = 0
    steps: int = 0
    left: float | None = None
    unit: float = 0.0
    """Seconds that its longest unit of work should take at most."""
    told: float = 0.0
    """When `left` was told, on the same clock."""
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    hear: Callable[[Event], None] | None = None
    """Who is told of works under the token's own sub-tokens, where the job is made of several."""
    preview: Preview | None = None
    """The newest that was not sent yet."""
    watched: bool = False
    """Whether the engine was told that somebody watches."""
    task: asyncio.Task[None] | None = None
    ending: bool = False
    """The end was sent: losing the token now is how an end looks from the side."""

    def rest(self, now: float) -> float | None:
        """What is left by now of the seconds that were told last."""
        return None if self.left is None else max(0.0, self.left - (now - self.told))


async def deliver(making: Making, client: Shelf, now: Callable[[], float]) -> End:
    """Upload pictures in the order in which they are ready, one at a time, until the engine is done with the token.
    One that the shelf withholds is lost, and the end says so; it fails if nothing else is left. Raises TokenGone;
    ServerAway if the pictures cannot be stored."""
    token = making.lease.token
    delivered: set[int] = set()
    lost: dict[int, Fault] = {}
    while True:
        match await making.events.get():
            case ImageReady(index=index, raster=raster):
                try:
                    await client.image(token, index, raster)
                    delivered.add(index)
                except WITHHELD as fault:
                    lost[index] = fault
            case Finished() if lost and not delivered:
                return withheld(token, lost)
            case Finished(seconds=seconds, quality=quality) if (
                len(delivered) + len(lost) == making.lease.brief.count
            ):
                without = tuple(Lost(place, Wrong.of(lost[place])) for place in sorted(lost))
                wall = now() - making.claimed
                return End(
                    token, Outcome.SUCCEEDED, seconds=seconds, wall=wall, lost=without, quality=quality
                )
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


def withheld(token: str, lost: Mapping[int, Fault]) -> End:
    """The end of an attempt none of whose pictures may be shown. If only some were looked at, it may go otherwise
    another time."""
    unchecked = next((fault for fault in lost.values() if isinstance(fault, Unchecked)), None)
    return failed(token, unchecked if unchecked is not None else lost[min(lost)])


def failed(token: str, fault: Fault) -> End:
    """The end of an attempt that went wrong."""
    return End(token, Outcome.FAILED, Wrong.of(fault))


def refused(token: str, reason: Exception) -> End:
    """The end of an attempt that the server's side would not let finish: away too long, or not what was ordered."""
    if isinstance(reason, ServerAway):
        return failed(token, reason.fault or Unavailable())
    return failed(token, reason if isinstance(reason, Fault) else Internal())
