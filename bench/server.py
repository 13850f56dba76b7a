"""A real server for a measurement: `danqing serve` as a user starts it, on a free port and a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

GENERATION = "/api/v1/services/aigc/multimodal-generation/generation"


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its URL, a key, its process id, and the seconds from exec to the first 200 of /health."""

    url: str
    key: str
    pid: int
    ready_seconds: float

    def call(self, body: dict[str, Any]) -> tuple[dict[str, Any], float, float]:
        """One synchronous call: the answer, the client's wall seconds, and the seconds from a worker's claim to the
        last stored byte of PNG (`Server-Timing: work`)."""
        sent = json.dumps(body, ensure_ascii=False).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + GENERATION, data=sent, headers=headers)
        begun = time.perf_counter()
        with urllib.request.urlopen(request, timeout=300) as answer:
            told = json.load(answer)
            wall = time.perf_counter() - begun
            timing = answer.headers["Server-Timing"]
        return told, wall, float(timing.split("work;dur=")[1].split(",")[0]) / 1000


@contextmanager
def serving(
    *,
    threads: int = 1,
    starts: int = 2,
    settings: Mapping[str, str] | None = None,
    log: IO[str] | None = None,
) -> Iterator[Served]:
    """Start the server `starts` times (the first start writes caches) and measure the last start. `settings` are those
    of the environment; `log` takes what the processes write to standard error."""
    with tempfile.TemporaryDirectory(prefix="danqing-bench-") as folder:
        data = Path(folder)
        for left in range(starts - 1, -1, -1):
            process, url, seconds = _start(data, threads, settings or {}, log)
            if left:
                _wait_for_previews(data)
                _stop(process)
        try:
            made = [sys.executable, "-m", "danqing.cli", "keys", "create", "bench", "--data", str(data)]
            key = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
            yield Served(url, key, process.pid, seconds)
        finally:
            _stop(process)


def _start(
    data: Path, threads: int, settings: Mapping[str, str], log: IO[str] | None
) -> tuple[subprocess.Popen[str], str, float]:
    usual = {"DANQING_ENGINE_THREADS": str(threads), "DANQING_LOG_LEVEL": "warning"}
    environment = {**os.environ, **usual, **settings}
    command = [sys.executable, "-m", "danqing.cli", "serve", "--port", "0", "--data", str(data)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    if "http" not in line:
        raise RuntimeError(f"the server did not start: {line!r}")
    url = next(word for word in line.split() if word.startswith("http")).rstrip("/.,")
    while True:
        try:
            with urllib.request.urlopen(url + "/health", timeout=5) as answer:
                if answer.status == 200:
                    return process, url, time.perf_counter() - begun
        except OSError:
            time.sleep(0.02)


def _wait_for_previews(data: Path) -> None:
    """What a worker prepares once in the life of a data folder, while it has nothing else to do."""
    deadline = time.monotonic() + 120
    while not any((data / "previews").glob("*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.1)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
