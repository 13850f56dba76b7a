"""The step engine: one thread, one set of modules a checkpoint, one unit of work a tick. Knows no family's
insides.

A tick takes in cancels, then arrivals; lets the policy choose which lanes advance; does one unit (encode,
prefill, one denoising step of a batch, decode); and tells what happened. Steps are scheduled, not requests,
so a cancel takes effect within one unit and jobs share the device in any order a policy likes."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from danqing.core.errors import EngineFailed
from danqing.core.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Foretold,
    ImageReady,
    Started,
    Stepped,
    Work,
)
from danqing.core.reach import Reach
from danqing.engine.families.contract import NOT_FINITE, Family, NotFinite, plan
from danqing.engine.faults import Kind, Mishap, not_made, tried
from danqing.engine.figures import Figures, total
from danqing.engine.finish import finished
from danqing.engine.heap import Heap
from danqing.engine.memory import Room
from danqing.engine.reach import need, reach_of
from danqing.engine.running import Cancel, Part, Picture, Running
from danqing.engine.stay import Stay
from danqing.engine.talks import Begin, Speaker, Talks
from danqing.engine.viewfinder import Sight, Viewfinder
from danqing.profiles.loader import Profile
from danqing.schedule.cost import Bill, Costs, Stage
from danqing.schedule.forecast import Ahead, Outlook
from danqing.schedule.policy import Lane, Policy, by_entry
from danqing.schedule.shares import Shares

Hear = Callable[[Event], None]

_log = structlog.get_logger("danqing.engine")


_NEW = 32
"""Measurements that are worth a file, while the engine goes on."""


class StepEngine:
    """Makes pictures (`core.ports.Engine`). `families` are loaded modules by checkpoint name; `now` is a
    monotonic clock in seconds. The thread starts with the first work; `tick` is public so that tests can turn
    the crank."""

    def __init__(
        self,
        profile: Profile,
        families: Mapping[str, Family],
        *,
        policy: Policy,
        room: Room,
        now: Callable[[], float] = time.monotonic,
        costs: Costs | None = None,
        keep: Callable[[Costs], None] | None = None,
        lost: Callable[[str], None] | None = None,
    ) -> None:
        """An idle engine. `costs` are what is known of the device's speed already; `keep` is handed them when there is
        something new and nothing else to do, and at the end. `lost` is called, with the reason, when the engine can
        make nothing any more: its device or its thread is gone, and only a new process helps."""
        self.profile, self.policy = profile, policy
        self.costs, self._keep, self._kept = costs or Costs(), keep, 0
        self.shares = Shares()
        self._outlook = Outlook(policy, now)
        self._families, self._room, self._now = families, room, now
        self._hear: Hear = _nobody
        self._bell = threading.Condition()
        self._arrivals: deque[tuple[Work, float]] = deque()
        self._cancels: dict[str, Cancel] = {}
        self._figures = Figures(kind.value for kind in Kind)
        self._lost = lost or _nothing_helps
        self._waiting: deque[Running] = deque()
        self._running: dict[str, Running] = {}
        self._talks, self._heap = Talks(self._mend_talk), Heap()
        self.stay = Stay({}, now)
        self.viewfinder: Viewfinder | None = None
        """Who makes previews. Without one there are none."""
        self._closed = False
        self._thread: threading.Thread | None = None

    # -- any thread

    def start(self, work: Work) -> None:
        """See `core.ports.Engine.start`. A closed engine drops the work."""
        self.put(work)
        self._wake()

    def most_inputs(self, model: str) -> int:
        """The most input pictures that what stands behind an API name looks at together."""
        checkpoint = self.profile.checkpoint(model, editing=True)
        if checkpoint is None:
            return 0
        return min(checkpoint.inputs, self._families[checkpoint.name].most_inputs)

    def reach(self) -> Reach:
        """What could ever be made here; see `core.reach`."""
        return reach_of(self.profile, self._families, self._room)

    def speaker(self, model: str) -> Speaker:
        """What stands behind an API name as writer and judge; it raises CannotWrite at once where that is nothing, or
        no language model."""
        # Where calls with pictures have a checkpoint of their own, its encoder is the one that sees.
        checkpoint = self.profile.checkpoint(model, editing=True)
        speaks = checkpoint is not None and checkpoint.language
        family = self._families[checkpoint.name] if checkpoint is not None and speaks else None
        return Speaker(None if family is None else family.language, self._ask)

    def _ask(self, begin: Begin) -> Future[str | float]:
        answer = self._talks.put(begin)
        with self._bell:
            self._bell.notify()
        self._wake()
        return answer

    def _wake(self) -> None:
        with self._bell:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
                self._thread.start()

    def put(self, work: Work) -> None:
        """As `start`, without the thread: for whoever turns `tick` by hand."""
        with self._bell:
            self._arrivals.append((work, self._now()))
            self._bell.notify()

    def cancel(self, token: str) -> None:
        """See `core.ports.Engine.cancel`."""
        with self._bell:
            running = self._running.get(token)
            self._cancels.setdefault(token, Cancel(self._now(), running.units if running else 0))
            self._bell.notify()

    def watch(self, token: str, *, on: bool) -> None:
        """See `core.ports.Engine.watch`."""
        if self.viewfinder is not None:
            self.viewfinder.watch(token, on=on)

    def prepare_previews(self, folder: Path) -> None:
        """Make previews of works that are watched; before the first work. What they need is kept in the folder, and got
        ready while there is no work."""
        self.viewfinder = Viewfinder(self._families, folder, self._now)
        self._wake()

    def listen(self, hear: Hear) -> None:
        """See `core.ports.Engine.listen`."""
        self._hear = hear

    def figures(self) -> Mapping[str, float]:
        """See `core.ports.Engine.figures`. Beside counts, how many works are here now and how many of them wait for
        room, and for how many seconds the one longest in the waiting has been waiting; by what share the costs of units
        were mispredicted lately, and how long jobs took over what was foretold of them."""
        waiting = [running.arrived for running in tuple(self._waiting)]
        return {
            **self._figures.show(),
            **total(family.figures() for family in self._families.values()),
            "works": float(len(self._running) + len(waiting)),
            "waiting": float(len(waiting)),
            "oldest_waiting_seconds": self._now() - min(waiting) if waiting else 0.0,
            "cost_error": self.costs.error or 0.0,
            "foretold_ratio": self._outlook.allowance,
        }

    def close(self) -> None:
        """See `core.ports.Engine.close`. Returns when the thread has ended, one unit of work later at
        most."""
        with self._bell:
            self._closed = True
            self._bell.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._remember()
        self._talks.end()

    # -- the engine's thread

    def _run(self) -> None:
        try:
            while not self._closed:
                if not self.tick() and not self._prepare():
                    self._rest()
        except BaseException as error:
            self._lost(f"the engine's thread ended: {type(error).__name__}: {error}")
            raise

    def _rest(self) -> None:
        """Until there is something to do."""
        self._remember()
        with self._bell:
            self._bell.wait_for(lambda: self._closed or self._arrivals or self._cancels or self._talks)

    def _remember(self) -> None:
        """Have what was learned kept, if there is anything new."""
        if self._keep is not None and self.costs.lessons - self._kept >= (1 if self._closed else _NEW):
            self._keep(self.costs)
            self._kept = self.costs.lessons

    def _prepare(self) -> bool:
        """Use a moment in which there is no work; False if there is nothing to prepare either."""
        return self.viewfinder is not None and self.viewfinder.prepare()

    def tick(self) -> bool:
        """Take in what came, do one unit of work, and before it one of a text that somebody waits for; False if there
        was nothing to do."""
        self._take_in()
        talked = self._talks.turn()
        lanes = [lane for running in self._running.values() for lane in self._lanes(running)]
        offered = self.stay.offer(lanes, lambda lane: self._running[lane.job].checkpoint)
        chosen = self.policy.choose(offered, self._now())
        if not chosen:
            return talked
        parts = self._parts(chosen)
        self.stay.turn(parts[0][0].checkpoint)
        if len(parts) == 1 or not self._advance_together(parts):
            for running, pictures in parts:
                self._advance(running, pictures)
        return True

    def _take_in(self) -> None:
        with self._bell:
            cancels, self._cancels = self._cancels, {}
            arrivals, self._arrivals = self._arrivals, deque()
        known = {running.token: running for running in (*self._running.values(), *self._waiting)}
        for token in cancels.keys() & known.keys():
            self._cancel(known[token], cancels[token])
        for work, arrived in arrivals:
            if work.token in cancels:
                self._say(Cancelled(work.token))
            elif work.token not in known:
                self._receive(work, arrived)
        while (first := self._first()) is not None and self._admit(first):
            self._waiting.remove(first)
        if arrivals:
            self._foretell(fresh=True)

    def _cancel(self, running: Running, asked: Cancel) -> None:
        late, seconds = running.units - asked.units, self._now() - asked.at
        self._figures.cancelled(late, seconds)
        _log.info("a work was dropped", lease=running.token, units_after=late, seconds=round(seconds, 4))
        self._drop(running.token, Cancelled(running.token))

    def _receive(self, work: Work, arrived: float) -> None:
        """Take a work in; one that cannot even be planned ends alone."""
        outcome = tried(lambda: self._accept(work, arrived))
        if isinstance(outcome, Mishap):
            self._figures.failed(outcome.kind)
            _log.error("a work could not be planned", lease=work.token, trace=outcome.trace)
            self._say(Failed(work.token, not_made(outcome)))

    def _accept(self, work: Work, arrived: float) -> None:
        preset = self.profile.preset(work.model, editing=bool(work.inputs))
        if preset is None:
            self._say(Failed(work.token, EngineFailed(f"this installation does not serve {work.model}")))
            return
        family = self._families[preset.checkpoint]
        if len(work.inputs) > family.most_inputs:
            why = f"what stands behind {work.model} here looks at {family.most_inputs} input pictures at most"
            self._say(Failed(work.token, EngineFailed(why)))
            return
        checkpoint = self.profile.checkpoints[preset.checkpoint]
        made = plan(work, preset, checkpoint.native)
        running = Running(made, preset.checkpoint, family, arrived, arrived, family.steps(made))
        running.narrowed = checkpoint.loading.narrows
        running.pictures = [Picture(index) for index in range(work.count)]
        if not self._room.ever(need(running.family, running.plan)):
            self._say(Failed(work.token, EngineFailed("the picture needs more memory than this device has")))
            return
        self.shares.enter(work.tenant, self._tenants())
        self._waiting.append(running)

    def _first(self) -> Running | None:
        """Who is let in next: of the tenant that has had least, the one of the highest priority, and of those the one
        that came first. What does not fit now keeps the others out, or it would never fit. One tenant's jobs leave
        room for somebody else's."""
        if self._waiting and self._waiting[0].alone:
            return self._waiting[0]
        held = Counter(running.plan.work.tenant for running in self._running.values())
        free = [one for one in self._waiting if held[one.plan.work.tenant] < self._room.most_of_one]
        if len({one.plan.work.priority for one in free}) > 1:
            now = self._now()
            return min(free, key=lambda one: by_entry(self._lanes(one)[0], now))
        return min(free, key=lambda one: (self.shares.of(one.plan.work.tenant), one.arrived), default=None)

    def _admit(self, running: Running) -> bool:
        wanted = None if running.alone else need(running.family, running.plan)
        if not self._room.enter(running.token, wanted):
            return False
        self._running[running.token] = running
        steps = running.steps * running.plan.work.count
        self._say(Started(running.token, steps, max(map(self.costs.patience, self._bills(running)))))
        return True

    def _width(self, running: Running) -> int:
        """How many of its pictures a step advances."""
        return self.policy.width(running.family.tokens(running.plan), max(1, len(running.pictures)))

    def _bills(self, running: Running) -> list[Bill]:
        """One of each unit of its work, a step as wide as the policy makes it."""
        width = self._width(running)
        return [running.bill(stage, width if stage is Stage.STEP else 1) for stage in Stage]

    def _lanes(self, running: Running) -> list[Lane]:
        left = self._left(running) or 0.0
        work, tokens = running.plan.work, running.family.tokens(running.plan)
        shared = running.stage in {Stage.ENCODE, Stage.PREFILL}
        company = None if running.apart else (running.checkpoint, running.family.company(running.plan))
        return [
            Lane(
                job=running.token,
                index=picture.index,
                stage=self._stage(running, picture),
                step=picture.done,
                tokens=tokens,
                arrived=running.arrived,
                served=running.served,
                left=left,
                tenant=work.tenant,
                priority=work.priority,
                solo=running.seconds + left if left else 0.0,
                spent=self.shares.of(work.tenant),
                promised=running.promised,
                company=company,
            )
            for picture in (running.pictures[:1] if shared else running.pictures)
        ]

    @staticmethod
    def _stage(running: Running, picture: Picture) -> Stage:
        """What the picture needs next."""
        done = running.stage is Stage.STEP and picture.done >= running.steps
        return Stage.DECODE if done else running.stage

    def _left(self, running: Running) -> float | None:
        """Predicted seconds of engine time until the job is finished, were it alone; None if nothing is known
        yet."""
        seconds = 0.0
        for bill, times in running.rest(self._width(running)):
            one = self.costs.seconds(bill)
            if one is None:
                return None
            seconds += one * times
        return seconds

    def _parts(self, chosen: Sequence[Lane]) -> list[Part]:
        """The pictures of the lanes, job by job."""
        jobs: dict[str, set[int]] = {}
        for lane in chosen:
            jobs.setdefault(lane.job, set()).add(lane.index)
        return [
            (running, [picture for picture in running.pictures if picture.index in indices])
            for running, indices in ((self._running[job], indices) for job, indices in jobs.items())
        ]

    def _advance(self, running: Running, pictures: list[Picture]) -> None:
        began, stage, brought = self._now(), self._stage(running, pictures[0]), self.stay.brought
        outcome = tried(lambda: self._unit(running, pictures))
        took = self._now() - began
        self._figures.unit(stage, len(pictures), took)
        if isinstance(outcome, Mishap):
            self._book(running, took, took)
            self._mend(running, outcome, stage)
            return
        bill, event = outcome
        predicted = self.costs.known(bill)
        self._book(running, took, took if predicted is None else predicted)
        self.costs.learn(
            bill, took - (self.stay.brought - brought)
        )  # a change of modules is no part of any unit
        if isinstance(event, ImageReady):  # after the clock: a palette takes time, and is no part of decoding
            raw, work = event, running.plan.work
            ready = tried(lambda: replace(raw, raster=finished(raw.raster, work)))
            if isinstance(ready, Mishap):
                self._mend(running, ready, stage)
                return
            event = ready
        self._go_on(running, pictures, stage, event)

    def _advance_together(self, parts: list[Part]) -> bool:
        """One step of several jobs' pictures. False if it broke off, and with that nobody has advanced: nobody can say
        whose fault it was, but they can be tried one by one. And so they are from then on: it may be that what each can
        do alone, they cannot do together."""
        began, brought = self._now(), self.stay.brought
        outcome = tried(lambda: self._step(parts))
        took = self._now() - began
        if isinstance(outcome, Mishap):
            _log.warning("a step together broke off", trace=outcome.trace)
            self._count(outcome)
            for running, _ in parts:
                running.apart = True
            return False
        lanes = sum(len(pictures) for _, pictures in parts)
        self._figures.unit(Stage.STEP, lanes, took)
        bills = [job.bill(Stage.STEP, len(pictures)) for job, pictures in parts]
        whole = Bill(Stage.STEP, sum(bill.flops for bill in bills))
        predicted = self.costs.known(whole)
        self.costs.learn(whole, took - (self.stay.brought - brought))
        for (running, pictures), bill in zip(parts, bills, strict=True):
            share = bill.flops / whole.flops
            self._book(running, took * share, (predicted or took) * share)
            if any(picture.lane is lane for picture in pictures for lane in outcome):
                self._mend(running, Mishap(Kind.NUMBERS, NOT_FINITE, ""), Stage.STEP)
            else:
                self._go_on(running, pictures, Stage.STEP, None)
        return True

    def _book(self, running: Running, took: float, cost: float) -> None:
        """A unit was done for the job, which took so long; `cost` seconds of it go on its tenant's account."""
        running.served = self._now()
        running.seconds += took
        running.units += 1
        self.shares.charge(running.plan.work.tenant, cost)

    def _go_on(self, running: Running, pictures: list[Picture], stage: Stage, event: Event | None) -> None:
        """After a unit that went well."""
        begins = running.units == 1
        self._foretell(fresh=begins, but=running)
        if begins:
            running.promised = self._outlook.begin(running.token)
        if stage is Stage.STEP:
            self._show(running, pictures)
        self._tell(running, event)

    def _show(self, running: Running, pictures: list[Picture]) -> None:
        """Before the step itself is told, so that whoever hears of it can have its preview."""
        if self.viewfinder is not None:
            sights = [Sight(picture.index, picture.lane, picture.done) for picture in pictures]
            finder = self.viewfinder
            seen = tried(lambda: finder.look(running.checkpoint, running.plan, sights))
            if isinstance(seen, Mishap):  # nobody's picture needs it
                _log.warning("no preview", lease=running.token, why=seen.why)
            elif seen is not None:
                self._say(seen)

    def _mend(self, running: Running, mishap: Mishap, stage: Stage) -> None:
        """A unit went wrong: that job ends, or is made anew if there is hope. What it used may be what was wrong, so
        nothing of it is remembered for later works."""
        _log.error("a unit of work failed", lease=running.token, stage=stage.value, trace=mishap.trace)
        running.family.forget(running.plan)
        self._count(mishap)
        if mishap.kind is Kind.MEMORY and not running.alone:
            self._begin_anew(running)
        else:
            self._drop(running.token, Failed(running.token, not_made(mishap)))

    def _mend_talk(self, mishap: Mishap) -> bool:
        """A unit of a text went wrong: whether there is hope for it. The pictures beside it go on; only what is
        remembered makes room."""
        _log.error("a unit of a text failed", trace=mishap.trace)
        if mishap.kind is Kind.MEMORY:
            self._forget_all()
        self._count(mishap)
        return mishap.kind is Kind.MEMORY

    def _count(self, mishap: Mishap) -> None:
        """Note what went wrong; a device that answers no more is told of."""
        self._figures.failed(mishap.kind)
        if not all(family.sound() for family in self._families.values()):
            self._lost(f"the device answers no more, after {mishap.why}")

    def _forget_all(self) -> None:
        for family in self._families.values():
            family.forget()

    def _begin_anew(self, running: Running) -> None:
        """There was no room where the memory model saw some. From the beginning, since a step that broke off may have
        moved some of its lanes; with nothing beside it, since that is all the room there is."""
        self._running.pop(running.token)
        self._room.leave(running.token)
        running.stage, running.conditions, running.prefix = Stage.ENCODE, None, None
        running.pictures = [Picture(index) for index in range(running.plan.work.count)]
        running.stepped, running.alone = 0, True
        self._forget_all()
        self._figures.again()
        self._waiting.appendleft(running)

    def _unit(self, running: Running, pictures: list[Picture]) -> tuple[Bill, Event | None]:
        """One unit of work on the pictures, all at one stage; its bill, and the event it is worth."""
        family, made = running.family, running.plan
        if running.stage is Stage.STEP and pictures[0].done < running.steps:
            self._step([(running, pictures)])
            return running.bill(Stage.STEP, len(pictures)), None
        if running.stage is Stage.STEP:
            picture = pictures[0]
            raster = family.decode(made, picture.lane)
            running.pictures.remove(picture)
            return running.bill(Stage.DECODE), ImageReady(running.token, picture.index, raster)
        # Billed before it is done: afterwards the family may remember the inputs, and charge less.
        bill = running.bill(running.stage)
        if running.stage is Stage.ENCODE:
            running.conditions, running.stage = family.encode(made), Stage.PREFILL
        else:
            running.prefix, running.stage = family.prefill(made, running.conditions), Stage.STEP
            running.conditions = None
        return bill, None

    @staticmethod
    def _step(parts: list[Part]) -> tuple[Any, ...]:
        """One step of all; answers the lanes whose numbers ran away, where there are others who can go on."""
        for running, pictures in parts:
            for picture in pictures:
                if picture.lane is None:
                    picture.lane = running.family.begin(running.plan, running.prefix, picture.index)
        first, lanes = parts[0][0], [picture.lane for _, pictures in parts for picture in pictures]
        broken: tuple[Any, ...] = ()
        try:
            first.family.step(first.plan, lanes)
        except NotFinite as fault:
            if len(parts) == 1 or not fault.lanes:
                raise
            broken = fault.lanes
        for running, pictures in parts:
            running.stepped += len(pictures)
            for picture in pictures:
                picture.done += 1
        return broken

    def _tell(self, running: Running, event: Event | None) -> None:
        if event is not None:
            self._say(event)
        elif running.stepped:
            total = running.steps * running.plan.work.count
            foretold = self._outlook.left(running.token)
            left = self._left(running) if foretold is None else foretold
            self._say(Stepped(running.token, running.stepped, total, left))
        if not running.pictures:
            self._drop(running.token, Finished(running.token, running.seconds, running.quality))

    def _foretell(self, *, fresh: bool, but: Running | None = None) -> None:
        """Look ahead, if there is time for it, and tell whose end moved by a twentieth of what is left. `but` hears
        it with its step."""
        if not self._outlook.look(self._ahead, fresh=fresh):
            return
        now = self._now()
        for running in (*self._running.values(), *self._waiting):
            left = self._outlook.left(running.token)
            if left is None:
                continue
            moved = running.told is None or abs(now + left - running.told) > 0.05 * left
            if moved and running is not but:
                running.told = now + left
                self._say(Foretold(running.token, left))

    def _ahead(self) -> list[Ahead]:
        """What is there, for looking ahead: each job's first lane, and the seconds of a unit, all being alike."""
        jobs = []
        for running in (*self._running.values(), *self._waiting):
            lanes = self._lanes(running)
            units = running.steps * running.plan.work.count - running.stepped + len(running.pictures)
            if lanes and lanes[0].left:  # else it is done, or nothing is known of its cost yet
                jobs.append(Ahead(lanes[0], lanes[0].left / units))
        return jobs

    def _drop(self, token: str, event: Event) -> None:
        """Forget a job, so that its tensors are freed, and say why."""
        self._running.pop(token, None)
        self._waiting = deque(running for running in self._waiting if running.token != token)
        self._room.leave(token)
        self._outlook.end(token, finished=isinstance(event, Finished))
        self.shares.keep(self._tenants())
        if self.viewfinder is not None:
            self.viewfinder.forget(token)
        self._say(event)
        self._heap.give_back()

    def _say(self, event: Event) -> None:
        """Tell the listener. What is wrong with that one is no fault of the job's, nor of its neighbours."""
        told = tried(lambda: self._hear(event))
        if isinstance(told, Mishap):
            _log.error("an event was not heard", lease=event.token, trace=told.trace)

    def _tenants(self) -> set[str]:
        """Those who have jobs here."""
        return {running.plan.work.tenant for running in (*self._running.values(), *self._waiting)}


def _nothing_helps(_reason: str) -> None:
    """Stands for a process that would end, where nobody watches over it."""


def _nobody(_event: Event) -> None:
    """Hears events before anyone listens."""
