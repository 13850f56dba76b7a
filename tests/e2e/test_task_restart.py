"""Tasks over a server that is killed: what was promised is kept by the next one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.support.served import Served, serve, until

SYNTHESIS = "/api/v1/services/aigc/text2image/image-synthesis"


def submit(server: Served, prompt: str) -> str:
    body = {
        "model": "wan2.2-t2i-flash",
        "input": {"prompt": prompt},
        "parameters": {"n": 1, "size": "512*512"},
    }
    status, told, _ = server.post(body, SYNTHESIS, **{"X-DashScope-Async": "enable"})
    assert status == 200, told
    return str(told["output"]["task_id"])


def output(server: Served, task: str) -> dict[str, Any]:
    status, told, _ = server.get(f"/api/v1/tasks/{task}")
    assert status == 200, told
    return dict(told["output"])


def ended(server: Served, task: str) -> dict[str, Any] | None:
    seen = output(server, task)
    return seen if seen["task_status"] in {"SUCCEEDED", "FAILED"} else None


def test_tasks_survive_a_server_that_is_killed(profile: Path, tmp_path: Path) -> None:
    server = serve(tmp_path / "data", profile)
    first = submit(server, "a star")
    done = until(lambda: ended(server, first), 60.0)
    assert done["task_status"] == "SUCCEEDED"
    others = [submit(server, f"star number {number}") for number in range(6)]
    server.stop(signal.SIGKILL)
    again = serve(tmp_path / "data", profile)
    again.key = server.key
    assert output(again, first)["submit_time"] == done["submit_time"]
    for task in others:
        assert until(lambda task=task: ended(again, task), 60.0)["task_status"] == "SUCCEEDED"
    status, told, _ = again.get("/api/v1/tasks/?status=SUCCEEDED")
    assert (status, told["total"]) == (200, 7)
    assert again.stop() == 0
