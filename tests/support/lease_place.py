"""A lease server over a real store and folder, without HTTP and without an engine."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.blobs.folder import FolderBlobs
from danqing.core.blobkeys import input_key
from danqing.core.job import Draft, Job
from danqing.core.order import Brief, Knob
from danqing.core.ports import Clock
from danqing.core.raster import Raster, Size
from danqing.lease import address
from danqing.lease.client import LeaseClient
from danqing.lease.desk import QUIET_SECONDS, Desk
from danqing.lease.messages import Hello
from danqing.lease.server import LeaseServer
from danqing.store.life import Rules
from danqing.store.sqlite import SqliteStore
from tests.support.clock import RealClock
from tests.support.folders import files_below

SIZE = Size(8, 6)
TENANT = "tenant-1"
HELLO = Hello("w1", "fake", ("qwen-image-edit-plus",), "cpu")
_numbers = itertools.count()


def png(raster: Raster, brief: Brief, _number: str) -> bytes:
    """Stands for the marks and the PNG: bytes that name the picture and the mark."""
    return f"{raster.digest()} {brief.watermark}".encode()


def hello(worker: str) -> Hello:
    return Hello(worker, HELLO.profile, HELLO.models, HELLO.device)


@dataclass
class Place:
    """Everything a worker meets."""

    store: SqliteStore
    blobs: FolderBlobs
    desk: Desk
    socket: Path
    root: Path
    clock: Clock

    def client(self) -> LeaseClient:
        return LeaseClient(self.socket, clock=RealClock())

    async def submit(
        self,
        prompt: str = "a cat",
        *,
        count: int = 1,
        inputs: tuple[Raster, ...] = (),
        knobs: Mapping[str, Knob] | None = None,
        **more: Any,
    ) -> str:
        """A queued job, its inputs stored."""
        for raster in inputs:
            await self.blobs.write(input_key(TENANT, raster.digest()), raster.pack())
        digests = tuple(raster.digest() for raster in inputs)
        brief = Brief("qwen-image-edit-plus", prompt, None, digests, count, SIZE, seed=7, knobs=knobs or {})
        draft = Draft(id=f"job-{next(_numbers)}", api="test", brief=brief, **more)
        return (await self.store.submit(TENANT, draft)).job.id

    async def job(self, job_id: str, seconds: float = 20.0) -> Job:
        """The job once it has ended, or as it stands when the time is up."""
        job = await self.store.wait(TENANT, job_id, seconds)
        assert job is not None
        return job

    def files(self) -> list[Path]:
        """The result files that lie in the folder."""
        return [path for path in files_below(self.root) if path.suffix == ".png"]

    async def charged(self) -> int:
        """Pictures charged in all."""
        account = await self.store.account(TENANT)
        return account.used if account is not None else 0

    async def audited(self) -> bool:
        """Whether every count of the auditor is 0; shows them when one is not."""
        counts = await self.store.audit()
        assert not any(counts.values()), counts
        return True


@asynccontextmanager
async def lease_place(
    folder: Path,
    *,
    clock: Clock | None = None,
    rules: Rules | None = None,
    finish: Callable[[Raster, Brief, str], bytes] = png,
    quiet: float = QUIET_SECONDS,
) -> AsyncIterator[Place]:
    """A place in `folder` for the length of a test."""
    clock = clock or RealClock()
    root = folder / "blobs"
    socket = address.new_socket()
    async with SqliteStore(folder / "danqing.sqlite3", clock, rules=rules) as store:
        blobs = FolderBlobs(root, folder / "secrets")
        desk = Desk(store, blobs, finish=finish, clock=clock, quiet=quiet)
        server = LeaseServer(desk)
        await server.start(socket)
        try:
            yield Place(store, blobs, desk, socket, root, clock)
        finally:
            await server.stop()
            address.close(folder, socket)


def raster(name: str, size: Size = SIZE) -> Raster:
    """A picture that the name decides."""
    return Raster(size, 3, hashlib.shake_256(name.encode()).digest(size.area * 3))
