"""Who gets what when a caller leaves or changes its mind: a real server, a real worker, real sockets."""

from __future__ import annotations

import http.client
import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.served import GENERATION, Served, serve, until, write_profile
from tests.support.tiny import tiny_checkpoint

SYNTHESIS = "/api/v1/services/aigc/text2image/image-synthesis"
STEPS = 1000
"""A second and more a picture, however idle the machine: whoever acts in the middle finds it there."""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    tiny_checkpoint(folder / "checkpoint")
    return write_profile(folder / "long.toml", folder / "checkpoint", steps=STEPS)


@pytest.fixture
def server(profile: Path, tmp_path: Path) -> Iterator[Served]:
    made = serve(tmp_path / "data", profile, DANQING_LOG_LEVEL="info", DANQING_LOG_FORMAT="json")
    yield made
    if made.process.poll() is None:
        assert made.stop() == 0


def body(count: int = 2) -> bytes:
    asked = {
        "model": "qwen-image-2.0",
        "input": {"messages": [{"role": "user", "content": [{"text": "a star"}]}]},
        "parameters": {"size": "512*512", "seed": 1, "n": count},
    }
    return json.dumps(asked).encode()


class Caller:
    """A client that sends its call and can leave before the answer."""

    def __init__(
        self, server: Served, path: str = GENERATION, sent: bytes | None = None, **headers: str
    ) -> None:
        place = urlsplit(server.url)
        assert place.hostname is not None
        self.line = http.client.HTTPConnection(place.hostname, place.port, timeout=120)
        found = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json", **headers}
        self.line.request("POST", path, sent if sent is not None else body(), found)

    def leave(self) -> None:
        self.line.close()

    def answer(self) -> tuple[int, dict[str, Any]]:
        answer = self.line.getresponse()
        told = json.loads(answer.read())
        self.line.close()
        return answer.status, told


def jobs(server: Served) -> dict[str, int]:
    told: dict[str, int] = server.get("/health")[1]["jobs"]
    return told


def begun(server: Served) -> bool:
    """Whether the one running job is in the middle of its steps."""
    found = rows(server, "SELECT step FROM job WHERE state = 'running'")
    return bool(found) and found[0][0] >= 2


def rows(server: Served, statement: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{server.data / 'danqing.sqlite3'}?mode=ro", uri=True) as reader:
        return reader.execute(statement).fetchall()


def charged(server: Served) -> tuple[int, int]:
    """Pictures charged, and pictures held."""
    (used, held), *_ = rows(server, "SELECT used, held FROM account")
    (images,), *_ = rows(server, "SELECT coalesce(sum(images), 0) FROM charge")
    assert used == images
    return used, held


def lines(server: Served, event: str) -> list[dict[str, Any]]:
    written = (server.data.parent / f"{server.data.name}.log").read_text().splitlines()
    told = [json.loads(line) for line in written if line.startswith("{")]
    return [line for line in told if line.get("event") == event]


def the_worker(server: Served) -> psutil.Process:
    (found,) = [
        child for child in psutil.Process(server.process.pid).children() if "worker" in child.cmdline()
    ]
    return found


def test_k10_a_caller_that_leaves_stops_its_running_job_within_a_step(server: Served) -> None:
    caller = Caller(server)
    until(lambda: begun(server))
    caller.leave()
    (dropped,) = until(lambda: lines(server, "a work was dropped"))
    assert dropped["units_after"] <= 1
    assert jobs(server)["cancelled"] == 1
    assert charged(server) == (0, 0)
    status, told = Caller(server, sent=body(1)).answer()  # and the worker is free for the next
    assert (status, told["usage"]["image_count"]) == (200, 1)
    assert charged(server) == (1, 0)


def test_k10_a_caller_that_leaves_a_stream_stops_its_job_too(server: Served) -> None:
    caller = Caller(server, **{"X-DashScope-SSE": "enable"})
    until(lambda: begun(server))
    caller.leave()
    until(lambda: lines(server, "a work was dropped"))
    assert charged(server) == (0, 0)


def test_k10_a_caller_that_leaves_while_queued_takes_its_job_along(server: Served) -> None:
    worker = the_worker(server)
    worker.send_signal(signal.SIGSTOP)
    first, second = Caller(server), Caller(server)
    # an open poll takes one along before it is noticed that nobody reads it
    until(lambda: jobs(server)["queued"] + jobs(server)["running"] == 2)
    first.leave()
    second.leave()
    until(lambda: jobs(server)["cancelled"] == 2)
    worker.send_signal(signal.SIGCONT)
    assert Caller(server, sent=body(1)).answer()[0] == 200
    assert rows(server, "SELECT count(*) FROM job WHERE state = 'cancelled' AND step > 0") == [(0,)]
    assert charged(server) == (1, 0)


def test_k10_with_an_idempotency_key_the_job_goes_on_and_its_caller_can_come_back(server: Served) -> None:
    caller = Caller(server, **{"Idempotency-Key": "mine"})
    until(lambda: begun(server))
    worker = the_worker(server)
    worker.send_signal(signal.SIGSTOP)  # it cannot end in the meantime
    caller.leave()
    time.sleep(0.3)
    assert jobs(server)["running"] == 1
    worker.send_signal(signal.SIGCONT)
    status, told = Caller(server, **{"Idempotency-Key": "mine"}).answer()
    assert (status, told["usage"]["image_count"]) == (200, 2)
    assert jobs(server)["cancelled"] == 0
    assert rows(server, "SELECT count(*) FROM job") == [(1,)]
    assert charged(server) == (2, 0)


def task(server: Served) -> str:
    """A task whose caller hangs up as soon as it has been told its name."""
    asked = {
        "model": "wan2.2-t2i-flash",
        "input": {"prompt": "a star"},
        "parameters": {"n": 1, "size": "512*512"},
    }
    caller = Caller(server, SYNTHESIS, json.dumps(asked).encode(), **{"X-DashScope-Async": "enable"})
    status, told = caller.answer()
    assert status == 200, told
    return str(told["output"]["task_id"])


def status_of(server: Served, name: str) -> str:
    return str(server.get(f"/api/v1/tasks/{name}")[1]["output"]["task_status"])


def test_a_task_goes_on_without_its_caller_and_is_cancelled_only_while_pending(server: Served) -> None:
    running = task(server)
    until(lambda: begun(server))
    status, told, _ = server.post({}, f"/api/v1/tasks/{running}/cancel")
    assert (status, told["code"]) == (400, "UnsupportedOperation")
    worker = the_worker(server)
    worker.send_signal(signal.SIGSTOP)
    waiting = [task(server) for _ in range(2)]
    pending = until(lambda: [name for name in waiting if status_of(server, name) == "PENDING"])[-1]
    status, told, _ = server.post({}, f"/api/v1/tasks/{pending}/cancel")
    assert (status, list(told)) == (200, ["request_id"])
    assert status_of(server, pending) == "CANCELED"
    worker.send_signal(signal.SIGCONT)
    left = [running, *(name for name in waiting if name != pending)]
    for name in left:
        until(lambda name=name: status_of(server, name) == "SUCCEEDED", 90.0)
    assert status_of(server, pending) == "CANCELED"
    assert charged(server) == (len(left), 0)


def test_callers_of_a_stopping_server_are_told_and_their_jobs_follow_the_same_rule(
    profile: Path, tmp_path: Path
) -> None:
    server = serve(tmp_path / "data", profile, DANQING_SERVER_STOP_SECONDS="0.2")
    left, kept = Caller(server), Caller(server, **{"Idempotency-Key": "mine"})
    until(lambda: jobs(server)["running"] == 2)
    assert server.stop() == 0
    assert {left.answer()[0], kept.answer()[0]} == {503}
    again = serve(server.data, profile)
    again.key = server.key
    assert rows(again, "SELECT state FROM job WHERE idem_key IS NULL") == [("cancelled",)]
    assert Caller(again, **{"Idempotency-Key": "mine"}).answer()[0] == 200
    assert charged(again) == (2, 0)
    assert again.stop() == 0
