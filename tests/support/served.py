"""A real server for end-to-end tests: `danqing serve` as a user starts it, on a tiny random checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENERATION = "/api/v1/services/aigc/multimodal-generation/generation"
START_SECONDS = 240.0

PROFILE = """
text = "random weights: pictures of nothing, in the right shapes"
[checkpoints.tiny]
source = "{folder}"
relation = "miniature"
licence = "none"
rewriter = "{rewriter}"
[checkpoints.tiny.native]
canvas = "bucket"
buckets = [[64, 64], [96, 64], [64, 96]]
[models."*"]
checkpoint = "tiny"
steps = {steps}
"""


def write_profile(path: Path, checkpoint: Path, *, steps: int = 3, rewriter: str = "off") -> Path:
    """A profile that stands a checkpoint folder behind every API name; random weights write nothing worth drawing, so
    prompts are used as given unless asked otherwise."""
    text = PROFILE.format(folder=checkpoint, steps=steps, rewriter=rewriter)
    path.write_text(text, encoding="utf-8")
    return path


def danqing(*words: str, timeout: float = 300.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command of the command line to its end."""
    command = [sys.executable, "-m", "danqing.cli", *words]
    found = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=found, check=False)


@dataclass(slots=True)
class Served:
    """A running server: its process, URL, data folder and a key."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    key: str

    def post(
        self, body: Any, path: str = GENERATION, **headers: str
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, JSON and headers of one POST."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers}
        return self._open(urllib.request.Request(self.url + path, data=sent, headers=found))

    def get(self, path: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, JSON and headers of one GET with the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return self._open(urllib.request.Request(self.url + path, headers=headers))

    def _open(self, request: urllib.request.Request) -> tuple[int, dict[str, Any], dict[str, str]]:
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer), {k.lower(): v for k, v in answer.headers.items()}
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code, json.load(fault), {k.lower(): v for k, v in fault.headers.items()}

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def serve(data: Path, profile: Path, **environment: str) -> Served:
    """Start a server on a free port and wait until it is ready."""
    command = [sys.executable, "-m", "danqing.cli", "serve", "--port", "0", "--data", str(data)]
    quiet = {
        "DANQING_ENGINE_THREADS": "1",
        "DANQING_ENGINE_PREVIEWS": "false",
        "DANQING_LOG_LEVEL": "warning",
    }
    found = {**os.environ, **quiet, **environment}
    log = (data.parent / f"{data.name}.log").open("w")
    with log:
        process = subprocess.Popen(
            [*command, "--profile", str(profile)], stdout=subprocess.PIPE, stderr=log, text=True, env=found
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "http" in line, (data.parent / f"{data.name}.log").read_text()
    url = next(word for word in line.split() if word.startswith("http"))
    made = danqing("keys", "create", "test", "--data", str(data))
    assert made.returncode == 0, made.stderr
    return Served(process, url, data, made.stdout.strip())


def until(holds: Any, seconds: float = 30.0) -> Any:
    """Wait for a real process to get somewhere; answers what `holds` answered."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")
