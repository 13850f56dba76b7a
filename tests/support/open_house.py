"""The house of the wire tests behind a real socket: every real route, and a painter of one colour for an engine. For
clients that need an address, and have no need of a model.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from danqing.app import free_port
from danqing.wire.http import build
from tests.wire import house as houses
from tests.wire.house import House

HOST = "127.0.0.1"


@dataclass(slots=True)
class OpenHouse:
    """A house, its address, and the loop it lives on."""

    house: House
    url: str
    loop: asyncio.AbstractEventLoop

    @property
    def key(self) -> str:
        return self.house.key

    def deed(self, line: str) -> None:
        """What a transcript's `%` line does."""
        asyncio.run_coroutine_threadsafe(self.house.deed(line), self.loop).result(30)


@contextmanager
def open_house(folder: Path) -> Iterator[OpenHouse]:
    """Serve a house from a thread of its own for as long as the block runs."""
    port, ready, found = free_port(HOST), threading.Event(), list[OpenHouse]()
    stopping: list[asyncio.Event] = []
    thread = threading.Thread(target=lambda: asyncio.run(_serve(folder, port, found, stopping, ready)))
    thread.start()
    assert ready.wait(60)
    try:
        yield found[0]
    finally:
        found[0].loop.call_soon_threadsafe(stopping[0].set)
        thread.join(60)


async def _serve(
    folder: Path,
    port: int,
    found: list[OpenHouse],
    stopping: list[asyncio.Event],
    ready: threading.Event,
) -> None:
    async with houses.opened(folder) as house:
        server = Server(
            build(house.desk),
            address=HOST,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
        )
        stop = asyncio.Event()
        stopping.append(stop)
        serving = asyncio.ensure_future(server.serve())
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            break
        found.append(OpenHouse(house, f"http://{HOST}:{port}", asyncio.get_running_loop()))
        ready.set()
        await stop.wait()
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait({serving}, timeout=10)
