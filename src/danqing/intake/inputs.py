"""Input pictures on their way in: fetched, decoded, checked against the model's rule, looked at, stored by content.
Knows no protocol, no quota and no job; whose they are and what is to be made of them is all it is told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from danqing.core.blobkeys import input_key
from danqing.core.checking import Inspect, Role, pass_all
from danqing.core.errors import InputMalformed, InputOutOfBounds, InputTooLarge, InputUnreachable, Internal
from danqing.core.models import InputRule
from danqing.core.order import Inline, Mask, Order, Remote, Source, Taken, Uploaded
from danqing.core.ports import BlobStore, Clock, JobStore, LinkDead, LinkExpired, LinkForged
from danqing.core.raster import Raster, Size
from danqing.intake import areas
from danqing.intake.uploads import Uploads
from danqing.outbound.get import Getter
from danqing.pixels.decoders import Decoded, Decoders

T = TypeVar("T")
R = TypeVar("R")

MAX_FILE = 20 * 1024 * 1024
"""Bytes no input picture may exceed, whatever its model's rule says."""

RESULTS = "/results/"
"""What the path of a result link begins with, after whatever prefix a proxy adds."""


class Inputs:
    """The way in for pictures."""

    def __init__(
        self,
        decoders: Decoders,
        getter: Getter,
        blobs: BlobStore,
        clock: Clock,
        uploads: Uploads | None = None,
        *,
        inspect: Inspect = pass_all,
    ) -> None:
        """Without `uploads` there are none: every reference to one is to a file that is not there. `inspect` looks at
        each picture before anything is stored."""
        self._uploads = uploads
        self._inspect = inspect
        self._decoders = decoders
        self._getter = getter
        self._blobs = blobs
        self._clock = clock

    async def take(
        self,
        tenant: str,
        sources: Sequence[Source],
        rule: InputRule,
        *,
        model: str = "",
        prompt: str = "",
        alpha: bool = False,
    ) -> tuple[Taken, ...]:
        """Fetch, decode and look at all sources, at the same time, and store them, when every one may pass; the answer
        is in their order. `model` is the one that asks: an upload is for one. `prompt` is for whoever looks.

        Raises the fault of the first source, in their order, that has one: InputMalformed, InputForbidden,
        InputUnreachable, InputTooLarge, InputUndecodable, InputOutOfBounds, InputRefused or Unchecked; the work on
        the others is dropped.
        """
        get = partial(self._get, tenant, rule=rule, model=model, prompt=prompt, alpha=alpha)
        keep = partial(self._keep, tenant)
        if self._inspect is not pass_all:
            return tuple(await _all(keep, await _all(get, sources)))

        async def get_and_keep(source: Source) -> Taken:  # so that no two need to be in memory
            return await keep(await get(source))

        return tuple(await _all(get_and_keep, sources))

    async def _get(
        self, tenant: str, source: Source, *, rule: InputRule, model: str, prompt: str, alpha: bool
    ) -> Decoded | Taken:
        if isinstance(source, Taken):
            return source
        data = await self._bytes(tenant, source, min(rule.max_bytes, MAX_FILE), model)
        decoded = await self._decoders.decode(data, rule, alpha=alpha)
        check_bounds(decoded.original, rule)
        if self._inspect is not pass_all:  # the pixels are copied for it
            await self._inspect(decoded.raster, Role.INPUT, prompt)
        return decoded

    async def _keep(self, tenant: str, got: Decoded | Taken) -> Taken:
        return got if isinstance(got, Taken) else Taken(await self._store(tenant, got.packed), got.original)

    async def forget(self, tenant: str, order: Order, store: JobStore) -> None:
        """Remove the pictures of an order that was refused for one of them, but for those that another job has."""
        taken = [source for source in (*order.sources, order.mask) if isinstance(source, Taken)]
        keys = [input_key(tenant, source.digest) for source in taken]
        await self._blobs.remove(await store.unnamed(keys))

    async def settle(self, tenant: str, order: Order, rule: InputRule) -> tuple[Order, Mask | None]:
        """What the order, its sources taken, says of parts of its pictures, as pixels: the order with the pictures
        that are meant, and where they may change. Raises what `take` raises, MaskMismatch, MaskEmpty, BoxOutside."""
        if order.mask is not None:
            (mask,) = await self.take(
                tenant, (order.mask,), rule, model=order.model, prompt=order.prompt, alpha=True
            )
            order = replace(order, mask=mask)

        async def keep(raster: Raster) -> str:
            return await self._store(tenant, await asyncio.to_thread(raster.pack))

        return await areas.settled(order, partial(self._load, tenant), keep)

    async def _load(self, tenant: str, digest: str) -> Raster:
        packed = await self._blobs.read(input_key(tenant, digest))
        if packed is None:
            raise Internal("an input of the order is no longer stored")
        return Raster.unpack(packed)

    async def _bytes(self, tenant: str, source: Inline | Remote | Uploaded, limit: int, model: str) -> bytes:
        if isinstance(source, Uploaded):
            if self._uploads is None:
                raise InputUnreachable
            return await self._uploads.fetch(tenant, model, source.key, limit)
        if isinstance(source, Remote):
            own = await self._own(source.url)
            return own if own is not None else await self._getter.get(tenant, source.url, limit)
        check_kind(source)
        if len(source.data) > limit:
            raise InputTooLarge
        return source.data

    async def _own(self, url: str) -> bytes | None:
        """The bytes behind a result link of this service, which its signature proves whatever host the URL names; so
        a picture made here can be edited further, although our own address is not one that may be fetched from.
        None for any other URL. Raises InputUnreachable for a link whose time is over."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        at = parts.path.rfind(RESULTS)
        if at < 0:
            return None
        try:
            return await self._blobs.follow(parts.path[at:], parts.query, self._clock.wall())
        except LinkForged:
            return None
        except (LinkExpired, LinkDead) as gone:
            raise InputUnreachable from gone

    async def _store(self, tenant: str, packed: bytes) -> str:
        """Durable when it returns. A picture this tenant sent before is found, not written again."""
        digest = await asyncio.to_thread(_digest, packed)
        key = input_key(tenant, digest)
        if not await self._blobs.has(key):
            await self._blobs.write(key, packed)
        return digest


async def _all(act: Callable[[T], Awaitable[R]], things: Sequence[T]) -> list[R]:
    """What the act makes of each, all at the same time, in their order; of the faults, the first in that order."""
    if len(things) == 1:
        return [await act(things[0])]
    tasks = [asyncio.ensure_future(act(thing)) for thing in things]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_kind(source: Inline) -> None:
    """Raises InputMalformed if the declared type is not a picture's. Which picture it says makes no difference: the
    content decides, as clients often declare PNG and send JPEG."""
    kind = source.mime.partition(";")[0].strip().lower()
    if kind and not kind.startswith("image/"):
        raise InputMalformed


def check_bounds(size: Size, rule: InputRule) -> None:
    """Raises InputOutOfBounds unless both sides and their ratio, width over height, are within the rule; all bounds
    are inclusive."""
    if rule.sides is not None:
        least, most = rule.sides
        if min(size.width, size.height) < least or max(size.width, size.height) > most:
            raise InputOutOfBounds
    if rule.ratio is not None and not rule.ratio[0] <= size.ratio <= rule.ratio[1]:
        raise InputOutOfBounds


def _digest(packed: bytes) -> str:
    """`Raster.digest` of a packed raster."""
    return hashlib.sha256(packed).hexdigest()
