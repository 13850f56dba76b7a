"""The server's side of the six verbs, in order: who holds what, which pictures are stored, who fell silent. Plain
calls on messages: knows no HTTP and no socket, so that a Unix socket and HTTP with a worker token serve the same desk.

What is remembered here is a convenience: the row in the store decides who holds a job, and a desk that lost its memory
answers the same, except that pictures already uploaded for a running attempt must come again.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from danqing.core.blobkeys import input_key, new_nonce, result_key
from danqing.core.checking import Tally
from danqing.core.errors import Fault, InputRefused, Internal, Unavailable
from danqing.core.job import Beat, Closing, Image, Job, Lease, News, Said
from danqing.core.order import Brief
from danqing.core.ports import BlobStore, Clock, JobStore
from danqing.core.raster import Raster
from danqing.core.reach import Reach
from danqing.lease.board import Board
from danqing.lease.messages import (
    BadMessage,
    Beats,
    Claim,
    End,
    Gone,
    Hello,
    ImagesMissing,
    Outcome,
    Pulse,
    Script,
    TokenGone,
)
from danqing.lease.outlook import Held, Outlook
from danqing.schedule.cost import Saturation
from danqing.schedule.policy import InOrder, Policy, by_promise
from danqing.schedule.prices import Prices

SLICE_SECONDS = 1.0
QUIET_SECONDS = 12.0
"""Two missed beats and some slack; less than half a lease."""
AWAY_SECONDS = 60.0
"""Nobody counts on a worker that was not heard of for so long: a lease's time, and as much again."""
_OF_RUN = 1 / 12
"""A unit of work is taken for no longer than this part of its job's time: ten such units, for which a supervisor waits,
are over before the job is taken from a worker that hangs, and with it the sign that it does."""

Finish = Callable[[Raster, Brief, str], bytes]
"""Marks a picture and makes its PNG file; the text is the picture's number, of the job and its index. Called in a
thread."""


@dataclass(slots=True)
class Hand:
    """One lease as it is held: whose, the pictures stored under it, and how far it is."""

    job_id: str
    tenant: str
    brief: Brief
    worker: str
    cost: float = 0.0
    since: float = 0.0
    priority: int = 0
    run_seconds: float = math.inf
    longest: float = 0.0
    """Seconds that a unit of its work should take at most, by the worker; 0 while that has not said."""
    images: dict[int, Image] = field(default_factory=dict)
    step: int = 0
    steps: int = 0
    left: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    doubtful: bool = False
    """A success was sent to the store: until its answer the files may be a result's, so nobody removes them."""

    def unit(self) -> float:
        """Predicted seconds of the next unit of work; the most that one should take, or the whole cost, where nothing
        finer is known."""
        rest = max(1, self.steps - self.step)
        seconds = max(self.cost, self.longest) if self.left is None else self.left / rest
        return min(seconds, self.run_seconds * _OF_RUN)

    def part(self) -> float:
        """The share of its steps that is done."""
        return self.step / self.steps if self.steps else 0.0


@dataclass(slots=True)
class Seat:
    """One worker that called: what it is, when it was last heard, when it last got anywhere, and the tokens whose end
    it may not have heard of yet."""

    hello: Hello
    heard: float
    moved: float
    freed: set[str] = field(default_factory=set)
    room_freed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Vital:
    """How a worker is: seconds since it was `silent`, since it was `stuck` (0 while it holds nothing), the number of
    leases it holds, and the predicted seconds of the longest unit of work among them."""

    hello: Hello
    silent: float
    stuck: float
    holding: int
    unit: float


class Desk:
    """The six verbs over a store of jobs and a store of bytes, and what a supervisor asks."""

    def __init__(
        self,
        store: JobStore,
        blobs: BlobStore,
        *,
        finish: Finish,
        clock: Clock,
        board: Board | None = None,
        tally: Tally | None = None,
        quiet: float = QUIET_SECONDS,
        policy: Policy | None = None,
    ) -> None:
        """Nobody has called yet. `quiet`: a worker that holds jobs and was not heard of for longer gets no more.
        `policy` is the workers' own, for foretelling ends."""
        self._store, self._blobs, self._finish, self._clock = store, blobs, finish, clock
        self._quiet = quiet
        self.board = board if board is not None else Board()
        self._tally = tally if tally is not None else Tally()
        self._hands: dict[str, Hand] = {}
        self._seats: dict[str, Seat] = {}
        self._missed: dict[str, float] = {}
        self._suspects: set[str] = set()
        self._errands: set[asyncio.Task[None]] = set()
        self.prices = Prices()
        self.outlook = Outlook(
            store,
            clock,
            policy=policy if policy is not None else InOrder(by_promise, Saturation(half=0)),
            prices=self.prices,
            held=self._held_now,
            workers=lambda: tuple(hello.worker for hello in self.workers()),
        )

    # -- the verbs

    async def claim(self, ask: Claim) -> News:
        """The long poll. Cancels end it at once; so does room that a worker without any gets back."""
        worker = ask.hello.worker
        seat = self._sit(ask.hello)
        await self._take_back_unheard(worker, ask.holding)
        news = await self._poll(seat, ask)
        if self._seats.get(worker) is not seat:  # buried while it polled: nobody is there to make these
            await self._return(news.leases)
            return News((), news.cancelled)
        seat.heard = self._clock.monotonic()
        # All of them before anything is awaited: whoever buries this worker must find them.
        for lease in news.leases:
            self._hand_over(seat, lease)
        for lease in news.leases:
            await self._take_over(lease)
        for token in news.cancelled:
            await self._drop(token)
        leases = (replace(lease, watched=self.board.watched(lease.job_id)) for lease in news.leases)
        return News(tuple(leases), news.cancelled)

    async def beat(self, ask: Beats) -> Gone:
        """Extend the leases, note the steps, show the previews. Raises BadMessage for one of a picture that was not
        ordered."""
        for pulse in ask.beats:
            _fits(self._hands.get(pulse.token), pulse)
        now = self._clock.monotonic()
        seat = self._seats.get(ask.worker)
        if seat is not None:
            seat.heard = now
            if ask.figures:
                self.board.count(ask.worker, ask.figures)
        for pulse in ask.beats:
            hand = self._hands.get(pulse.token)
            if hand is None:
                continue
            if seat is not None and (pulse.step, pulse.steps) != (hand.step, hand.steps):
                seat.moved = now
            hand.step, hand.steps, hand.left = pulse.step, pulse.steps, pulse.left
            hand.longest = pulse.unit
            self.board.see(hand.job_id, pulse.step, pulse.steps, pulse.left)
            if pulse.preview is not None:
                self.board.glimpse(hand.job_id, pulse.preview)
        gone = await self._store.beat(ask.worker, [Beat(p.token, p.step, p.steps) for p in ask.beats])
        for token in gone:
            await self._drop(token)
        watched = (token for token, hand in self._hands.items() if self.board.watched(hand.job_id))
        asked = {pulse.token for pulse in ask.beats}
        return Gone(gone, tuple(token for token in watched if token in asked))

    async def input(self, token: str, digest: str) -> bytes:
        """The packed raster of one input of the token's job, or of its mask. Raises TokenGone; BadMessage for a picture
        that the job does not take; Internal if the bytes are missing."""
        hand = await self._held(token)
        if digest not in hand.brief.rasters:
            raise BadMessage("the job has no such input")
        packed = await self._blobs.read(input_key(hand.tenant, digest))
        if packed is None:
            raise Internal("an input of the job is no longer stored")
        return packed

    async def script(self, ask: Script) -> Script:
        """What the token's job has to be made of: what its first attempt said. Raises TokenGone, and BadMessage for
        more pictures than were ordered."""
        hand = await self._held(ask.token)
        if len(ask.panels) > hand.brief.count:
            raise BadMessage(f"a script of {len(ask.panels)} pictures for an order of {hand.brief.count}")
        self._move(hand.worker)
        return Script(ask.token, self.board.tell(hand.job_id, ask.panels))

    async def image(self, token: str, index: int, packed: bytes) -> None:
        """Store one picture of the token's job, durably; again is allowed and replaces it. Raises TokenGone, and
        BadMessage for a picture that was not ordered."""
        hand = await self._held(token)
        raster = _ordered(hand.brief, index, packed)
        png, digest = await asyncio.to_thread(self._press, raster, hand.brief, f"{hand.job_id}-{index}")
        day = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y%m%d")
        image = Image(result_key(hand.job_id, index, day, new_nonce()), raster.size, digest)
        await self._blobs.write(image.key, png)
        async with hand.lock:
            still = self._hands.get(token) is hand
            unneeded = hand.images.get(index) if still else image
            if still:
                hand.images[index] = image
        await self._forget_files([] if unneeded is None or (still and self._told(hand)) else [unneeded])
        if not still:
            raise TokenGone
        self._move(hand.worker)
        self.board.stored(hand.job_id, len(hand.images))
        self.board.show(hand.job_id, index, image)

    async def end(self, ask: End) -> Closing:
        """End the attempt. A repeated end, its first answer lost, is answered as the first. Raises ImagesMissing."""
        hand = self._hands.get(ask.token)
        if hand is None:
            return await self._settle(ask, None)
        async with hand.lock:
            if ask.token not in self._hands:  # another call with this token ended it while this one waited
                return await self._settle(ask, None)
            closing = await self._settle(ask, hand)
            del self._hands[ask.token]
            if ask.outcome is Outcome.RELEASED:
                await self._forget_files(self._unneeded(hand))
            elif closing is Closing.STALE or ask.outcome is not Outcome.SUCCEEDED:
                await self._forget_files(hand.images.values())
            if ask.fault is not None and ask.fault.name == InputRefused.__name__:
                await self._forget_inputs(hand)
        self._move(hand.worker)
        if closing is Closing.STALE:
            self._lost(ask.token, hand)
        else:
            self._ended(hand, ask)
        return closing

    # -- what a supervisor asks

    def vital(self, worker: str) -> Vital | None:
        """How a worker is; None if it has not called yet."""
        seat = self._seats.get(worker)
        if seat is None:
            return None
        now = self._clock.monotonic()
        hands = [hand for hand in self._hands.values() if hand.worker == worker]
        stuck = now - seat.moved if hands else 0.0
        unit = max((hand.unit() for hand in hands), default=0.0)
        return Vital(seat.hello, now - seat.heard, stuck, len(hands), unit)

    async def bury(self, worker: str, *, crashed: bool) -> int:
        """The worker's process is gone: its jobs go back to the queue at once instead of when their leases lapse.
        A crash counts against each of them; answers how many there were."""
        self._seats.pop(worker, None)
        self.board.gone(worker)
        tokens = [token for token, hand in self._hands.items() if hand.worker == worker]
        if crashed and len(tokens) > 1:
            self._suspects |= {self._hands[token].job_id for token in tokens}
        for token in tokens:
            await self._give_back(token, crashed=crashed)
        return len(tokens)

    def workers(self) -> tuple[Hello, ...]:
        """Every worker that is known to be there."""
        since = self._clock.monotonic() - AWAY_SECONDS
        return tuple(seat.hello for seat in self._seats.values() if seat.heard >= since)

    async def forget_away(self) -> None:
        """Forget the workers that vanished and whom nobody buried, with what they held once the store gave it to
        others or ended it. Call it every half a minute or so: a worker goes when two calls in a row found it away,
        since after a stop of this process all are."""
        now = self._clock.monotonic()
        away = {name: seat.heard for name, seat in self._seats.items() if now - seat.heard > AWAY_SECONDS}
        lost = {name for name, heard in away.items() if self._missed.get(name) == heard}
        for token, hand in list(self._hands.items()):
            nobodys = hand.worker in lost or hand.worker not in self._seats
            if nobodys and await self._store.leased(token) is None:
                await self._drop(token)
        for name in lost - {hand.worker for hand in self._hands.values()}:
            seat = self._seats.get(name)
            if seat is not None and seat.heard == away[name]:  # nobody called or was buried meanwhile
                del self._seats[name]
                self.board.gone(name)
        self._missed = {name: heard for name, heard in away.items() if name in self._seats}

    def reaches(self) -> list[Reach]:
        """What each worker that is there could ever make, as it tells."""
        return [cast(Reach, seat.hello.reach) for seat in self._seats.values()]

    # -- seats and rooms

    def _sit(self, hello: Hello) -> Seat:
        now = self._clock.monotonic()
        seat = self._seats.setdefault(hello.worker, Seat(hello, now, now))
        seat.hello, seat.heard = hello, now
        return seat

    def _move(self, worker: str) -> None:
        seat = self._seats.get(worker)
        if seat is not None:
            seat.moved = self._clock.monotonic()

    def _room(self, seat: Seat, asked: int) -> int:
        """None for a worker that holds jobs and stopped beating, though its poll is still open: its own lapsed jobs
        would go back to it. And while jobs that were together in a crashed worker are open, each worker gets one at a
        time: then the next crash tells which of them it was, and the others keep their good name."""
        held = sum(hand.worker == seat.hello.worker for hand in self._hands.values())
        if held and self._clock.monotonic() - seat.heard > self._quiet:
            return 0
        return min(asked, max(0, 1 - held)) if self._suspects else asked

    async def _poll(self, seat: Seat, ask: Claim) -> News:
        """Wait for news, in slices, since the room may change meanwhile."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ask.seconds
        seat.freed &= set(ask.holding)
        while True:
            if (
                ask.room == 0 and seat.freed
            ):  # it counts a job as held whose end is still on its way to it: ask again
                return News()
            room, left = self._room(seat, ask.room), end - loop.time()
            news = await self._slice(seat, room, min(max(left, 0.0), SLICE_SECONDS))
            if room > 0 and not news.leases:
                self._suspects.clear()  # nothing is queued: whoever was suspected has ended or was cancelled
            buried = self._seats.get(ask.hello.worker) is not seat
            if news.leases or news.cancelled or buried or left <= SLICE_SECONDS:
                return news

    async def _slice(self, seat: Seat, room: int, seconds: float) -> News:
        """One question to the store. When the worker hangs up, the store hears of it: no job goes to nobody."""
        seat.room_freed.clear()
        news = asyncio.ensure_future(self._store.news(seat.hello.worker, room=room, seconds=seconds))
        waits: set[asyncio.Future[Any]] = {news}
        if room == 0:
            waits.add(asyncio.ensure_future(seat.room_freed.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return news.result() if news.done() else News()
        except asyncio.CancelledError:
            news.add_done_callback(self._return_unclaimed)
            raise
        finally:
            for wait in waits:
                wait.cancel()

    def _return_unclaimed(self, news: asyncio.Future[News]) -> None:
        """The poll was given up just as it was answered."""
        if not news.cancelled() and news.exception() is None and news.result().leases:
            self._run_errand(self._return(news.result().leases))

    def _run_errand(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _return(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            await self._store.release(lease.token)

    async def _take_back_unheard(self, worker: str, holding: tuple[str, ...]) -> None:
        """Leases whose answer never arrived: the worker does not know of them, and polls one at a time."""
        for token in [t for t, hand in self._hands.items() if hand.worker == worker and t not in holding]:
            await self._give_back(token, crashed=False)

    # -- hands

    def _held_now(self) -> list[Held]:
        hands = self._hands.values()
        return [Held(h.job_id, h.tenant, h.brief, h.worker, h.since, h.part(), h.priority) for h in hands]

    def _hand_over(self, seat: Seat, lease: Lease) -> None:
        worker = seat.hello.worker
        if not any(hand.worker == worker for hand in self._hands.values()):
            seat.moved = self._clock.monotonic()
        self._hands[lease.token] = Hand(
            lease.job_id,
            lease.tenant,
            lease.brief,
            worker,
            cost=lease.cost,
            since=self._clock.monotonic(),
            priority=lease.priority,
            run_seconds=lease.run_seconds,
        )
        self.board.claimed(lease.job_id)

    async def _held(self, token: str) -> Hand:
        """The hand behind a token that holds a job right now; raises TokenGone."""
        job = await self._store.leased(token)
        if job is None:
            await self._drop(token)
            raise TokenGone
        return self._hands.setdefault(token, _remembered(job))

    async def _drop(self, token: str) -> None:
        """The token holds nothing any more: the files of the attempt go."""
        hand = self._hands.get(token)
        if hand is None:
            return
        async with hand.lock:
            if self._hands.pop(token, None) is None:
                return
            await self._forget_files(self._unneeded(hand))
        self._lost(token, hand)

    def _lost(self, token: str, hand: Hand) -> None:
        """The attempt is over without having ended its job, of which there may be a later one already."""
        if not any(other.job_id == hand.job_id for other in self._hands.values()):
            self._suspects.discard(hand.job_id)
            self.board.forget(hand.job_id)
        self._free(hand.worker, token)

    async def _take_over(self, lease: Lease) -> None:
        """The lease of an earlier attempt had lapsed: what is left of that goes."""
        hands = self._hands.items()
        for token in [token for token, hand in hands if hand.job_id == lease.job_id and token != lease.token]:
            await self._drop(token)

    async def _give_back(self, token: str, *, crashed: bool) -> None:
        hand = self._hands.get(token)
        if hand is None:  # it ended while another was given back
            return
        async with hand.lock:
            if self._hands.pop(token, None) is None:
                return
            with suppress(Unavailable):  # then the lease lapses by itself
                await self._store.release(token, crashed=crashed)
            await self._forget_files(self._unneeded(hand))
        self.board.forget(hand.job_id)

    async def _settle(self, ask: End, hand: Hand | None) -> Closing:
        """What the store says to this end."""
        if ask.outcome is Outcome.FAILED:
            fault: Fault = ask.fault.fault() if ask.fault is not None else Internal()
            return await self._store.fail(ask.token, fault)
        if ask.outcome is Outcome.RELEASED:
            return await self._store.release(ask.token)
        if hand is not None and set(hand.images) >= (places := _delivered(hand.brief, ask)):
            hand.doubtful = True
            lost = {one.place: one.fault.fault() for one in ask.lost}
            texts = tuple((text.place, text.text) for text in ask.texts)
            said = Said(ask.prompt, texts, ask.quality)
            return await self._store.succeed(ask.token, [hand.images[i] for i in sorted(places)], lost, said)
        job = await self._store.leased(ask.token)
        if job is None:  # holds nothing: the store tells a lost answer from a lost lease, and charges nobody
            return await self._store.succeed(ask.token, ())
        stored = hand.images if hand is not None else {}
        raise ImagesMissing(", ".join(str(i) for i in sorted(_delivered(job.brief, ask)) if i not in stored))

    def _ended(self, hand: Hand, ask: End) -> None:
        self._suspects.discard(hand.job_id)
        self._free(hand.worker, ask.token)
        for wrong in (ask.fault, *(one.fault for one in ask.lost)):
            if wrong is not None:
                self._tally.note(wrong.name)
        self.board.ended(hand.job_id, ask.outcome, seconds=ask.seconds, wall=ask.wall)
        if ask.outcome is Outcome.SUCCEEDED:
            self.outlook.ended(hand.job_id, hand.brief, ask.seconds)

    def _free(self, worker: str, token: str) -> None:
        seat = self._seats.get(worker)
        if seat is not None:
            seat.freed.add(token)
            seat.room_freed.set()

    # -- files

    def _press(self, raster: Raster, brief: Brief, number: str) -> tuple[bytes, str]:
        """The marked PNG file and its SHA-256. Runs in a thread."""
        png = self._finish(raster, brief, number)
        return png, hashlib.sha256(png).hexdigest()

    def _told(self, hand: Hand) -> bool:
        """Whether links to the hand's pictures may be out already, in a stream that goes on with the next attempt."""
        return self.board.followed(hand.job_id)

    def _unneeded(self, hand: Hand) -> Iterable[Image]:
        """The files of an attempt that is lost. What somebody was shown stays for the life of its link: the sweep
        removes it, since no row will name it."""
        return () if hand.doubtful or self._told(hand) else hand.images.values()

    async def _forget_inputs(self, hand: Hand) -> None:
        """Of a job that was refused for one of them; best effort, as below."""
        with suppress(OSError, Fault):
            keys = [input_key(hand.tenant, digest) for digest in hand.brief.rasters]
            await self._blobs.remove(await self._store.unnamed(keys))

    async def _forget_files(self, images: Iterable[Image]) -> None:
        """Best effort: what stays is removed by the sweep, since no row names it."""
        keys = [image.key for image in images]
        if not keys:
            return
        with suppress(OSError, Fault):
            await self._blobs.remove(keys)


def _remembered(job: Job) -> Hand:
    """A hand for a lease given out before this desk was set up; whose it is will show when that worker ends it."""
    return Hand(job.id, job.tenant, job.brief, worker="")


def _fits(hand: Hand | None, pulse: Pulse) -> None:
    """Whether a preview is of a picture that was ordered; raises BadMessage."""
    if hand is not None and pulse.preview is not None and pulse.preview.index >= hand.brief.count:
        raise BadMessage(f"a preview of picture {pulse.preview.index} of {hand.brief.count}")


def _delivered(brief: Brief, ask: End) -> set[int]:
    """The places whose pictures a success brings. Raises BadMessage for an end that does not fit the order."""
    made = brief.count if ask.made is None else ask.made
    lost = {one.place for one in ask.lost}
    if not 1 <= made <= brief.count or not lost < set(range(made)):
        raise BadMessage(f"{made} of {brief.count} pictures, without {sorted(lost)}, is no success")
    return set(range(made)) - lost


def _ordered(brief: Brief, index: int, packed: bytes) -> Raster:
    """The picture, if the brief orders one like it at that index; raises BadMessage."""
    if not 0 <= index < brief.count:
        raise BadMessage(f"picture {index} of {brief.count}")
    try:
        raster = Raster.unpack(packed)
    except ValueError as fault:
        raise BadMessage(str(fault)) from fault
    if raster.channels == 1:
        raise BadMessage("a mask where a picture was ordered")
    if raster.size != brief.size:
        raise BadMessage(f"a picture of {raster.size} where {brief.size} was ordered")
    return raster
