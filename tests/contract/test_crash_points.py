"""K1: the server dies by signal 9 at every commit point; what it had answered still stands (p1), nothing is charged
twice or wrongly (p3), and who asks again gets the same job and the same answer (p4, p5)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from danqing.core.job import Closing, State
from danqing.store.sqlite import CRASH_LABELS
from danqing.store.writer import POINTS
from tests.contract.stores import SQLITE
from tests.support.clock import VirtualClock
from tests.support.jobs import audited, draft, pictures

ROOT = Path(__file__).parents[2]
LABELS = [label for label in CRASH_LABELS if label != "key"]  # keys are made by hand and tell nobody anything
TIMES = {"submit": 3, "give_up": 1, "purge": 2}
"""At which pass a point kills: in the middle, where there is something before and after."""


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each point, in which a process has died there."""
    root = tmp_path_factory.mktemp("dead")
    points = [f"{label}.{point}={TIMES.get(label, 1)}" for label in LABELS for point in POINTS]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "tests.contract.crash_child", str(root), *points]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)
    return root


async def check(folder: Path, label: str) -> None:
    acks = [line.split() for line in (folder / "acks").read_text().splitlines()]
    submitted = [ack[1] for ack in acks if ack[0] == "submitted"]
    claimed = [ack for ack in acks if ack[0] == "claimed"]
    ended = {ack[1]: ack[2] for ack in acks if ack[0] == "ended"}
    clock = VirtualClock()
    async with SQLITE.open(folder, clock, boot="one") as store:
        assert await audited(store)
        if label == "purge":
            return  # a day has passed in the other process: what is left may go at any time
        for job_id in submitted:
            job = await store.get("ann", job_id)
            assert job is not None, f"{job_id} was acknowledged and is lost"
            order = draft(f"{job_id}-again", count=2, idempotency_key=job.idempotency_key, fingerprint="f")
            again = await store.submit("ann", order)
            assert (again.replayed, again.job.id) == (True, job_id)
        for name in (ack[1] for ack in acks if ack[0] == "uploaded"):
            assert await store.upload("ann", name) is not None, f"{name} was acknowledged and is lost"
        for job_id, end in ended.items():
            job = await store.get("ann", job_id)
            assert job is not None
            wanted = {"succeed": State.SUCCEEDED, "fail": State.FAILED, "cancel": State.CANCELLED}
            wanted["refuse"] = State.FAILED
            assert end not in wanted or job.state is wanted[end]
        for _, job_id, token, end in claimed:
            if end == "succeed":  # asked again, whether the answer was lost or the commit was
                assert await store.succeed(token, pictures(job_id, 2)) is Closing.DONE
                account = await store.account("ann")
                assert account is not None
                assert account.used == 2
        assert await audited(store)
        clock.advance(100_000.0)
        await store.sweep()
        assert await audited(store)
        account = await store.account("ann")
        assert account is not None
        assert account.held == 0


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("label", LABELS)
async def test_k1_nothing_acknowledged_is_lost_when_the_server_is_killed(
    label: str, point: str, dead: Path
) -> None:
    folder = dead / f"{label}.{point}"
    assert (folder / "signal").read_text() == str(int(signal.SIGKILL)), "the point was never reached"
    await check(folder, label)
