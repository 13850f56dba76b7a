"""Input pictures on their way in: fetched, decoded, checked against the model's rule, stored by content. Knows no
protocol, no quota and no job; whose they are is all it is told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from danqing.core.blobkeys import input_key
from danqing.core.errors import InputMalformed, InputOutOfBounds, InputTooLarge, InputUnreachable, Internal
from danqing.core.models import InputRule
from danqing.core.order import Inline, Mask, Order, Remote, Source, Taken, Uploaded
from danqing.core.ports import BlobStore, Clock, LinkDead, LinkExpired, LinkForged
from danqing.core.raster import Raster, Size
from danqing.intake import areas
from danqing.intake.uploads import Uploads
from danqing.outbound.get import Getter
from danqing.pixels.decoders import Decoders

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
    ) -> None:
        """Without `uploads` there are none: every reference to one is to a file that is not there."""
        self._uploads = uploads
        self._decoders = decoders
        self._getter = getter
        self._blobs = blobs
        self._clock = clock

    async def take(
        self, tenant: str, sources: Sequence[Source], rule: InputRule, *, model: str = "", alpha: bool = False
    ) -> tuple[Taken, ...]:
        """Fetch, decode and store all sources, at the same time; the answer is in their order. `model` is the one
        that asks: an upload is for one.

        Raises the fault of the first source, in their order, that has one: InputMalformed, InputForbidden,
        InputUnreachable, InputTooLarge, InputUndecodable or InputOutOfBounds; the work on the others is dropped.
        """
        if len(sources) == 1:
            return (await self._take_one(tenant, sources[0], rule, model=model, alpha=alpha),)
        tasks = [
            asyncio.ensure_future(self._take_one(tenant, source, rule, model=model, alpha=alpha))
            for source in sources
        ]
        try:
            return tuple([await task for task in tasks])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self, tenant: str, order: Order, rule: InputRule) -> tuple[Order, Mask | None]:
        """What the order, its sources taken, says of parts of its pictures, as pixels: the order with the pictures
        that are meant, and where they may change. Raises what `take` raises, MaskMismatch, MaskEmpty, BoxOutside."""
        if order.mask is not None:
            (mask,) = await self.take(tenant, (order.mask,), rule, model=order.model, alpha=True)
            order = replace(order, mask=mask)

        async def keep(raster: Raster) -> str:
            return await self._store(tenant, await asyncio.to_thread(raster.pack))

        return await areas.settled(order, partial(self._load, tenant), keep)

    async def _load(self, tenant: str, digest: str) -> Raster:
        packed = await self._blobs.read(input_key(tenant, digest))
        if packed is None:
            raise Internal("an input of the order is no longer stored")
        return Raster.unpack(packed)

    async def _take_one(
        self, tenant: str, source: Source, rule: InputRule, *, model: str, alpha: bool
    ) -> Taken:
        if isinstance(source, Taken):
            return source
        data = await self._bytes(tenant, source, min(rule.max_bytes, MAX_FILE), model)
        decoded = await self._decoders.decode(data, rule, alpha=alpha)
        check_bounds(decoded.original, rule)
        return Taken(await self._store(tenant, decoded.packed), decoded.original)

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
