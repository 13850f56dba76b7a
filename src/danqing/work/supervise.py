"""Starts one worker process a device, watches it, starts it again. Knows neither the engine nor how a worker is wired:
it is handed the command line.

A worker that ends gives its jobs back at once: a crash is counted against them, a clean end is not. A worker that holds
jobs and gets nowhere, or is not heard of, is killed, even if its heart still beats.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import structlog

from danqing.core.ports import Clock
from danqing.lease.desk import Vital
from danqing.lease.messages import Hello
from danqing.work.ends import UNREADY, WHY

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
HEALTHY_SECONDS = 60.0
STUCK_SECONDS = 60.0
STUCK_UNITS = 10.0
SILENT_SECONDS = 60.0
START_SECONDS = 1800.0
"""A checkpoint of 20 B parameters comes from a cold disk in minutes; a start beyond this is stuck."""
STOP_SECONDS = 5.0
LOOK_EVERY = 1.0
STALL_SECONDS = 10.0

Command = Callable[[str], Sequence[str]]
"""The command line of a worker, from the name it shall have."""


class Watched(Protocol):
    """What the supervisor asks of the desk."""

    def vital(self, worker: str) -> Vital | None:
        """How a worker is; None before it called."""
        ...

    async def bury(self, worker: str, *, crashed: bool) -> int:
        """Give a dead worker's jobs back."""
        ...


class Phase(StrEnum):
    """Where a device's worker stands."""

    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing-off"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Standing:
    """One device's worker for `/health`: its phase since (Unix seconds), how often it was started again, why the last
    one ended, and what it says of itself once it is ready."""

    device: str
    phase: Phase
    since: float
    restarts: int = 0
    reason: str | None = None
    pid: int | None = None
    hello: Hello | None = None


class Backoff:
    """How long to wait before the next start: 0.5 s, doubled up to 30 s; a healthy minute starts over. What a person
    has to mend is tried every 30 s."""

    def __init__(self) -> None:
        """The first pause is next."""
        self._next = FIRST_PAUSE

    def after(self, lived: float, code: int | None = None) -> float:
        """The pause after a worker that lived that many seconds and ended with that code."""
        if code == UNREADY:
            return LONGEST_PAUSE
        pause = FIRST_PAUSE if lived >= HEALTHY_SECONDS else self._next
        self._next = min(LONGEST_PAUSE, pause * 2)
        return pause


def stuck(vital: Vital, awake: float) -> str | None:
    """Why this worker must be killed, or None. `awake` seconds ago this process itself was last stopped or stalled:
    nobody is blamed for a silence in which we did not listen."""
    allowed = max(STUCK_SECONDS, STUCK_UNITS * vital.unit)
    if vital.holding and min(vital.stuck, awake) > allowed:
        return f"no new step for {allowed:.0f} s"
    if min(vital.silent, awake) > SILENT_SECONDS:
        return f"not heard of for {SILENT_SECONDS:.0f} s"
    return None


@dataclass(slots=True)
class _Post:
    """A device and its worker of the moment."""

    device: str
    command: Command
    phase: Phase
    since: float
    restarts: int = 0
    reason: str | None = None
    worker: str = ""
    pid: int | None = None
    code: int | None = None
    """What its last worker ended with."""
    called: bool = False
    """Whether its worker was heard of yet."""


class Supervisor:
    """Keeps one worker alive for each device between `start` and `stop`."""

    def __init__(self, commands: Mapping[str, Command], desk: Watched, *, clock: Clock) -> None:
        """`commands` by device; nothing is started yet."""
        self._desk, self._clock = desk, clock
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("danqing.supervisor")
        now = clock.wall()
        self._posts = [_Post(device, command, Phase.STOPPED, now) for device, command in commands.items()]

    def start(self) -> None:
        """Start the workers; returns before they are ready."""
        self._tasks = [asyncio.ensure_future(self._keep(post)) for post in self._posts]

    async def stop(self) -> None:
        """End the workers and wait for it: 5 s to give their jobs back, then they are killed."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    def standing(self) -> tuple[Standing, ...]:
        """How each device's worker is."""
        return tuple(self._stand(post) for post in self._posts)

    def _stand(self, post: _Post) -> Standing:
        vital = self._desk.vital(post.worker) if post.phase is Phase.STARTING else None
        phase = post.phase if vital is None else Phase.READY
        hello = None if vital is None else vital.hello
        return Standing(post.device, phase, post.since, post.restarts, post.reason, pid=post.pid, hello=hello)

    async def _keep(self, post: _Post) -> None:
        """One life after the other."""
        backoff = Backoff()
        while not self._stopping.is_set():
            post.worker, post.called = f"{post.device}-{secrets.token_hex(4)}", False
            began = self._clock.monotonic()
            self._enter(post, Phase.STARTING)
            post.reason, crashed = await self._live(post)
            given_back = await self._desk.bury(post.worker, crashed=crashed)
            post.pid = None
            if self._stopping.is_set():
                break
            post.restarts += 1
            pause = backoff.after(self._clock.monotonic() - began, post.code)
            self._log.warning(
                "worker ended", worker=post.worker, reason=post.reason, jobs=given_back, again_in=pause
            )
            self._enter(post, Phase.BACKING_OFF)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
        self._enter(post, Phase.STOPPED)

    def _enter(self, post: _Post, phase: Phase) -> None:
        post.phase, post.since = phase, self._clock.wall()

    async def _live(self, post: _Post) -> tuple[str, bool]:
        """From the start of a process to its end: why it ended, and whether that was a crash."""
        post.code = None
        try:
            process = await asyncio.create_subprocess_exec(
                *post.command(post.worker),
                stdin=asyncio.subprocess.PIPE,
                process_group=0,  # Ctrl-C in a terminal reaches the server alone, which then ends its workers
            )
        except OSError as fault:
            return f"could not be started: {fault}", True
        post.pid = process.pid
        self._log.info("worker started", worker=post.worker, pid=process.pid)
        reason = await self._watch(post, process)
        if process.returncode is None:
            reason = await self._end(process)
        code = post.code = process.returncode
        return reason or _why(code), code != 0 and not self._stopping.is_set()

    async def _watch(self, post: _Post, process: asyncio.subprocess.Process) -> str | None:
        """Until it ends, is killed here (then why), or is to be stopped."""
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        began = awake = looked = self._clock.monotonic()
        try:
            while True:
                await asyncio.wait({ended, stopping}, timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
                if ended.done() or stopping.done():
                    return None
                now = self._clock.monotonic()
                if now - looked > STALL_SECONDS:
                    awake = now
                looked = now
                reason = self._judge(post, now - awake, now - began)
                if reason is not None:
                    process.kill()
                    await ended
                    return reason
        finally:
            stopping.cancel()
            ended.cancel()

    def _judge(self, post: _Post, awake: float, lived: float) -> str | None:
        vital = self._desk.vital(post.worker)
        if vital is None and post.called:  # and was forgotten since
            return f"not heard of for {SILENT_SECONDS:.0f} s"
        post.called = vital is not None
        if vital is None:
            return f"not ready after {START_SECONDS:.0f} s" if min(awake, lived) > START_SECONDS else None
        return stuck(vital, awake)

    async def _end(self, process: asyncio.subprocess.Process) -> str:
        """Close the pipe: the worker gives its jobs back and ends. One that does not is killed."""
        if process.stdin is not None:
            process.stdin.close()
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return "stopped"


def _why(code: int | None) -> str:
    """The end of a process in words."""
    if code is None or code >= 0:
        return f"ended with {code}" + (f", {WHY[code]}" if code in WHY else "")
    return f"ended by signal {-code}"
