"""One process a data folder, and a refusal that says who."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from danqing.store import sqlite
from danqing.store.lock import OPERATOR, FolderHeld, lock
from danqing.store.sqlite import SqliteStore
from tests.support.clock import VirtualClock


def test_a_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    taken = lock(tmp_path / "data", "http://127.0.0.1:8000")
    with pytest.raises(FolderHeld) as refused:
        lock(tmp_path / "data")
    assert refused.value.holder is not None
    assert (refused.value.holder.pid, refused.value.holder.host) == (os.getpid(), socket.gethostname())
    for part in (str(tmp_path / "data"), str(os.getpid()), "http://127.0.0.1:8000", "since 20"):
        assert part in str(refused.value)
    taken.release()
    lock(tmp_path / "data").release()


def test_the_holder_can_say_more_of_itself_later(tmp_path: Path) -> None:
    taken = lock(tmp_path, "a rather long description to be replaced")
    taken.tell("http://[::1]:9")
    with pytest.raises(FolderHeld, match=r"http://\[::1\]:9, since"):
        lock(tmp_path)
    taken.release()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    taking = f"from danqing.store import lock; lock.lock(__import__('pathlib').Path({str(tmp_path)!r}))"
    code = f"{taking}; print(1, flush=True); input()"
    source = str(Path(__file__).parents[3] / "src")
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": source}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        with pytest.raises(FolderHeld, match=f"process {process.pid} on"):
            lock(tmp_path)
        process.send_signal(signal.SIGKILL)
    lock(tmp_path).release()


def test_a_holder_that_wrote_nothing_is_still_a_holder(tmp_path: Path) -> None:
    taken = lock(tmp_path)
    taken.path.write_text("not json")
    with pytest.raises(FolderHeld, match="another process"):
        lock(tmp_path)
    taken.release()


async def test_a_server_waits_for_an_operator_s_command(tmp_path: Path) -> None:
    taken = lock(tmp_path, OPERATOR)
    asyncio.get_running_loop().call_later(0.2, taken.release)
    async with await SqliteStore(tmp_path / "danqing.sqlite3", VirtualClock()).open("a server"):
        pass


async def test_an_operator_s_command_that_does_not_end_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE", 0.1)
    taken = lock(tmp_path, OPERATOR)
    with pytest.raises(FolderHeld, match="an operator command"):
        await SqliteStore(tmp_path / "danqing.sqlite3", VirtualClock()).open("a server")
    taken.release()


async def test_two_stores_do_not_share_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "danqing.sqlite3"
    async with await SqliteStore(path, VirtualClock()).open("the first") as first:
        first.tell("the first, on port 8000")
        with pytest.raises(FolderHeld, match="the first, on port 8000"):
            await SqliteStore(path, VirtualClock()).open()
        assert await first.figures()
    async with await SqliteStore(path, VirtualClock()).open():
        pass
