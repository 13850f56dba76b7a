"""Event streams where a transcript is not enough: when the head is sent, and clients that leave in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from danqing.wire.dashscope import replies
from danqing.wire.dashscope.encode import Answer
from tests.wire import house as houses
from tests.wire.house import House
from tests.wire.test_behaviour import waiting_caller

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
