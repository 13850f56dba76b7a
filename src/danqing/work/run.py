"""The worker: what the lease API offers goes to the engine, what the engine tells goes back. Knows no model, no SQL.

Two threads: the engine's, which only ever calls `_hear`, and the loop's, where everything else happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import structlog

from danqing.core.errors import Fault
from danqing.core.events import Event, Foretold, Preview, Started, Stepped, Work
from danqing.core.job import Lease
from danqing.core.ports import Clock, Engine
from danqing.lease.client import Dropped, LeaseClient, ServerAway
from danqing.lease.messages import (
    MOST_ROOM,
    BadMessage,
    End,
    Gone,
    Hello,
    ImagesMissing,
    Outcome,
    Pulse,
    Shown,
    TokenGone,
)
from danqing.pixels.jpeg import preview
from danqing.work.aides import Aides
from danqing.work.finish import Making, deliver, refused
from danqing.work.look import Looked, look_at_inputs
from danqing.work.plan import planned
from danqing.work.prepare import prepare
from danqing.work.rewrite import drawn_from, rewritten
from danqing.work.script import Stage, perform

BEAT_SECONDS = 5.0
LEAST_BEAT = 0.125
BURST = 3
"""Beats are at least so far apart on average, and so many may follow each other at once: with a job's start, its first
step and its first preview. Together no more than ten in any second."""
RELEASE_SECONDS = 2.0


class Worker:
    """Serves one engine, for up to `room` jobs at once. `run` returns after `stop`, with nothing held."""

    def __init__(
        self,
        engine: Engine,
        client: LeaseClient,
        hello: Hello,
        *,
        room: int,
        clock: Clock,
        aides: Aides | None = None,
    ) -> None:
        """Nothing happens before `run`."""
        self._engine, self._client, self._hello, self._clock = engine, client, hello, clock
        self._aides = aides if aides is not None else Aides()
        self._room = min(room, MOST_ROOM)
        self._held: dict[str, Making] = {}
        self._told = asyncio.Event()
        self._stopping = asyncio.Event()
        self._log = structlog.get_logger("danqing.work").bind(worker=hello.worker)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Claim, make, deliver, until stopped."""
        self._loop = asyncio.get_running_loop()
        self._engine.listen(self._hear)
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(self._beat())  # step counters out, every 5 s and on events
            news = tasks.create_task(self._news(tasks))  # claims and cancels in, one long poll
            await self._stopping.wait()
            news.cancel()
            await asyncio.gather(*(self._let_go(making) for making in list(self._held.values())))
            beat.cancel()
        with suppress(ServerAway):
            await self._client.farewell(self._hello)

    def stop(self) -> None:
        """Give everything back and end. Call it on the loop's thread."""
        self._stopping.set()

    async def _news(self, tasks: asyncio.TaskGroup) -> None:
        async for news in self._client.news(
            self._hello, room=self._room_left, holding=lambda: tuple(self._held)
        ):
            match news:
                case Lease():
                    making = self._held[news.token] = Making(news, self._clock.monotonic())
                    self._watch(making, on=news.watched)
                    making.task = tasks.create_task(
                        self._make(making)
                    )  # inputs → lanes → images → end(token)
                case Dropped():
                    self._drop(news.token)

    async def _make(self, making: Making) -> None:
        token = making.lease.token
        try:
            try:
                end = await self._paint(making, await prepare(making.lease, self._client))
            except (ServerAway, BadMessage, Fault) as fault:
                self._engine.cancel(token)
                end = refused(token, fault)
                self._log.warning("attempt failed", job=making.lease.job_id, reason=repr(fault))
            await self._end(making, end)
        except TokenGone:
            self._engine.cancel(token)
        finally:
            self._watch(making, on=False)
            self._held.pop(token, None)

    async def _paint(self, making: Making, work: Work) -> End:
        """All pictures from one prompt at once, or one by one as planned, if the job asks for that."""
        await look_at_inputs(work, self._aides.look_in)
        shelf = Looked(self._client, self._aides.look_out, work.prompt)
        rewriter = self._aides.rewriter(work.model)
        panels = await planned(making.lease.brief, work.inputs, rewriter)
        if panels is None:
            prompt = await rewritten(making.lease.brief, work.inputs, rewriter)
            self._engine.start(work if prompt is None else replace(work, prompt=prompt))
            return drawn_from(prompt, await deliver(making, shelf, self._clock.monotonic))
        panels = await self._client.script(work.token, panels)
        most_inputs = self._aides.most_inputs(work.model)
        stage = Stage(self._engine, shelf, most_inputs, self._clock.monotonic)
        return await perform(making, work, panels, stage)

    async def _end(self, making: Making, end: End) -> None:
        """Say how it went. A server that stays away longer than the lease lives has given the job to somebody else."""
        making.ending = True
        try:
            await self._client.end(end)
        except (
            ImagesMissing,
            BadMessage,
        ) as fault:  # the server forgot the pictures, as a restarted one does
            self._log.warning("end refused", job=making.lease.job_id, reason=str(fault))
            await self._release(end.token)
        except ServerAway as fault:
            self._log.warning("end not delivered", job=making.lease.job_id, reason=str(fault))

    async def _release(self, token: str) -> None:
        with suppress(ServerAway, BadMessage):
            await self._client.end(End(token, Outcome.RELEASED), seconds=RELEASE_SECONDS)

    async def _let_go(self, making: Making) -> None:
        """Stopping: an end already under way may arrive; everything else goes back to the queue, no attempt counted."""
        if making.task is None:
            return
        if making.ending:
            await asyncio.wait([making.task], timeout=RELEASE_SECONDS)
        making.task.cancel()
        self._engine.cancel(making.lease.token)
        if not making.ending:
            await self._release(making.lease.token)

    def _drop(self, token: str) -> None:
        """The job was cancelled or taken away: stop making it, say nothing."""
        making = self._held.get(token)
        if making is None or making.ending or making.task is None:
            return
        self._log.info("told to drop a job", job=making.lease.job_id, lease=token, step=making.step)
        making.task.cancel()
        self._engine.cancel(token)
        self._watch(making, on=False)
        self._held.pop(token, None)

    def _room_left(self) -> int:
        return max(0, self._room - len(self._held))

    async def _beat(self) -> None:
        counted, at = self._engine.figures(), self._clock.monotonic()
        free = at
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._told.wait()
            self._told.clear()
            now = self._clock.monotonic()
            beats = tuple([await self._pulse(making, now) for making in list(self._held.values())])
            figures: Mapping[str, float] = {}
            if now - at >= BEAT_SECONDS:
                latest, at = self._engine.figures(), now
                figures = {} if latest == counted else latest
            if beats or figures:
                with suppress(ServerAway):
                    self._answered(await self._tell(beats, figures), beats)
                    counted = figures or counted
            free = max(free, now) + LEAST_BEAT
            await asyncio.sleep(max(0.0, free - self._clock.monotonic() - (BURST - 1) * LEAST_BEAT))

    async def _tell(self, beats: tuple[Pulse, ...], figures: Mapping[str, float]) -> Gone:
        """One beat. If something in it is refused, then at once what keeps the leases alive, without the rest: no job
        pays for another's picture or foretold end. Raises ServerAway, and BadMessage from a server that takes none."""
        try:
            return await self._client.beat(self._hello.worker, beats, figures)
        except BadMessage as fault:
            self._log.warning("beat refused", reason=str(fault))
        bare = tuple(Pulse(pulse.token, pulse.step, pulse.steps) for pulse in beats)
        return await self._client.beat(self._hello.worker, bare)

    async def _pulse(self, making: Making, now: float) -> Pulse:
        """How far an attempt is, with its newest preview if somebody watches: the file is made in a thread."""
        seen, making.preview, lease = making.preview, None, making.lease
        shown = None
        if seen is not None and making.watched:
            xmp = self._aides.label(f"{lease.job_id}-{seen.index}")
            file = await asyncio.to_thread(preview, seen.raster, lease.brief.size, xmp)
            shown = Shown.of(seen.index, seen.step, seen.steps, file)
        return Pulse(lease.token, making.step, making.steps, making.rest(now), shown, making.unit)

    def _answered(self, answer: Gone, beats: tuple[Pulse, ...]) -> None:
        """What the server said to a beat."""
        for token in answer.gone:
            self._drop(token)
        for pulse in beats:
            if (making := self._held.get(pulse.token)) is not None:
                self._watch(making, on=pulse.token in answer.watched)

    def _watch(self, making: Making, *, on: bool) -> None:
        """Tell the engine whether somebody watches, when that changes."""
        on = on and self._aides.shows
        if making.watched != on:
            making.watched = on
            self._engine.watch(making.lease.token, on=on)

    def _hear(self, event: Event) -> None:
        """Called from the engine's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
                self._loop.call_soon_threadsafe(self._note, event)

    def _note(self, event: Event) -> None:
        making = self._held.get(event.token.partition("/")[0])
        if making is None:
            return
        if making.hear is not None:
            making.hear(event)
            self._told.set()
            return
        match event:
            case Started(steps=steps, unit=unit):
                making.steps, making.unit = steps, unit
                self._told.set()
            case Stepped(step=step, steps=steps, left=left):
                making.step, making.steps = step, max(step, steps)
                making.left, making.told = left, self._clock.monotonic()
                self._told.set()
            case Preview():  # told with the step that follows at once
                making.preview = event
            case Foretold(left=left):
                making.left, making.told = left, self._clock.monotonic()
                self._told.set()
            case _:
                making.events.put_nowait(event)
