"""A server and its workers under a seeded storm of kills, pauses and stops; the auditor has the last word.

What was acknowledged is written down before anything else happens to the server; in the end every acknowledged job has
succeeded, is charged once, and its pictures are there. `make chaos` runs it longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from danqing.blobs.folder import FolderBlobs
from danqing.core.job import State
from danqing.lease import address
from danqing.store.sqlite import SqliteStore
from tests.support.chaos_server import python
from tests.support.clock import RealClock
from tests.support.lease_place import TENANT

WORKERS = 2
AWAY = (aiohttp.ClientError, OSError, TimeoutError, json.JSONDecodeError)


class Storm:
    """Keeps a server alive against itself."""

    def __init__(self, data: Path, dice: random.Random) -> None:
        self.data, self.dice = data, dice
        self.faults: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self.process: asyncio.subprocess.Process | None = None
        self.paused: set[int] = set()
        self.over = False

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *python("chaos_server", str(self.data), str(WORKERS))
        )

    async def ask(self, verb: str, **members: Any) -> dict[str, Any]:
        """An operator command; raises one of AWAY."""
        path = address.find(self.data)
        if path is None:
            raise OSError("no socket")
        connector = aiohttp.UnixConnector(str(path))
        timeout = aiohttp.ClientTimeout(total=5.0)
        async with (
            aiohttp.ClientSession("http://lease", connector=connector, timeout=timeout) as session,
            session.post(f"/{verb}", json=members) as answer,
        ):
            answer.raise_for_status()
            told: dict[str, Any] = await answer.json()
            return told

    async def submit(self, jobs: int) -> None:
        """Submit so many, each until it is acknowledged; the same id again is the same job."""
        for number in range(jobs):
            while True:
                with suppress(*AWAY):
                    told = await self.ask("submit", id=f"chaos-{number}", count=1 + number % 3, seed=number)
                    self.acknowledged.append(told["id"])
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(self.dice.uniform(0, 0.1))

    async def rage(self) -> None:
        """One fault after the other, until it is over."""
        while not self.over:
            await asyncio.sleep(self.dice.uniform(0.1, 0.8))
            fault = self.dice.choices(("kill", "pause", "term", "server", "restart"), (6, 3, 3, 2, 1))[0]
            with suppress(*AWAY):
                await getattr(self, fault)()
                self.faults[fault] += 1

    async def worker(self) -> int:
        workers = (await self.ask("look"))["workers"]
        if not workers:
            raise OSError("no worker right now")
        pid: int = self.dice.choice(workers)
        return pid

    async def kill(self) -> None:
        os.kill(await self.worker(), signal.SIGKILL)

    async def term(self) -> None:
        os.kill(await self.worker(), signal.SIGTERM)

    async def pause(self) -> None:
        pid = await self.worker()
        os.kill(pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(self.dice.uniform(0.5, 3.0), self.resume, pid)
        self.paused.add(pid)

    def resume(self, pid: int) -> None:
        self.paused.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def server(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        await self.start()

    async def restart(self) -> None:
        assert self.process is not None
        self.process.terminate()
        code = await self.process.wait()
        assert code in (0, -signal.SIGTERM), code  # the latter if it had not got to its handler yet
        await self.start()

    async def calm(self, seconds: float) -> None:
        """Until everything acknowledged has ended."""
        async with asyncio.timeout(seconds):
            while True:
                with suppress(*AWAY):
                    figures = (await self.ask("look"))["figures"]
                    if figures["queued"] + figures["running"] == 0:
                        return
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        for pid in list(self.paused):
            self.resume(pid)
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


async def judge(data: Path, acknowledged: list[str]) -> None:
    """Every promise, checked against the file and the folder that the storm left behind."""
    blobs = FolderBlobs(data / "blobs", data / "secrets")
    async with SqliteStore(data / "danqing.sqlite3", RealClock()) as store:
        pictures = 0
        for number, job_id in enumerate(acknowledged):
            job = await store.get(TENANT, job_id)
            assert job is not None, f"{job_id} was acknowledged and is lost"
            assert job.state is State.SUCCEEDED, f"{job_id} is {job.state}: {job.fault}"
            assert len(job.images) == 1 + number % 3
            for image in job.images:
                assert await blobs.read(image.key) is not None, f"{image.key} is missing"
            pictures += len(job.images)
        account = await store.account(TENANT)
        assert account is not None
        assert (account.used, account.held) == (pictures, 0)
        counts = await store.audit()
        assert not any(counts.values()), counts


async def test_k1_k2_k14_nothing_acknowledged_is_lost_doubled_or_charged_twice(
    tmp_path: Path, chaos_jobs: int, chaos_seed: int
) -> None:
    storm = Storm(tmp_path, random.Random(chaos_seed))
    await storm.start()
    try:
        async with asyncio.timeout(60.0 + chaos_jobs), asyncio.TaskGroup() as tasks:
            tasks.create_task(storm.rage())
            await storm.submit(chaos_jobs)
            storm.over = True
        await storm.calm(60.0 + chaos_jobs / 2)
    finally:
        await storm.stop()
    sys.stdout.write(f"{chaos_jobs} jobs, seed {chaos_seed}: {dict(storm.faults)}\n")
    assert len(set(storm.acknowledged)) == chaos_jobs
    await judge(tmp_path, storm.acknowledged)
