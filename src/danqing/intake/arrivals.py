"""Accepted jobs on their way to the queue: their pictures fetched, every default resolved, or a refusal kept.

The row is the only truth: what a stopped server left in `accepted` is found and gone on with. Knows no protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import structlog

from danqing.core.errors import Fault, InputRefused, Internal, Unavailable, UnknownModel
from danqing.core.job import Arrival
from danqing.core.models import Model
from danqing.core.order import Brief, Mask, Order, Taken
from danqing.core.ports import JobStore
from danqing.core.sizes import made
from danqing.intake.inputs import Inputs

AT_ONCE = 8
"""Jobs whose pictures are fetched at the same time."""

LOOK_AGAIN = 5.0
"""Seconds after which the store is asked although nobody rang: a failed try is taken up again."""

_log = structlog.get_logger(room="intake")


def definite(model: Model, order: Order, mask: Mask | None = None) -> Brief:
    """The brief of an order whose sources are all taken and whose seed is drawn; they may change under the mask."""
    taken = [source for source in order.sources if isinstance(source, Taken)]
    return Brief(
        model=order.model,
        prompt=order.prompt,
        negative_prompt=order.negative_prompt,
        inputs=tuple(picture.digest for picture in taken),
        count=order.count,
        size=made(model, order, taken[-1].size if taken else None),
        seed=order.seed if order.seed is not None else 0,
        watermark=order.watermark,
        knobs=order.knobs,
        mask=mask,
    )


def so_far(model: Model, order: Order) -> Brief:
    """What is known of an order before all its sources are taken; its size may still follow one of them."""
    taken = tuple(source for source in order.sources if isinstance(source, Taken))
    known = replace(order, sources=taken)
    mask = Mask(order.mask.digest) if isinstance(order.mask, Taken) else None
    try:
        return definite(model, known, mask)
    except ValueError:
        return definite(model, replace(known, area=1), mask)


class Arrivals:
    """The loop that moves accepted jobs on, for as long as the server runs."""

    def __init__(
        self,
        *,
        store: JobStore,
        inputs: Inputs,
        models: Mapping[str, Model],
        require: Callable[[Brief], None],
    ) -> None:
        """`require` raises a Fault for what cannot be made here."""
        self._store, self._inputs, self._models, self._require = store, inputs, models, require
        self._bell = asyncio.Event()
        self._at_hand: set[str] = set()

    def ring(self) -> None:
        """There may be something to do."""
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._bell.clear()
                for arrival in await self._next():
                    self._at_hand.add(arrival.job_id)
                    group.create_task(self._settle(arrival))
                with suppress(TimeoutError):
                    # not `wait_for`: until Python 3.12 it may take a cancel for its answer, and this would never end
                    async with asyncio.timeout(LOOK_AGAIN):
                        await self._bell.wait()

    async def _next(self) -> list[Arrival]:
        room = AT_ONCE - len(self._at_hand)
        if room <= 0:
            return []
        try:
            found = await self._store.arrivals(AT_ONCE)
        except Fault:
            return []
        return [arrival for arrival in found if arrival.job_id not in self._at_hand][:room]

    async def _settle(self, arrival: Arrival) -> None:
        """Move it on; a store that is out of order leaves it for a later look."""
        try:
            await self._move(arrival)
        except Fault as fault:
            _log.warning("an accepted job waits", job=arrival.job_id, error=str(fault))
            await asyncio.sleep(LOOK_AGAIN)
        finally:
            self._at_hand.discard(arrival.job_id)
            self._bell.set()

    async def _move(self, arrival: Arrival) -> None:
        """To the queue, or to its end. Raises Unavailable."""
        try:
            brief = await self._brief(arrival)
        except Unavailable:
            raise
        except Fault as fault:
            await self._store.refuse(arrival.job_id, fault)
            if isinstance(fault, InputRefused) and arrival.order is not None:
                await self._inputs.forget(arrival.tenant, arrival.order, self._store)
        except Exception:  # noqa: BLE001  # boundary: what one job raises ends that job, never the loop
            _log.exception("an accepted job failed", job=arrival.job_id)
            await self._store.refuse(arrival.job_id, Internal())
        else:
            await self._store.ready(arrival.job_id, brief)

    async def _brief(self, arrival: Arrival) -> Brief:
        order = arrival.order
        if order is None:
            raise Internal("the stored order cannot be read")
        model = self._models.get(order.model)
        if model is None:  # the catalogue has changed since
            raise UnknownModel
        taken = await self._inputs.take(
            arrival.tenant, order.sources, model.inputs, model=model.name, prompt=order.prompt
        )
        order, mask = await self._inputs.settle(arrival.tenant, replace(order, sources=taken), model.inputs)
        brief = definite(model, order, mask)
        self._require(brief)
        return brief
