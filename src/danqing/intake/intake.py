"""From an order to a stored job, and back to its end. The steps of every dialect, in the order of the contract.

Knows no protocol, no SQL and no model by name: limits come from the catalogue, storage through ports.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from danqing.core.errors import (
    AsyncRefused,
    EngineFailed,
    Fault,
    InputFault,
    ModelDenied,
    NotWaiting,
    OutOfTime,
    PromptRefused,
    QuotaExhausted,
    SyncRefused,
    Unavailable,
    UnknownModel,
    WrongEndpoint,
)
from danqing.core.job import Draft, Job, Page, Search, State, final
from danqing.core.keys import HERE, Place
from danqing.core.models import Model, Rate
from danqing.core.order import Brief, Inline, Order, Source
from danqing.core.ports import Clock, JobStore
from danqing.core.reach import Reach, require
from danqing.intake.arrivals import Arrivals, definite, so_far
from danqing.intake.inputs import Inputs
from danqing.intake.keys import Caller, Keys, Token
from danqing.intake.limits import Limiter
from danqing.schedule.prices import Prices

SEEDS = 2**31
"""A drawn seed is below this, as the contract's own range is."""


_log = structlog.get_logger("danqing.intake")


@dataclass(frozen=True, slots=True)
class Terms:
    """What one caller may take; seconds. `rates` enforces the catalogue's submit rates per key and model; `polls` is
    how often a second one tenant may query, list and cancel, each; 0 for as often as it likes."""

    sync_seconds: float = 300.0
    stop_seconds: float = 5.0
    queue_seconds: float = 3600.0
    run_seconds: float = 600.0
    rates: bool = False
    polls: int = 20


@dataclass(frozen=True, slots=True)
class Ticket:
    """How a request came in. `id` becomes the job's; `began` is the clock's monotonic time of its arrival;
    `fingerprint` is the SHA-256 of the canonical request; `request_id` names a request whose caller comes back."""

    id: str
    api: str
    began: float
    fingerprint: str = ""
    idempotency_key: str | None = None
    request_id: str | None = None


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
        refuses: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`models` is the catalogue; `serves` tells whether anything stands behind an API name here,
        `refuses` whether a text asks for something that is not painted."""
        self._store, self._inputs, self._keys = store, inputs, keys
        self._models, self._clock = models, clock
        self._terms = terms if terms is not None else Terms()
        self._serves, self._refuses = serves, refuses
        self._limiter = Limiter()
        self.prices = Prices()
        """What jobs took lately; whoever hears of their ends hands in what it has learned."""
        self.reaches: Callable[[], Iterable[Reach]] = tuple
        """What the workers that are there could ever make; whoever hears of them hands it in."""
        self.arrivals = Arrivals(store=store, inputs=inputs, models=models, require=self._require)
        self._stopping = asyncio.Event()

    @property
    def closing(self) -> bool:
        """Whether the service is stopping."""
        return self._stopping.is_set()

    def pictures(self, route: str) -> int:
        """The most input pictures of any model served by a route, in any of its modes."""
        served = [model for model in self._models.values() if route in model.routes]
        return max((model.most_images for model in served), default=0)

    def names(self, route: str) -> tuple[str, ...]:
        """The models that a route answers for here."""
        return tuple(
            name for name, model in self._models.items() if route in model.routes and self._serves(name)
        )

    async def who(self, secret: str | None, place: Place = HERE) -> Caller:
        """The caller behind a key, at the place where the request came in. Raises NoKey, BadKey, WorkspaceUnknown."""
        return await self._keys.check(secret, place)

    def lend(self, caller: Caller, seconds: int) -> Token:
        """A temporary key of the caller's. Raises NotPermitted."""
        return self._keys.lend(caller, seconds)

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
            self._limiter.require((caller.key_id, model.name), model.rate, self._clock.monotonic())
        return model

    async def submit(self, caller: Caller, order: Order, model: Model, ticket: Ticket) -> Job:
        """The stored job of a synchronous order: inputs fetched and normalised, every default resolved. An
        idempotency key that is taken answers its job and fetches nothing.

        Raises BadOrder for what no worker here could ever make, PromptRefused, the InputFaults, QuotaExhausted,
        QueueFull, SameKeyOtherOrder, Unavailable.
        """
        known = await self._known(caller, ticket)
        if known is not None:
            return known
        self._require_early(model, order)
        self._inspect(order)
        taken = await self._inputs.take(
            caller.tenant, order.sources, model.inputs, model=model.name, prompt=order.prompt
        )
        order = replace(order, sources=taken, seed=_seed(order))
        order, mask = await self._inputs.settle(caller.tenant, order, model.inputs)
        brief = definite(model, order, mask)
        self._require(brief)
        draft = self._draft(brief, ticket, caller)
        submitted = await self._store.submit(caller.tenant, draft)
        return submitted.job

    async def accept(
        self, caller: Caller, order: Order, model: Model, ticket: Ticket, *, late: Fault | None = None
    ) -> Job:
        """The stored job of an asynchronous order. What may still be wrong with it, its pictures above all, the job
        will tell; with `late` it is known already, and the job is stored as failed. Pictures that came with the
        request are taken at once, so that nothing untrusted is kept; the others wait for `arrivals`.

        Raises BadOrder for what no worker here could ever make, if that is known already, QuotaExhausted, QueueFull,
        SameKeyOtherOrder, Unavailable.
        """
        known = await self._known(caller, ticket)
        if known is not None:
            return known
        if late is None:
            self._require_early(model, order)
        order = replace(order, seed=_seed(order))
        if late is None:
            try:
                self._inspect(order)
                order = replace(order, sources=await self._kept(caller, order, model))
                if isinstance(order.mask, Inline):
                    (mask,) = await self._inputs.take(caller.tenant, [order.mask], model.inputs, alpha=True)
                    order = replace(order, mask=mask)
            except (InputFault, PromptRefused) as refused:
                late = refused
        draft = replace(
            self._draft(so_far(model, order), ticket, caller),
            order=order if late is None else None,
            fault=late,
            request_id=ticket.request_id,
            key_id=caller.key_id,
        )
        submitted = await self._store.submit(caller.tenant, draft)
        self.arrivals.ring()
        return submitted.job

    def _require(self, brief: Brief) -> None:
        """Raises BadOrder for what no worker that is there could ever make."""
        require(self.reaches(), brief.model, len(brief.inputs), brief.size)

    def _require_early(self, model: Model, order: Order) -> None:
        """The same, as far as it is known before the order's pictures are fetched."""
        told = not order.sources or order.size is not None or order.area is not None
        size = so_far(model, replace(order, sources=())).size if told else None
        require(self.reaches(), order.model, len(order.sources), size)

    def _inspect(self, order: Order) -> None:
        """Raises PromptRefused, before any picture is fetched: those of a refused order are never kept."""
        if any(map(self._refuses, (order.prompt, order.negative_prompt or ""))):
            raise PromptRefused

    async def _kept(self, caller: Caller, order: Order, model: Model) -> tuple[Source, ...]:
        """The sources of the order, those that came with it taken."""
        inline = [source for source in order.sources if isinstance(source, Inline)]
        taken = iter(await self._inputs.take(caller.tenant, inline, model.inputs, prompt=order.prompt))
        return tuple(next(taken) if isinstance(source, Inline) else source for source in order.sources)

    async def _known(self, caller: Caller, ticket: Ticket) -> Job | None:
        """The job that the ticket's idempotency key stands for already. Raises Unavailable, SameKeyOtherOrder."""
        if self.closing:
            raise Unavailable
        if ticket.idempotency_key is None:
            return None
        return await self._store.replay(caller.tenant, ticket.idempotency_key, ticket.fingerprint)

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
            _log.info("nobody waits for a job, it is cancelled", job=job.id)
            await self._store.cancel(caller.tenant, job.id)

    @property
    def region(self) -> str:
        """The region that this installation stands for."""
        return self._keys.region

    def model(self, name: str) -> Model | None:
        """What the catalogue says of a model, or None if it has no such."""
        return self._models.get(name)

    def poll(self, caller: Caller, what: str) -> None:
        """Count one query, list or cancel of the caller's tenant. Raises RateExceeded."""
        if not self._terms.polls:
            return
        rate = Rate(self._terms.polls, 1.0)
        self._limiter.require((what, caller.tenant), rate, self._clock.monotonic())

    async def recall(self, caller: Caller, job_id: str) -> Job | None:
        """The job that this caller, or another key of the tenant, was to come back for; None for any other id."""
        job = await self._store.get(caller.tenant, job_id)
        return job if job is not None and job.request_id is not None else None

    async def withdraw(self, caller: Caller, job_id: str) -> None:
        """Cancel a job that the caller was to come back for. Raises NotWaiting once it has begun or ended."""
        job = await self.recall(caller, job_id)
        if job is None or not await self._store.withdraw(caller.tenant, job_id):
            raise NotWaiting

    async def find(self, caller: Caller, search: Search, *, skip: int, limit: int) -> Page:
        """A page of the jobs that the tenant comes back for."""
        return await self._store.find(caller.tenant, search, skip=skip, limit=limit)

    async def get(self, caller: Caller, job_id: str) -> Job | None:
        """The job as it stands, or None for unknown, foreign and expired ids alike."""
        return await self._store.get(caller.tenant, job_id)

    async def closed(self) -> None:
        """Return when the service stops."""
        await self._stopping.wait()

    def close(self) -> None:
        """Stop: new orders are refused, waiting calls end within `terms.stop_seconds`."""
        self._stopping.set()

    async def _stand(self, caller: Caller) -> None:
        """Refuse early where the quota is used up; the hold at submit is what counts."""
        account = await self._store.account(caller.tenant)
        if account is not None and account.quota is not None and account.held + account.used >= account.quota:
            raise QuotaExhausted

    def _draft(self, brief: Brief, ticket: Ticket, caller: Caller) -> Draft:
        """Accounts take turns in the queue, by what their jobs cost, or where that is unknown by what they ask for."""
        return Draft(
            id=ticket.id,
            api=ticket.api,
            brief=brief,
            rank=None,
            weight=self.prices.weight(brief),
            cost=self.prices.seconds(brief) or 0.0,
            queue_seconds=self._terms.queue_seconds,
            run_seconds=self._terms.run_seconds,
            idempotency_key=ticket.idempotency_key,
            fingerprint=ticket.fingerprint,
            priority=caller.priority,
        )


def _seed(order: Order) -> int:
    return order.seed if order.seed is not None else secrets.randbelow(SEEDS)


def _delivered(job: Job | None) -> Job:
    """The job if it brought its pictures; raises why it did not."""
    if job is None or job.state is State.CANCELLED:
        raise OutOfTime
    if job.state is not State.SUCCEEDED:
        raise job.fault if job.fault is not None else EngineFailed()
    return job
