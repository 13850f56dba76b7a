"""From an order to a stored job, and back to its end. The steps of every dialect, in the order of the contract.

Knows no protocol, no SQL and no model by name: limits come from the catalogue, storage through ports.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from danqing.core.errors import (
    AsyncRefused,
    EngineFailed,
    ModelDenied,
    OutOfTime,
    QuotaExhausted,
    RateExceeded,
    SyncRefused,
    Unavailable,
    UnknownModel,
    WrongEndpoint,
)
from danqing.core.job import Draft, Job, State, final
from danqing.core.models import Model
from danqing.core.order import Brief, Order
from danqing.core.ports import Clock, JobStore
from danqing.core.sizes import made
from danqing.intake.inputs import Inputs
from danqing.intake.keys import Caller, Keys
from danqing.intake.limits import Limiter

SEEDS = 2**31
"""A drawn seed is below this, as the contract's own range is."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one caller may take; seconds. `rates` enforces the catalogue's submit rates per key and model."""

    sync_seconds: float = 300.0
    stop_seconds: float = 5.0
    queue_seconds: float = 3600.0
    run_seconds: float = 600.0
    rates: bool = False


@dataclass(frozen=True, slots=True)
class Ticket:
    """How a request came in. `id` becomes the job's; `began` is the clock's monotonic time of its arrival;
    `fingerprint` is the SHA-256 of the canonical request."""

    id: str
    api: str
    began: float
    fingerprint: str = ""
    idempotency_key: str | None = None


class Intake:
    """The front desk. `close` makes waiting calls end; nothing else here has a state."""

    def __init__(
        self,
        *,
        store: JobStore,
        inputs: Inputs,
        keys: Keys,
        models: Mapping[str, Model],
        clock: Clock,
        terms: Terms | None = None,
        serves: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`models` is the catalogue; `serves` tells whether anything stands behind an API name here."""
        self._store, self._inputs, self._keys = store, inputs, keys
        self._models, self._clock = models, clock
        self._terms = terms if terms is not None else Terms()
        self._serves = serves
        self._limiter = Limiter()
        self._stopping = asyncio.Event()

    @property
    def closing(self) -> bool:
        """Whether the service is stopping."""
        return self._stopping.is_set()

    def pictures(self, route: str) -> int:
        """The most input pictures of any model served by a route, in any of its modes."""
        served = [model for model in self._models.values() if route in model.routes]
        return max((model.most_images for model in served), default=0)

    async def who(self, secret: str | None) -> Caller:
        """The caller behind a key. Raises NoKey, BadKey."""
        return await self._keys.check(secret)

    async def may(self, caller: Caller, name: str, route: str, mode: str) -> Model:
        """The model, if this caller may use it here, so, and now. `route` is a key of `Model.routes`, `mode`
        "sync" or "async". Raises UnknownModel, WrongEndpoint, SyncRefused, AsyncRefused, Unavailable
        (nothing stands behind the name here), ModelDenied, QuotaExhausted, RateExceeded, in this order."""
        model = self._models.get(name)
        if model is None:
            raise UnknownModel
        modes = model.routes.get(route)
        if modes is None:
            raise WrongEndpoint
        if mode not in modes:
            raise AsyncRefused if mode == "async" else SyncRefused
        if not self._serves(name):
            raise Unavailable
        if "images" not in caller.scopes:
            raise ModelDenied
        await self._stand(caller)
        if self._terms.rates and model.rate is not None:
            pace = self._limiter.admit((caller.key_id, model.name), model.rate, self._clock.monotonic())
            if not pace.admitted:
                raise RateExceeded(after=pace.after)
        return model

    async def submit(self, caller: Caller, order: Order, model: Model, ticket: Ticket) -> Job:
        """The stored job of a synchronous order: inputs fetched and normalised, every default resolved. An
        idempotency key that is taken answers its job and fetches nothing.

        Raises the InputFaults, QuotaExhausted, QueueFull, SameKeyOtherOrder, Unavailable.
        """
        if self.closing:
            raise Unavailable
        if ticket.idempotency_key is not None:
            known = await self._store.replay(caller.tenant, ticket.idempotency_key, ticket.fingerprint)
            if known is not None:
                return known
        taken = await self._inputs.take(caller.tenant, order.sources, model.inputs)
        size = made(model, order, taken[-1].size if taken else None)
        brief = Brief(
            model=order.model,
            prompt=order.prompt,
            negative_prompt=order.negative_prompt,
            inputs=tuple(picture.digest for picture in taken),
            count=order.count,
            size=size,
            seed=order.seed if order.seed is not None else secrets.randbelow(SEEDS),
            watermark=order.watermark,
            knobs=order.knobs,
        )
        submitted = await self._store.submit(caller.tenant, self._draft(brief, ticket))
        return submitted.job

    async def wait(self, caller: Caller, job: Job, *, began: float) -> Job:
        """The job once it has succeeded, within the limit of a synchronous call that began at `began`.

        A call that is out of time cancels its job, so that nothing is charged for an answer nobody got. Raises
        the job's fault, OutOfTime, and Unavailable when the service stops first.
        """
        left = began + self._terms.sync_seconds - self._clock.monotonic()
        waiting = asyncio.ensure_future(self._store.wait(caller.tenant, job.id, max(0.0, left)))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await asyncio.wait({waiting}, timeout=self._terms.stop_seconds)
            if not waiting.done():
                await self.gone(caller, job)
                raise Unavailable
            seen = waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()
        if seen is not None and not final(seen.state):
            seen = await self._store.cancel(caller.tenant, job.id)
        return _delivered(seen)

    async def gone(self, caller: Caller, job: Job) -> None:
        """The caller left without an answer: its job is cancelled, unless an idempotency key lets the caller come
        back for it."""
        if job.idempotency_key is None:
            await self._store.cancel(caller.tenant, job.id)

    async def get(self, caller: Caller, job_id: str) -> Job | None:
        """The job as it stands, or None for unknown, foreign and expired ids alike."""
        return await self._store.get(caller.tenant, job_id)

    def close(self) -> None:
        """Stop: new orders are refused, waiting calls end within `terms.stop_seconds`."""
        self._stopping.set()

    async def _stand(self, caller: Caller) -> None:
        """Refuse early where the quota is used up; the hold at submit is what counts."""
        account = await self._store.account(caller.tenant)
        if account is not None and account.quota is not None and account.held + account.used >= account.quota:
            raise QuotaExhausted

    def _draft(self, brief: Brief, ticket: Ticket) -> Draft:
        """All ranks are equal: the queue is first in, first out."""
        return Draft(
            id=ticket.id,
            api=ticket.api,
            brief=brief,
            queue_seconds=self._terms.queue_seconds,
            run_seconds=self._terms.run_seconds,
            idempotency_key=ticket.idempotency_key,
            fingerprint=ticket.fingerprint,
        )


def _delivered(job: Job | None) -> Job:
    """The job if it brought its pictures; raises why it did not."""
    if job is None or job.state is State.CANCELLED:
        raise OutOfTime
    if job.state is not State.SUCCEEDED:
        raise job.fault if job.fault is not None else EngineFailed()
    return job
