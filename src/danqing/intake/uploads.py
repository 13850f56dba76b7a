"""Files that callers send ahead of their orders: who may, how much, how long, and their bytes when an order calls them.

Knows no form and no address; the permit that a caller holds is the dialect's to write and to read, the seal under it
is this service's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from danqing.core.blobkeys import new_nonce, upload_key
from danqing.core.errors import InputTooLarge, InputUnreachable, ModelDenied
from danqing.core.models import Rate
from danqing.core.ports import BlobStore, Clock, JobStore, Seal
from danqing.core.uploads import Allowance, Grant, Kept, Upload, UploadRefused, Why
from danqing.intake.keys import Caller
from danqing.intake.limits import Limiter

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UploadTerms:
    """How much one may send ahead, in bytes, and how long it is kept, in seconds. `permits` is how many a second one
    tenant may ask for, for one model."""

    most: int = 1024 * MIB
    capacity: int = 10 * 1024 * MIB
    life: float = 48 * 3600.0
    permit_seconds: int = 300
    permits: int = 100


class Uploads:
    """The way in for files, and their way to the orders that call them."""

    def __init__(
        self, store: JobStore, blobs: BlobStore, clock: Clock, terms: UploadTerms | None = None
    ) -> None:
        self._store, self._blobs, self._clock = store, blobs, clock
        self.terms = terms if terms is not None else UploadTerms()
        self._limiter = Limiter()
        self._arriving: Counter[str] = Counter()
        """Bytes on their way, by tenant."""

    def grant(self, caller: Caller, model: str) -> Grant:
        """What a permit of this caller allows. Raises ModelDenied, RateExceeded."""
        if "images" not in caller.scopes:
            raise ModelDenied
        rate = Rate(self.terms.permits, 1.0)
        self._limiter.require((caller.tenant, model), rate, self._clock.monotonic())
        ends = self._clock.wall() + self.terms.permit_seconds
        return Grant(caller.tenant, model, ends, self.terms.most, self.terms.capacity)

    def seal(self, text: str) -> Seal:
        """Sign a permit."""
        return self._blobs.seal(text)

    def verify(self, text: str, seal: Seal) -> None:
        """Raises UploadRefused for a permit that this service did not sign so."""
        if not self._blobs.knows(seal.key_id):
            raise UploadRefused(Why.UNKNOWN_SIGNER, seal.key_id)
        if not self._blobs.sealed(text, seal):
            raise UploadRefused(Why.FORGED)

    async def take(self, allowed: Allowance, parts: AsyncIterator[bytes], declared: int | None) -> None:
        """Keep a file; it is durable when this returns. `declared` is how many bytes are to come at the most, None
        where the caller did not say. Raises UploadRefused, Unavailable, and whatever `parts` raises.

        The room is held while the bytes come, so that callers at the same time do not have more than one would.
        """
        coming = allowed.most if declared is None else min(declared, allowed.most)
        before = await self._store.uploaded(allowed.tenant)
        if before + self._arriving[allowed.tenant] + coming > self.terms.capacity:
            raise UploadRefused(Why.FULL)
        self._arriving[allowed.tenant] += coming
        try:
            await self._keep(allowed, parts)
        finally:
            self._arriving[allowed.tenant] -= coming
            if not self._arriving[allowed.tenant]:
                del self._arriving[allowed.tenant]

    async def _keep(self, allowed: Allowance, parts: AsyncIterator[bytes]) -> None:
        blob = upload_key(allowed.tenant, new_nonce())
        poured = await self._blobs.pour(blob, _bounded(parts, allowed.most))
        now = self._clock.wall()
        new = Upload(
            allowed.key,
            allowed.tenant,
            allowed.model,
            blob,
            poured.size,
            poured.digest,
            now,
            now + self.terms.life,
        )
        kept = await self._store.keep_upload(new, self.terms.capacity)
        if kept is not Kept.KEPT:
            await self._blobs.remove([blob])
        if kept is Kept.TAKEN:
            raise UploadRefused(Why.TAKEN, allowed.key)
        if kept is Kept.FULL:
            raise UploadRefused(Why.FULL)

    async def fetch(self, tenant: str, model: str, key: str, limit: int) -> bytes:
        """The bytes that an order for `model` calls by this name. Raises InputUnreachable for a name that is unknown,
        foreign, past its life or another model's, all alike, and InputTooLarge."""
        found = await self._store.upload(tenant, key)
        if found is None or found.model != model:
            raise InputUnreachable
        if found.size > limit:
            raise InputTooLarge
        data = await self._blobs.read(found.blob)
        if data is None or hashlib.sha256(data).hexdigest() != found.digest:
            raise InputUnreachable
        return data


async def _bounded(parts: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The parts, up to so many bytes together."""
    size = 0
    async for part in parts:
        size += len(part)
        if size > most:
            raise UploadRefused(Why.TOO_LARGE)
        yield part
