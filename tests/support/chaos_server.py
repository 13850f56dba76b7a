"""A server process without HTTP and without a model, to be killed: store, bytes, lease socket, and workers over the
fake engine. `python -m tests.support.chaos_server DATA WORKERS`; operator commands submit, look and name the workers.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danqing.blobs.folder import FolderBlobs
from danqing.core.job import Draft
from danqing.core.order import Brief
from danqing.lease import address
from danqing.lease.desk import Desk
from danqing.lease.server import LeaseServer
from danqing.store.life import Rules
from danqing.store.sqlite import SqliteStore
from danqing.work.supervise import Command, Supervisor
from tests.support.clock import RealClock
from tests.support.lease_place import SIZE, TENANT, png

ROOT = Path(__file__).parent.parent.parent
RULES = Rules(lease_seconds=1.5, attempts=1000, crashes=1000, queue_limit=100_000)


def python(module: str, *arguments: str) -> list[str]:
    """A command line that runs a module of the tests from any folder, without leaving compiled files."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.support.{module} import run; run()"
    return [sys.executable, "-B", "-c", start, *arguments]


def worker_command(socket: Path, *options: str) -> Command:
    """The command line of a fake worker by its name."""
    return lambda name: python("fake_worker", "--socket", str(socket), "--name", name, *options)


def verbs(store: SqliteStore, supervisor: Supervisor) -> dict[tuple[str, str], Any]:
    async def submit(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        brief = Brief("qwen-image-edit-plus", "a cat", None, (), asked["count"], SIZE, seed=asked["seed"])
        draft = Draft(id=asked["id"], api="chaos", brief=brief, idempotency_key=asked["id"])
        return {"id": (await store.submit(TENANT, draft)).job.id}

    async def look(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        workers = [standing.pid for standing in supervisor.standing() if standing.pid is not None]
        return {"figures": await store.figures(), "workers": workers}

    return {("POST", "/submit"): submit, ("POST", "/look"): look}


async def serve(data: Path, workers: int) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    clock = RealClock()
    socket = address.new_socket()
    async with SqliteStore(data / "danqing.sqlite3", clock, rules=RULES) as store:
        desk = Desk(store, FolderBlobs(data / "blobs", data / "secrets"), finish=png, clock=clock, quiet=0.3)
        command = worker_command(socket, "--step-seconds", "0.01", "--room", "3")
        supervisor = Supervisor({f"cpu{n}": command for n in range(workers)}, desk, clock=clock)
        server = LeaseServer(desk, operator=verbs(store, supervisor))
        await server.start(socket)
        address.record(data, socket)
        supervisor.start()
        await stopping.wait()
        await supervisor.stop()
        await server.stop()
        address.close(data, socket)


def run() -> None:
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    run()
