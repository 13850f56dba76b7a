"""Events of a job over a real server and its worker: previews that are pictures, order, listeners, cancels."""

from __future__ import annotations

import base64
import io
import json
import signal
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.e2e.test_cancels import the_worker
from tests.e2e.test_task_restart import SYNTHESIS
from tests.support.served import GENERATION, Served, danqing, serve, until, write_profile
from tests.support.tiny import tiny_checkpoint

STEPS = 1000  # a second and more a picture, however idle the machine, so that there is something to watch
Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that makes previews, of pictures with many steps; the map that they need is fitted."""
    folder = tmp_path_factory.mktemp("shown")
    tiny_checkpoint(folder / "checkpoint")
    profile = write_profile(folder / "shown.toml", folder / "checkpoint", steps=STEPS)
    server = serve(folder / "data", profile, DANQING_ENGINE_PREVIEWS="true")
    until(lambda: list((folder / "data" / "previews").glob("*.safetensors")), 120.0)
    yield server
    assert server.stop() == 0


def submit(server: Served, *, count: int = 1) -> str:
    body = {
        "model": "wan2.2-t2i-flash",
        "input": {"prompt": "a star"},
        "parameters": {"n": count, "size": "512*512", "seed": 3},
    }
    status, told, _ = server.post(body, SYNTHESIS, **{"X-DashScope-Async": "enable"})
    assert status == 200, told
    return str(told["output"]["task_id"])


def listen(server: Served, job: str, *, stop_at: str | None = None, heard: Heard | None = None) -> Heard:
    """Every event until the stream ends, or until the first of a name; into `heard` as they come, if that is given."""
    heard = [] if heard is None else heard
    headers = {"Authorization": f"Bearer {server.key}"}
    with httpx.stream(
        "GET", f"{server.url}/danqing/v1/jobs/{job}/events", headers=headers, timeout=60.0
    ) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event:"):
                name = line.removeprefix("event:")
            elif line.startswith("data:"):
                heard.append((name, json.loads(line.removeprefix("data:"))))
                if name == stop_at:
                    break
    return heard


def names(heard: Heard) -> list[str]:
    return [name for name, _ in heard]


def test_a_job_is_seen_growing_to_its_end(shown: Served) -> None:
    heard = listen(shown, submit(shown, count=2))
    told = names(heard)
    assert told[-1] == "end"
    assert heard[-1][1]["state"] == "succeeded"
    assert told.index("started") < told.index("step") < told.index("preview") < told.index("image")
    assert told.count("image") == 2
    steps = [event["step"] for name, event in heard if name == "step"]
    assert steps == sorted(steps)
    previews = [event for name, event in heard if name == "preview"]
    assert {event["index"] for event in previews} == {0, 1}
    for event in previews:
        file = base64.b64decode(event["jpeg"])
        assert len(file) <= 10 * 1024
        picture = Image.open(io.BytesIO(file))
        assert (picture.format, picture.size) == ("JPEG", (32, 32))
    for _, image in [event for event in heard if event[0] == "image"]:
        with urllib.request.urlopen(image["url"], timeout=30) as answer:
            assert Image.open(io.BytesIO(answer.read())).size == (512, 512)


def test_the_first_preview_of_a_job_that_is_listened_to_from_the_queue_is_of_its_first_steps(
    shown: Served,
) -> None:
    worker = the_worker(shown)
    worker.send_signal(signal.SIGSTOP)
    taken, waiting = submit(shown), submit(shown)  # an open poll takes the first along
    heard: Heard = []
    thread = threading.Thread(target=lambda: listen(shown, waiting, heard=heard))
    thread.start()
    until(lambda: names(heard) == ["queued"])
    worker.send_signal(signal.SIGCONT)
    thread.join(60)
    first = next(event for name, event in heard if name == "preview")
    assert first["step"] <= 2
    assert listen(shown, taken)[-1][1]["state"] == "succeeded"


def test_two_listeners_hear_the_same_job_and_the_late_one_begins_with_what_is(shown: Served) -> None:
    job = submit(shown, count=3)
    early: Heard = []
    thread = threading.Thread(target=lambda: early.extend(listen(shown, job)))
    thread.start()
    seen = listen(
        shown, job, stop_at="preview"
    )  # leaves in the middle: small pictures of a job end all at once
    late = listen(shown, job)
    thread.join(60)
    assert names(early)[-1] == names(late)[-1] == "end"
    assert early[-1][1]["state"] == "succeeded"
    assert [image["index"] for image in late[-1][1]["images"]] == [0, 1, 2]
    assert names(late)[:2] == ["started", "step"]
    assert late[1][1]["step"] >= max(event["step"] for name, event in seen if name == "step")


def test_previews_change_no_picture(shown: Served) -> None:
    seen = listen(shown, submit(shown))
    assert "preview" in names(seen)
    unseen = submit(shown)
    until(lambda: shown.get(f"/danqing/v1/jobs/{unseen}")[1]["state"] == "succeeded", 60.0)
    links = [seen[-1][1]["images"][0]["url"], shown.get(f"/danqing/v1/jobs/{unseen}")[1]["images"][0]["url"]]
    pictures = []
    for link in links:
        with urllib.request.urlopen(link, timeout=30) as answer:
            pictures.append(Image.open(io.BytesIO(answer.read())).tobytes())
    assert pictures[0] == pictures[1]


def test_a_synchronous_call_is_listened_to_by_its_request_id_and_a_disconnect_ends_it(shown: Served) -> None:
    request_id = str(uuid.uuid4())
    content = [{"text": "a star"}]
    body = {
        "model": "qwen-image-2.0",
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": {"size": "512*512", "n": 4},
    }
    headers = {"Authorization": f"Bearer {shown.key}", "X-Request-ID": request_id}

    def call() -> None:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(shown.url + GENERATION, json=body, headers=headers, timeout=1.5)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: shown.get(f"/danqing/v1/jobs/{request_id}")[0] == 200)
    heard = listen(shown, request_id)
    thread.join(30)
    assert names(heard)[-1] == "end"
    assert heard[-1][1] == {"state": "cancelled", "images": []}


def test_another_tenant_hears_nothing(shown: Served) -> None:
    job = submit(shown)
    made = danqing("keys", "create", "other", "--tenant", "other", "--data", str(shown.data))
    assert made.returncode == 0, made.stderr
    for path in ("", "/events"):
        url = f"{shown.url}/danqing/v1/jobs/{job}{path}"
        refused = httpx.get(url, headers={"Authorization": f"Bearer {made.stdout.strip()}"}, timeout=30.0)
        assert refused.status_code == 404
        assert set(refused.json()) == {"code", "message", "request_id"}
    assert shown.get(f"/danqing/v1/jobs/{job}")[0] == 200
    listen(shown, job)


def test_a_server_that_stops_ends_its_streams(profile: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.toml"
    slow.write_text(
        profile.read_text(encoding="utf-8").replace("steps = 3", "steps = 100000"), encoding="utf-8"
    )
    server = serve(tmp_path / "data", slow)
    job = submit(server)
    heard: Heard = []
    thread = threading.Thread(target=lambda: heard.extend(listen(server, job)))
    thread.start()
    until(lambda: server.get(f"/danqing/v1/jobs/{job}")[1]["step"] > 0, 60.0)
    assert server.stop() == 0
    thread.join(10)
    assert not thread.is_alive()
    assert "step" in names(heard)
    assert "end" not in names(heard)


# -- on the command line


def test_watch_writes_lines_where_there_is_no_terminal_and_then_the_links(shown: Served) -> None:
    job = submit(shown, count=2)
    done = danqing("watch", job, "--data", str(shown.data), "--key", shown.key)
    assert done.returncode == 0, done.stderr
    links = done.stdout.split()
    assert len(links) == 2
    assert all("/results/" in link for link in links)
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("succeeded: exact, ")
    again = danqing("watch", job, "--data", str(shown.data), "--key", shown.key, "--json")
    assert again.stderr == ""
    told = json.loads(again.stdout)
    assert told["state"] == "succeeded"
    assert [image["index"] for image in told["images"]] == [0, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no-such-job",), "there is no job no-such-job for this key"),
        (("../../health",), "there is no job ../../health for this key"),
        (("x", "--server", "http://127.0.0.1:9"), "no answer"),
    ],
)
def test_watch_says_what_is_wrong(shown: Served, words: tuple[str, ...], said: str) -> None:
    done = danqing("watch", *words, "--data", str(shown.data), "--key", shown.key)
    assert done.returncode == 1
    assert said in done.stderr


def test_generate_tells_how_far_it_is_where_there_is_no_terminal(shown: Served, tmp_path: Path) -> None:
    words = ("generate", "a red star", "--size", "512*512", "-n", "4", "-o", str(tmp_path))
    words += ("--data", str(shown.data))
    done = danqing(*words, "--key", shown.key)
    assert done.returncode == 0, done.stderr
    assert f" of {4 * STEPS}" in done.stderr
    assert all(Path(line).is_file() for line in done.stdout.split())
