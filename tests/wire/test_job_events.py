"""The event stream of a job: what is told in which order, to whom, and when it ends."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from danqing.core.blobkeys import result_key
from danqing.core.errors import EngineFailed
from danqing.core.job import Image, State
from danqing.core.raster import Size
from danqing.lease.messages import Outcome, Shown
from danqing.wire.http import build
from danqing.wire.native import jobs
from tests.wire import house as houses
from tests.wire.house import House
from tests.wire.test_behaviour import Caller, waiting_caller

REQUEST = "00000000-0000-4000-8000-000000000001"
PATIENCE = 30.0
"""Seconds: a busy machine is no fault."""
SYNTHESIS = "/api/v1/services/aigc/text2image/image-synthesis"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, decoders=0) as opened:
        yield opened


class Listener(Caller):
    """Listens to a job's events on the bare application."""

    def __init__(self, house: House, job_id: str, key: str | None = None) -> None:
        super().__init__(build(house.desk), key or house.key)
        path = f"/danqing/v1/jobs/{job_id}/events"
        self.scope |= {"method": "GET", "path": path, "raw_path": path.encode()}
        self.task = self.call()

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Names and objects, comments left out."""
        text = b"".join(message.get("body", b"") for message in self.sent[1:]).decode()
        blocks = [block.split("\n") for block in text.split("\n\n") if block and not block.startswith(":")]
        assert [block[0] for block in blocks] == [f"id:{number + 1}" for number in range(len(blocks))]
        return [
            (name.removeprefix("event:"), json.loads(data.removeprefix("data:"))) for _, name, data in blocks
        ]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 (what a client sees, no event)
                await asyncio.sleep(0.005)

    async def hears(self, name: str, times: int = 1) -> None:
        await self.until(lambda: self.names.count(name) >= times)

    async def end(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.task


async def task_id(house: House, key: str | None = None) -> str:
    """An asynchronous task that no worker takes up."""
    await house.deed("worker stops")
    body = {
        "model": "wan2.2-t2i-flash",
        "input": {"prompt": "a star"},
        "parameters": {"n": 2, "size": "512*512"},
    }
    headers = {"Authorization": f"Bearer {key or house.key}", "X-DashScope-Async": "enable"}
    answer = await house.client.post(SYNTHESIS, json=body, headers=headers)
    return str(answer.json()["output"]["task_id"])


def shown(index: int, step: int, shade: int = 128) -> Shown:
    file = io.BytesIO()
    Pillow.new("RGB", (16, 16), (shade, shade, shade)).save(file, "JPEG")
    return Shown.of(index, step, 4, file.getvalue())


async def claimed(house: House, job: str) -> str:
    """A worker has the job; its token."""
    async with asyncio.timeout(PATIENCE):
        while not (leases := (await house.store.news("worker-9", room=1, seconds=1)).leases):
            pass
    (lease,) = leases
    assert lease.job_id == job
    house.desk.board.claimed(job)
    return lease.token


def picture(job: str, place: int) -> Image:
    return Image(result_key(job, place, "20260101", f"{place:032x}"), Size(512, 512), "0" * 64)


async def test_a_listener_hears_a_job_from_the_queue_to_its_end(house: House) -> None:
    job, board = await task_id(house), house.desk.board
    listener = Listener(house, job)
    await listener.hears("queued")
    assert listener.status == 200
    assert listener.events[0][1] == {"position": 1, "eta": None}
    token = await claimed(house, job)
    await listener.hears("started")
    board.see(job, 1, 8, 7.5)
    board.glimpse(job, shown(0, 1))
    await listener.hears("preview")
    board.see(job, 4, 8, 4.0)
    board.stored(job, 1)
    board.show(job, 0, picture(job, 0))
    await listener.hears("image")
    board.show(job, 1, picture(job, 1))
    await listener.hears("image", 2)
    await house.store.succeed(token, [picture(job, 0), picture(job, 1)])
    board.ended(job, Outcome.SUCCEEDED, seconds=1.0, wall=1.0)
    await listener.end()
    assert listener.names == ["queued", "started", "step", "preview", "step", "image", "image", "end"]
    events = dict(listener.events)
    assert listener.events[2][1] == {"step": 1, "steps": 8, "eta": 7.5}
    preview = events["preview"]
    assert (preview["index"], preview["step"], preview["steps"]) == (0, 1, 4)
    assert Pillow.open(io.BytesIO(base64.b64decode(preview["jpeg"]))).size == (16, 16)
    assert events["end"]["state"] == "succeeded"
    assert [image["index"] for image in events["end"]["images"]] == [0, 1]
    assert all(image["url"].startswith("http://testserver/results/") for image in events["end"]["images"])
    assert not board.watched(job)


async def test_a_late_listener_begins_with_what_is(house: House) -> None:
    job, board = await task_id(house), house.desk.board
    first = Listener(house, job)
    await first.hears("queued")
    await claimed(house, job)
    board.see(job, 3, 8, 5.0)
    board.glimpse(job, shown(1, 3))
    board.show(job, 0, picture(job, 0))
    await first.hears("image")
    late = Listener(house, job)
    await late.hears("image")
    assert late.names == ["started", "step", "preview", "image"]
    assert late.events[1][1]["step"] == 3
    for listener in (first, late):
        listener.leave()
        await listener.end()
    assert not board.watched(job)


async def test_a_job_that_has_ended_is_told_at_once(house: House) -> None:
    job = await task_id(house)
    token = await claimed(house, job)
    await house.store.fail(token, EngineFailed("The picture could not be made."))
    listener = Listener(house, job)
    await listener.end()
    assert listener.names == ["end"]
    told = listener.events[0][1]
    assert told == {
        "state": "failed",
        "images": [],
        "code": "EngineFailed",
        "message": "The picture could not be made.",
    }


@pytest.mark.parametrize("running", [False, True])
async def test_a_cancel_ends_the_stream(house: House, running: bool) -> None:
    job = await task_id(house)
    listener = Listener(house, job)
    await listener.hears("queued")
    if running:
        await claimed(house, job)
        await listener.hears("started")
    await house.store.cancel("acme", job)
    await listener.end()
    assert listener.names[-1] == "end"
    assert listener.events[-1][1] == {"state": "cancelled", "images": []}


async def test_an_attempt_that_was_lost_begins_anew(house: House) -> None:
    job, board = await task_id(house), house.desk.board
    listener = Listener(house, job)
    await listener.hears("queued")
    token = await claimed(house, job)
    board.see(job, 3, 8, 5.0)
    board.glimpse(job, shown(0, 3))
    await listener.hears("preview")
    await house.store.release(token)
    board.ended(job, Outcome.RELEASED, seconds=0.0, wall=0.0)
    await listener.hears("queued", 2)
    await claimed(house, job)
    board.see(job, 1, 8, 7.0)
    await listener.hears("step", 2)
    assert listener.names == ["queued", "started", "step", "preview", "queued", "started", "step"]
    listener.leave()
    await listener.end()


async def test_the_place_in_the_queue_moves(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "QUEUE_SECONDS", 0.02)
    before, mine = await task_id(house), await task_id(house)
    listener = Listener(house, mine)
    await listener.until(lambda: ("queued", {"position": 2, "eta": None}) in listener.events)
    await house.store.cancel("acme", before)
    await listener.until(lambda: listener.events[-1] == ("queued", {"position": 1, "eta": None}))
    listener.leave()
    await listener.end()


@pytest.mark.parametrize("whose", ["foreign", "unknown"])
async def test_somebody_else_s_job_is_as_unknown_as_one_that_never_was(house: House, whose: str) -> None:
    job = await task_id(house) if whose == "foreign" else "0" * 32
    key = house.others["foreign"] if whose == "foreign" else house.key
    for path in (f"/danqing/v1/jobs/{job}/events", f"/danqing/v1/jobs/{job}"):
        answer = await house.client.get(path, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 404
        assert set(answer.json()) == {"code", "message", "request_id"}
        assert (await house.client.get(path)).status_code == 401


async def test_a_synchronous_call_is_heard_by_its_request_id(house: House) -> None:
    caller, call = await waiting_caller(house, x_request_id=REQUEST)
    listener = Listener(house, REQUEST)
    await listener.hears("queued")
    other = Listener(house, REQUEST, house.others["foreign"])
    await other.end()
    assert other.status == 404
    await house.deed("worker works")
    await call
    await listener.end()
    assert listener.names[-1] == "end"
    (image,) = listener.events[-1][1]["images"]
    content = caller.body["output"]["choices"][0]["message"]["content"]
    assert image["url"].split("?")[0] == content[0]["image"].split("?")[0]


async def test_a_listener_that_leaves_cancels_nothing(house: House) -> None:
    job = await task_id(house)
    listener = Listener(house, job)
    await listener.hears("queued")
    listener.leave()
    await listener.end()
    found = await house.store.get("acme", job)
    assert found is not None
    assert found.state in (State.ACCEPTED, State.QUEUED)


async def test_a_listener_that_reads_slowly_hears_the_newest_and_nothing_is_kept_for_it(house: House) -> None:
    job, board = await task_id(house), house.desk.board
    listener = Listener(house, job)
    gate, sent = asyncio.Event(), listener.sent
    await listener.hears("queued")
    listener.leave()
    await listener.end()

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 1:
            await gate.wait()

    sent.clear()
    listener.inbox = asyncio.Queue()
    listener.task = asyncio.create_task(listener.app(dict(listener.scope), listener.inbox.get, send))
    await listener.until(lambda: len(sent) == 2)  # the head and one frame, which is not read
    await claimed(house, job)
    for step in range(1, 9):
        board.see(job, step, 8, 8.0 - step)
        board.glimpse(job, shown(0, min(step, 4), shade=10 * step))
        await asyncio.sleep(0)
    assert len(sent) == 2
    with board.watch(job) as tale:
        assert len(tale.glimpses) == 1
    gate.set()
    await listener.hears("preview")
    assert listener.names == ["queued", "started", "step", "preview"]
    assert listener.events[2][1]["step"] == 8
    assert listener.events[3][1]["jpeg"] == shown(0, 4, shade=80).jpeg
    listener.leave()
    await listener.end()


async def test_a_silent_job_is_kept_alive_by_comments(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "QUIET_SECONDS", 0.02)
    job = await task_id(house)
    await claimed(house, job)
    listener = Listener(house, job)
    await listener.until(lambda: any(message.get("body") == b":\n\n" for message in listener.sent))
    assert listener.names == ["started"]
    listener.leave()
    await listener.end()


async def test_a_service_that_stops_ends_its_streams(house: House) -> None:
    job = await task_id(house)
    listener = Listener(house, job)
    await listener.hears("queued")
    house.intake.close()
    await listener.end()
    assert listener.names == ["queued"]
    assert listener.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_job_as_it_stands(house: House) -> None:
    job, board = await task_id(house), house.desk.board
    headers = {"Authorization": f"Bearer {house.key}"}

    async def standing() -> dict[str, Any]:
        answer = await house.client.get(f"/danqing/v1/jobs/{job}", headers=headers)
        assert answer.status_code == 200
        return dict(answer.json())

    async with asyncio.timeout(PATIENCE):
        while (await standing())["state"] != "queued":  # noqa: ASYNC110 (what a client sees, no event)
            await asyncio.sleep(0.005)
    waiting = await standing()
    assert waiting == {
        "id": job,
        "state": "queued",
        "position": 1,
        "step": 0,
        "steps": 0,
        "eta": None,
        "images": [],
    }
    token = await claimed(house, job)
    board.see(job, 2, 8, 6.0)
    board.show(job, 1, picture(job, 1))
    told = await standing()
    assert (told["state"], told["position"], told["step"], told["steps"], told["eta"]) == (
        "running",
        None,
        2,
        8,
        6.0,
    )
    assert [image["index"] for image in told["images"]] == [1]
    await house.store.succeed(token, [picture(job, 1)], {0: EngineFailed("lost")})
    board.ended(job, Outcome.SUCCEEDED, seconds=1.0, wall=1.0)
    told = await standing()
    assert (told["state"], told["eta"]) == ("succeeded", None)
    assert [image["index"] for image in told["images"]] == [1]


async def test_a_job_that_waits_is_told_when_it_will_be_done_and_again_when_that_moved(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "QUEUE_SECONDS", 0.02)
    job = await task_id(house)

    class Foreteller:
        ends = 40.0

        async def left(self, job_id: str) -> float | None:
            assert job_id == job
            return self.ends

    house.desk = replace(house.desk, outlook=Foreteller())  # type: ignore[arg-type]
    listener = Listener(house, job)
    await listener.until(lambda: ("queued", {"position": 1, "eta": 40.0}) in listener.events)
    Foreteller.ends = 39.5
    await asyncio.sleep(0.1)
    Foreteller.ends = 30.0
    await listener.until(lambda: listener.events[-1] == ("queued", {"position": 1, "eta": 30.0}))
    assert [told["eta"] for _, told in listener.events if told["eta"] is not None] == [40.0, 30.0]
    await claimed(house, job)
    house.desk.board.see(job, 0, 8, None)
    await listener.hears("step")
    assert listener.events[-1][1] == {"step": 0, "steps": 8, "eta": 30.0}
    listener.leave()
    await listener.end()
