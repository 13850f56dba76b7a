"""The server as processes: what is killed comes back or leaves nothing behind."""

from __future__ import annotations

import base64
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.pixels.png import encode
from danqing.work.ends import UNREADY
from tests.support.served import Served, danqing, serve, until, write_profile
from tests.support.tiny import tiny_checkpoint

SLOW_STEPS = 1000  # a second and more a picture, however idle the machine


@pytest.fixture(scope="module")
def slow_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many steps, so that there is a middle to be killed in."""
    folder = tmp_path_factory.mktemp("slow")
    tiny_checkpoint(folder / "checkpoint")
    return write_profile(folder / "slow.toml", folder / "checkpoint", steps=SLOW_STEPS)


def workers(server: Served) -> list[psutil.Process]:
    family = psutil.Process(server.process.pid).children()
    return [child for child in family if "worker" in child.cmdline()]


def asked(text: str) -> dict[str, Any]:
    content = [{"text": text}]
    return {
        "model": "qwen-image-2.0",
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": {"size": "512*512", "seed": 1, "n": 2},
    }


def running(server: Served) -> bool:
    return bool(server.get("/health")[1]["jobs"]["running"])


def test_a_worker_killed_in_mid_step_costs_the_caller_nothing_but_time(
    slow_profile: Path, tmp_path: Path
) -> None:
    server = serve(tmp_path / "data", slow_profile)
    answers: list[tuple[int, dict[str, Any], dict[str, str]]] = []
    caller = threading.Thread(target=lambda: answers.append(server.post(asked("a star"))))
    caller.start()
    until(lambda: running(server))
    (worker,) = workers(server)
    worker.kill()
    caller.join(timeout=120)
    status, told, _ = answers[0]
    assert status == 200, told
    assert told["usage"]["image_count"] == 2
    figures = server.get("/health")[1]["jobs"]
    assert (figures["succeeded"], figures["failed"]) == (1, 0)
    assert workers(server)[0].pid != worker.pid
    assert server.stop() == 0


def test_a_checkpoint_that_cannot_be_used_is_told_in_one_line(slow_profile: Path, tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint"
    shutil.copytree(slow_profile.parent / "checkpoint", broken)
    weights = next((broken / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    profile = write_profile(tmp_path / "broken.toml", broken, steps=SLOW_STEPS)
    socket = str(tmp_path / "lease.sock")
    words = ["worker", "--socket", socket, "--profile", str(profile), "--data", str(tmp_path / "data")]
    with subprocess.Popen(
        [sys.executable, "-m", "danqing.cli", *words],
        stdin=subprocess.PIPE,  # open, as a server holds it
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stderr is not None
        assert worker.stderr.read().strip() == f"danqing worker: {weights} is no safetensors file"
        assert worker.wait() == UNREADY


def edited(server: Served, prompt: str) -> list[Raster]:
    """The pictures of an edit of one and the same input, as pixels: the files name their jobs."""
    noise = Raster(Size(64, 64), 3, random.Random(7).randbytes(64 * 64 * 3))
    content = [
        {"image": "data:image/png;base64," + base64.b64encode(encode(noise)).decode()},
        {"text": prompt},
    ]
    body = asked(prompt) | {
        "model": "qwen-image-edit-plus",
        "input": {"messages": [{"role": "user", "content": content}]},
    }
    status, told, _ = server.post(body)
    assert status == 200, told
    links = [choice["message"]["content"][0]["image"] for choice in told["output"]["choices"]]
    files = []
    for link in links:
        with urllib.request.urlopen(link, timeout=30) as answer:
            files.append(Image.open(io.BytesIO(answer.read())).convert("RGB"))
    return [Raster(Size(*file.size), 3, file.tobytes()) for file in files]


def test_a_worker_killed_with_what_it_remembers_makes_way_for_one_that_draws_the_same(
    slow_profile: Path, tmp_path: Path
) -> None:
    server = serve(tmp_path / "data", slow_profile)
    edited(server, "another word about it")  # from now on the input is remembered
    alone = edited(server, "make it night")
    again: list[list[Raster]] = []
    caller = threading.Thread(target=lambda: again.append(edited(server, "make it night")))
    caller.start()
    until(lambda: running(server))
    (worker,) = workers(server)
    worker.kill()
    caller.join(timeout=120)
    assert again == [alone]
    assert server.get("/health")[1]["jobs"]["succeeded"] == 3
    assert server.stop() == 0


def test_a_server_that_is_killed_takes_its_children_along_and_starts_again(
    slow_profile: Path, tmp_path: Path
) -> None:
    server = serve(tmp_path / "data", slow_profile)
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert len(children) >= 3
    server.stop(signal.SIGKILL)
    until(lambda: not [child for child in children if child.is_running() and child.status() != "zombie"])
    again = serve(tmp_path / "data", slow_profile)
    assert again.get("/health")[0] == 200
    assert again.stop() == 0


def test_a_stopped_server_leaves_no_socket_and_no_note(slow_profile: Path, tmp_path: Path) -> None:
    server = serve(tmp_path / "data", slow_profile)
    socket = Path((server.data / "lease.socket.path").read_text().strip())
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(server.post(asked("a star"))[0]))
    caller.start()
    until(lambda: running(server))
    assert server.stop() == 0
    caller.join(timeout=30)
    assert answers[0] in {200, 503}
    assert not socket.exists()
    assert not (server.data / "server.json").exists()
    assert not (server.data / "lease.socket.path").exists()
    assert danqing("keys", "list", "--data", str(server.data)).returncode == 0


def test_the_cli_starts_a_server_for_one_call_and_takes_it_away(profile: Path, tmp_path: Path) -> None:
    words = ("generate", "a star", "--size", "512*512", "-o", str(tmp_path), "--data", str(tmp_path / "data"))
    done = danqing(*words, DANQING_PROFILE=str(profile), DANQING_ENGINE_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_file()
    assert not (tmp_path / "data" / "server.json").exists()
    mine = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert [process.pid for process in mine if process.pid != os.getpid()] == []
