"""A worker as a process: load the engine, serve the lease socket, end when told or when the server is gone.

Whoever starts it holds a pipe on its standard input; the pipe closes when that process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from danqing.core.ports import Clock, Engine
from danqing.core.reach import Reach
from danqing.lease.client import LeaseClient
from danqing.lease.messages import MOST_ROOM, Hello
from danqing.work.aides import Aides
from danqing.work.ends import LOST
from danqing.work.run import Worker

CLOSE_SECONDS = 2.0
_log = structlog.get_logger("danqing.work")


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine that is ready, and what it is: its profile's name, the API names it serves, its device, for how many
    jobs at once it has room (1 to 16), what helps it, and what it could ever make."""

    engine: Engine
    profile: str
    models: tuple[str, ...]
    device: str
    room: int = MOST_ROOM
    aides: Aides = field(default_factory=Aides)
    reach: Reach = field(default_factory=dict)


def main(open_engine: Callable[[], Opened], *, name: str, socket: Path, clock: Clock) -> None:
    """Serve until the pipe on standard input closes or SIGTERM or SIGINT arrives; held jobs go back to the queue, no
    attempt counted. `open_engine` may take its time: it runs in a thread, and the wait can be ended like the rest.
    Raises what `open_engine` raises."""
    if not asyncio.run(_serve(open_engine, name=name, socket=socket, clock=clock)):
        # a thread is still inside foreign code: the interpreter would wait for it, or trip over it
        os._exit(0)


def perish(reason: str) -> None:
    """End this process at once, as a crash: what it held is made elsewhere, or by the next one. From any thread."""
    _log.error("the worker cannot go on", reason=reason)
    os._exit(LOST)


async def _serve(open_engine: Callable[[], Opened], *, name: str, socket: Path, clock: Clock) -> bool:
    """False if a thread was left behind."""
    stopping = asyncio.Event()
    _listen_for_the_end(stopping)
    stopped = asyncio.ensure_future(stopping.wait())
    began = clock.monotonic()
    # not the loop's own pool: the loop does not end before its threads do
    door = ThreadPoolExecutor(1, "engine-door")
    opening = asyncio.get_running_loop().run_in_executor(door, open_engine)
    if not await _first(opening, stopped):
        return False
    opened = opening.result()
    hello = Hello(name, opened.profile, opened.models, opened.device, opened.reach)
    _log.info("worker ready", worker=name, device=opened.device, seconds=round(clock.monotonic() - began, 2))
    client = LeaseClient(socket, clock=clock)
    try:
        worker = Worker(opened.engine, client, hello, room=opened.room, clock=clock, aides=opened.aides)
        await _work(worker, stopped)
    finally:
        await client.close()
        await opened.aides.close()
    closing = asyncio.get_running_loop().run_in_executor(door, opened.engine.close)
    return await _first(closing, asyncio.ensure_future(asyncio.sleep(CLOSE_SECONDS)))


async def _first(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> bool:
    """Whether `one` is done when the first of the two is."""
    await asyncio.wait({one, other}, return_when=asyncio.FIRST_COMPLETED)
    return one.done()


async def _work(worker: Worker, stopped: asyncio.Future[Any]) -> None:
    """Until stopped, or until the worker itself breaks."""
    running = asyncio.ensure_future(worker.run())
    await _first(running, stopped)
    worker.stop()
    await running


def _listen_for_the_end(stopping: asyncio.Event) -> None:
    """Signals and the pipe, both to one event."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def watch_pipe() -> None:
        while os.read(0, 4096):  # nothing is ever written; only the end of it matters
            pass
        with suppress(RuntimeError):  # the loop is closed: it has ended already
            loop.call_soon_threadsafe(stopping.set)

    threading.Thread(target=watch_pipe, name="parent-pipe", daemon=True).start()
