"""Processes that work on a store and kill themselves at a named commit point. Run by `test_crash_points`.

    python -m tests.contract.crash_child <folder> <point>=<count> …

Each point has a folder of its own name and is a fork of one warm process. Every acknowledged answer is written to the
file `acks` there and synced before the next call, as a client would remember it; `signal` says what ended the process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from danqing.core.errors import EngineFailed
from danqing.core.job import Beat
from danqing.core.order import Order
from danqing.core.uploads import Kept
from danqing.store.sqlite import SqliteStore
from tests.contract.stores import FILE
from tests.support.clock import VirtualClock
from tests.support.jobs import claim, draft, pictures, sent


def killer(point: str, count: int) -> Callable[[str], None]:
    """Dies by signal 9 the `count`-th time that the point is reached."""
    left = [count]

    def crash(reached: str) -> None:
        if reached == point:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return crash


async def work(folder: Path, point: str, count: int) -> None:
    clock = VirtualClock()
    log = (folder / "acks").open("a")

    def note(what: str) -> None:
        log.write(what + "\n")
        log.flush()
        os.fsync(log.fileno())

    store = SqliteStore(folder / FILE, clock, boot="one", crash=killer(point, count))
    await store.open()
    for n in range(5):
        order = draft(f"job-{n}", count=2, idempotency_key=f"key-{n}", fingerprint="f", run_seconds=120.0)
        await store.submit("ann", order)
        note(f"submitted job-{n}")
    assert await store.keep_upload(sent("up-1", clock.wall()), 100) is Kept.KEPT
    note("uploaded up-1")
    for name, key in (("later-1", "key-l1"), ("later-2", "key-l2")):
        more = {"idempotency_key": key, "fingerprint": "f", "rank": 9.0, "request_id": "r"}
        await store.submit("ann", draft(name, count=2, order=Order("miniature", "p", count=2), **more))
        note(f"submitted {name}")
    await store.ready("later-1", draft("later-1", count=2).brief)
    note("ended later-1 ready")
    await store.refuse("later-2", EngineFailed())
    note("ended later-2 refuse")
    for end in ("succeed", "fail", "release", "cancel"):
        lease = await claim(store)
        note(f"claimed {lease.job_id} {lease.token} {end}")
        await store.beat("worker-1", [Beat(lease.token, 1, 8)])
        if end == "succeed":
            await store.succeed(lease.token, pictures(lease.job_id, 2))
        elif end == "fail":
            await store.fail(lease.token, EngineFailed())
        elif end == "release":
            await store.release(lease.token)
        else:
            await store.cancel("ann", lease.job_id)
        note(f"ended {lease.job_id} {end}")
    await claim(store)
    clock.advance(121.0)
    await store.sweep()
    clock.advance(24 * 3600.0)
    await store.sweep()
    note("through")


async def empty_store(folder: Path) -> None:
    async with await SqliteStore(folder / FILE, VirtualClock()).open():
        pass


def main(root: Path, points: list[str]) -> None:
    asyncio.run(empty_store(root))
    children = {}
    for entry in points:
        point, _, count = entry.partition("=")
        folder = root / point
        folder.mkdir()
        shutil.copy(root / FILE, folder / FILE)
        child = os.fork()
        if child == 0:
            asyncio.run(work(folder, point, int(count)))
            os._exit(0)
        children[child] = folder
    for child, folder in children.items():
        _, status = os.waitpid(child, 0)
        (folder / "signal").write_text(str(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else "none")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
