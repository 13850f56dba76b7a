from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from danqing.lease.desk import Vital
from danqing.work import supervise
from danqing.work.ends import UNREADY
from danqing.work.supervise import Backoff, Phase, Standing, Supervisor, stuck
from tests.support.clock import RealClock, VirtualClock
from tests.support.eventually import eventually
from tests.support.lease_place import HELLO

OBEDIENT = "import sys; sys.stdin.read()"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
HEALTHY = Vital(HELLO, silent=1.0, stuck=1.0, holding=1, unit=1.0)


class FakeDesk:
    """Notes who was buried; says of every worker what the test says."""

    def __init__(self) -> None:
        self.sign: Vital | None = None
        self.buried: list[tuple[str, bool]] = []

    def vital(self, worker: str) -> Vital | None:
        return self.sign

    async def bury(self, worker: str, *, crashed: bool) -> int:
        self.buried.append((worker, crashed))
        return 0


@asynccontextmanager
async def supervised(desk: FakeDesk, program: str) -> AsyncIterator[Supervisor]:
    def command(name: str) -> Sequence[str]:
        return [sys.executable, "-S", "-c", program, name] if program else ["/nowhere/worker", name]

    supervisor = Supervisor({"cpu": command}, desk, clock=RealClock())
    supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


def only(supervisor: Supervisor) -> Standing:
    [standing] = supervisor.standing()
    return standing


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_pause_doubles_up_to_half_a_minute_and_a_healthy_minute_starts_over() -> None:
    backoff = Backoff()
    assert [backoff.after(1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [backoff.after(60.0), backoff.after(59.0)] == [0.5, 1]


@pytest.mark.parametrize(
    ("vital", "awake", "reason"),
    [
        (HEALTHY, 999.0, None),
        (Vital(HELLO, 1.0, 61.0, 1, 1.0), 999.0, "no new step for 60 s"),
        (Vital(HELLO, 1.0, 60.0, 1, 1.0), 999.0, None),
        (Vital(HELLO, 1.0, 299.0, 1, 30.0), 999.0, None),
        (Vital(HELLO, 1.0, 301.0, 1, 30.0), 999.0, "no new step for 300 s"),
        (Vital(HELLO, 1.0, 9999.0, 0, 0.0), 999.0, None),
        (Vital(HELLO, 61.0, 0.0, 0, 0.0), 999.0, "not heard of for 60 s"),
        (Vital(HELLO, 500.0, 500.0, 1, 1.0), 5.0, None),
    ],
)
def test_who_gets_nowhere_or_is_not_heard_of_is_stuck(vital: Vital, awake: float, reason: str | None) -> None:
    assert stuck(vital, awake) == reason


async def test_a_worker_is_starting_until_it_calls_and_stopped_when_its_pipe_closes() -> None:
    desk = FakeDesk()
    async with supervised(desk, OBEDIENT) as supervisor:
        await eventually(lambda: only(supervisor).pid)
        assert only(supervisor).phase is Phase.STARTING
        desk.sign = HEALTHY
        assert (only(supervisor).phase, only(supervisor).hello) == (Phase.READY, HELLO)
        pid = only(supervisor).pid
        assert pid is not None
    assert only(supervisor).phase is Phase.STOPPED
    assert not alive(pid)
    assert [crashed for _, crashed in desk.buried] == [False]


async def test_a_crashed_worker_is_buried_and_started_again_under_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervise, "FIRST_PAUSE", 0.01)
    desk = FakeDesk()
    async with supervised(desk, "raise SystemExit(3)") as supervisor:
        await eventually(lambda: len(desk.buried) >= 3)
        assert only(supervisor).restarts >= 2
        assert only(supervisor).reason == "ended with 3"
    names = [name for name, _ in desk.buried[:3]]
    assert len(set(names)) == 3
    assert [crashed for _, crashed in desk.buried[:3]] == [True] * 3


async def test_a_worker_that_ends_cleanly_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_PAUSE", 0.01)
    desk = FakeDesk()
    async with supervised(desk, "pass"):
        await eventually(lambda: desk.buried)
    assert desk.buried[0][1] is False


async def test_what_a_person_has_to_mend_is_not_tried_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_PAUSE", 0.01)
    desk = FakeDesk()
    async with supervised(desk, f"raise SystemExit({UNREADY})") as supervisor:
        await eventually(lambda: only(supervisor).phase is Phase.BACKING_OFF)
        await asyncio.sleep(0.2)
        assert only(supervisor).restarts == 1
        assert "the log says why" in (only(supervisor).reason or "")


async def test_between_two_lives_a_worker_is_backing_off() -> None:
    desk = FakeDesk()
    async with supervised(desk, "") as supervisor:
        await eventually(lambda: only(supervisor).phase is Phase.BACKING_OFF)
        assert "could not be started" in (only(supervisor).reason or "")
        await asyncio.wait_for(supervisor.stop(), 0.3)  # the pause is cut short
    assert desk.buried[0][1] is True


async def test_a_stuck_worker_is_killed_and_that_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(supervise, "STUCK_SECONDS", 0.1)
    desk = FakeDesk()
    async with supervised(desk, DEAF) as supervisor:
        desk.sign = Vital(HELLO, 0.0, 500.0, 1, 0.0)
        await eventually(lambda: desk.buried)
        desk.sign = None
        await eventually(lambda: only(supervisor).reason)
        assert only(supervisor).reason == "no new step for 0 s"
        monkeypatch.setattr(supervise, "STOP_SECONDS", 0.1)
    assert desk.buried[0][1] is True


async def test_a_worker_that_called_and_was_forgotten_is_not_taken_for_one_that_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervise, "LOOK_EVERY", 0.02)
    desk = FakeDesk()
    async with supervised(desk, OBEDIENT) as supervisor:
        await eventually(lambda: only(supervisor).pid)
        await asyncio.sleep(0.1)
        assert desk.buried == []
        desk.sign = HEALTHY
        await asyncio.sleep(0.1)
        desk.sign = None
        await eventually(lambda: desk.buried)
        assert only(supervisor).reason == "not heard of for 60 s"


async def test_a_worker_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "STOP_SECONDS", 0.2)
    desk = FakeDesk()
    async with supervised(desk, DEAF) as supervisor:
        await eventually(lambda: only(supervisor).pid)
        await asyncio.sleep(0.2)  # until it has made itself deaf
        pid = only(supervisor).pid
        assert pid is not None
    assert not alive(pid)
    assert [crashed for _, crashed in desk.buried] == [False]


async def test_nobody_is_blamed_for_a_silence_in_which_the_server_itself_was_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervise, "LOOK_EVERY", 0.02)
    desk, clock = FakeDesk(), VirtualClock()
    supervisor = Supervisor({"cpu": lambda name: [sys.executable, "-S", "-c", OBEDIENT]}, desk, clock=clock)
    supervisor.start()
    await eventually(lambda: only(supervisor).pid)
    await asyncio.sleep(0.1)  # it has looked
    desk.sign = Vital(HELLO, silent=500.0, stuck=500.0, holding=1, unit=0.0)
    clock.advance(500.0)
    await asyncio.sleep(0.2)
    assert desk.buried == []
    for _ in range(7):  # now it listens, and still hears nothing
        clock.advance(9.0)
        await asyncio.sleep(0.05)
    await eventually(lambda: desk.buried)
    await supervisor.stop()


async def test_each_device_has_a_worker_of_its_own_and_one_that_dies_does_not_touch_the_others() -> None:
    def command(name: str) -> Sequence[str]:
        return [sys.executable, "-S", "-c", OBEDIENT, name]

    desk = FakeDesk()
    supervisor = Supervisor({"gpu0": command, "gpu1": command}, desk, clock=RealClock())
    supervisor.start()
    try:
        await eventually(lambda: all(one.pid is not None for one in supervisor.standing()))
        first, second = (one.pid for one in supervisor.standing())
        assert first is not None
        assert second is not None
        os.kill(first, 9)
        await eventually(lambda: supervisor.standing()[0].restarts == 1)
        assert [name.rpartition("-")[0] for name, _ in desk.buried] == ["gpu0"]
        assert supervisor.standing()[1].pid == second
        assert alive(second)
    finally:
        await supervisor.stop()
    assert not alive(second)
