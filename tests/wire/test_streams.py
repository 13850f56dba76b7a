"""Event streams where a transcript is not enough: when the head is sent, and clients that leave in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from danqing.core.errors import EngineFailed, OutputRefused
from danqing.core.job import Image, Lease, Said
from danqing.core.writing import Panel
from danqing.wire.dashscope import replies
from danqing.wire.dashscope.encode import Answer
from danqing.wire.http import build
from tests.wire import house as houses
from tests.wire.house import House
from tests.wire.test_behaviour import Caller, waiting_caller

SSE = {"x_dashscope_sse": "enable"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, decoders=0) as opened:
        yield opened


def test_80_a_frame_is_the_service_s_byte_for_byte() -> None:
    assert replies.frame(3, Answer(200, {"output": {"text": "冬\n"}})) == (
        b'id:3\nevent:result\n:HTTP_STATUS/200\ndata:{"output":{"text":"\xe5\x86\xac\\n"}}\n\n'
    )
    assert replies.frame(1, Answer(429, {"code": "Throttling"})).startswith(
        b"id:1\nevent:error\n:HTTP_STATUS/429\ndata:{"
    )


async def test_the_head_comes_at_once_and_the_frame_with_the_pictures(house: House) -> None:
    caller, task = await waiting_caller(house, **SSE)
    async with asyncio.timeout(5):
        while not caller.sent:  # noqa: ASYNC110 (what a client sees, no event)
            await asyncio.sleep(0.005)
    assert caller.status == 200
    assert len(caller.sent) == 1
    await house.deed("worker works")
    await task
    assert caller.sent[1]["body"].startswith(b"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{")
    assert caller.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_client_that_leaves_its_stream_cancels_the_job(house: House) -> None:
    caller, task = await waiting_caller(house, **SSE)
    caller.leave()
    await task
    assert len(caller.sent) == 1
    assert (await house.store.figures())["cancelled"] == 1


async def test_a_stream_that_is_out_of_time_says_so_in_its_frame(house: House) -> None:
    await house.deed("patience 0.3")
    caller, task = await waiting_caller(house, **SSE)
    await task
    assert caller.status == 200
    assert b'event:error\n:HTTP_STATUS/500\ndata:{"code":"RequestTimeOut"' in caller.sent[1]["body"]


# stories: text and pictures in turn

TOLD = (
    Panel("A fox wakes.", "a fox"),
    Panel("It runs.", "a running fox"),
    Panel("It sleeps.", "a sleeping fox"),
)
"""What the worker of these tests plans, whatever it is asked for."""


class Story:
    """A call for a story, and the worker that tells it as the test says."""

    def __init__(self, house: House, caller: Caller, task: asyncio.Task[None], lease: Lease) -> None:
        self.house, self.caller, self.task, self.lease = house, caller, task, lease

    def tell(self, *panels: Panel) -> tuple[Panel, ...]:
        return self.house.desk.board.tell(self.lease.job_id, panels or TOLD)

    def image(self, place: int, attempt: int = 1) -> Image:
        day, nonce = "20261121", f"{attempt:032x}"
        key = f"00/00/{day}/{nonce}/{self.lease.job_id}-{place}.png"
        return Image(key, self.lease.brief.size, f"{place}{attempt}".rjust(64, "0"))

    def show(self, place: int, attempt: int = 1) -> None:
        self.house.desk.board.show(self.lease.job_id, place, self.image(place, attempt))

    async def end(self, *places: int) -> None:
        """The job succeeds with the pictures of these places."""
        said = Said(texts=tuple((place, panel.text) for place, panel in enumerate(TOLD)))
        lost = {place: OutputRefused() for place in {0, 1, 2} - set(places)}
        await self.house.store.succeed(self.lease.token, [self.image(place) for place in places], lost, said)
        await self.task

    async def frames(self, count: int) -> list[dict[str, Any]]:
        """The data of the first so many frames, which must be all that there are."""
        async with asyncio.timeout(5):
            while len(self.bodies()) < count:  # noqa: ASYNC110 (what a client sees, no event)
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        assert len(self.bodies()) == count
        return [json.loads(body.split(b"\ndata:")[1]) for body in self.bodies()]

    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.caller.sent[1:] if message["body"]]


@pytest.fixture
async def story(house: House) -> AsyncIterator[Story]:
    await house.deed("worker stops")
    caller = Caller(build(house.desk), house.key, **SSE)
    task = caller.call()
    message = {"role": "user", "content": [{"text": "Tell of a fox"}]}
    parameters = {"enable_interleave": True, "max_images": 3}
    body = {"model": "wan2.6-image", "input": {"messages": [message]}, "parameters": parameters}
    caller.send(json.dumps(body).encode())
    (lease,) = (await house.store.news("worker-9", room=1, seconds=5.0)).leases
    yield Story(house, caller, task, lease)
    task.cancel()


def shown(frames: list[dict[str, Any]]) -> list[str]:
    """Texts as they are, pictures by the attempt that made them and their place."""
    told = []
    for frame in frames:
        (item,) = frame["output"]["choices"][0]["message"]["content"]
        _, nonce, name = ["", *item.get("image", "/").split("?")[0].rsplit("/", 2)][-3:]
        told.append(item["text"] if "text" in item else f"{nonce[-1]}-{name[-5]}")
    return told


async def test_each_turn_is_sent_as_soon_as_it_is_there(story: Story) -> None:
    story.tell()
    assert shown(await story.frames(1)) == ["A fox wakes."]
    story.show(0)
    assert shown(await story.frames(3))[1:] == ["1-0", "It runs."]
    story.show(1)
    assert shown(await story.frames(5))[3:] == ["1-1", "It sleeps."]
    story.show(2)
    assert len(await story.frames(5)) == 5
    await story.end(0, 1, 2)
    frames = await story.frames(6)
    assert shown(frames)[5:] == ["1-2"]
    assert [frame["output"]["finished"] for frame in frames] == [False] * 5 + [True]
    reasons = [frame["output"]["choices"][0]["finish_reason"] for frame in frames]
    assert reasons == ["null"] * 5 + ["stop"]
    assert [frame["usage"]["image_count"] for frame in frames] == [0, 1, 1, 2, 2, 3]
    assert [frame["usage"]["size"] for frame in frames] == ["0*0", *["1280*1280"] * 5]
    assert [body.split(b"\n")[0] for body in story.bodies()] == [f"id:{n}".encode() for n in range(1, 7)]


async def test_an_attempt_that_starts_anew_repeats_nothing_and_leaves_nothing_out(story: Story) -> None:
    story.tell()
    story.show(0)
    assert len(await story.frames(3)) == 3
    story.house.desk.board.forget(story.lease.job_id)
    assert story.tell(Panel("Another tale.", "a hen")) == TOLD
    story.show(0, attempt=2)
    assert len(await story.frames(3)) == 3
    story.show(1, attempt=2)
    await story.end(0, 1, 2)
    assert shown(await story.frames(6)) == [
        "A fox wakes.",
        "1-0",
        "It runs.",
        "2-1",
        "It sleeps.",
        "1-2",
    ]


async def test_a_picture_that_may_not_be_shown_holds_nothing_up(story: Story) -> None:
    story.tell()
    story.show(1)
    assert shown(await story.frames(4)) == ["A fox wakes.", "It runs.", "1-1", "It sleeps."]
    await story.end(1, 2)
    assert shown(await story.frames(5))[4:] == ["1-2"]


async def test_a_stream_whose_last_picture_is_lost_ends_all_the_same(story: Story) -> None:
    story.tell()
    story.show(0)
    story.show(1)
    await story.frames(5)
    await story.end(0, 1)
    (last,) = (await story.frames(6))[5:]
    assert last["output"] == {
        "choices": [{"message": {"content": [], "role": "assistant"}, "finish_reason": "stop"}],
        "finished": True,
    }
    assert last["usage"]["image_count"] == 2


async def test_a_story_that_nobody_followed_comes_whole_at_its_end(story: Story) -> None:
    await story.end(0, 1, 2)
    assert shown(await story.frames(6))[::2] == ["A fox wakes.", "It runs.", "It sleeps."]


async def test_a_story_that_breaks_off_says_so_after_what_was_told(story: Story) -> None:
    story.tell()
    await story.frames(1)
    await story.house.store.fail(story.lease.token, EngineFailed())
    await story.task
    assert story.bodies()[1].startswith(
        b'id:2\nevent:error\n:HTTP_STATUS/500\ndata:{"code":"InternalError.Algo"'
    )


async def test_a_client_that_leaves_a_story_cancels_it(story: Story) -> None:
    story.tell()
    await story.frames(1)
    story.caller.leave()
    await story.task
    assert (await story.house.store.figures())["cancelled"] == 1
    assert len(story.bodies()) == 1
    assert not story.house.desk.board.followed(story.lease.job_id)
