"""The writer behind an address, against a real server of chat completions on this machine."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from danqing.core.raster import Raster, Size
from danqing.core.writing import CannotWrite
from danqing.prompts.chat import SIDE, ChatWriter, chat_poster

WIDE = Raster(Size(2000, 1000), 3, b"\x40\x80\xc0" * 2_000_000)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def endpoint(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def saying(answer: Any, seen: list[tuple[dict[str, Any], str]] | None = None, status: int = 200) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if seen is not None:
            seen.append((await request.json(), request.headers.get("Authorization", "")))
        if isinstance(answer, bytes):
            return web.Response(body=answer, status=status)
        return web.json_response(answer, status=status)

    return handle


def completion(text: object) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    }


async def ask(url: str, *pictures: Raster, seconds: float = 20.0, key: str = "sk-secret") -> str:
    poster = chat_poster(url, key, seconds=seconds)
    try:
        return await ChatWriter(poster.post, "qwen3-vl").write(
            "Be brief.", "what is it?", pictures, tokens=50, seconds=seconds
        )
    finally:
        await poster.close()


async def test_the_question_is_a_chat_completion_with_pictures_as_data() -> None:
    seen: list[tuple[dict[str, Any], str]] = []
    async with endpoint(saying(completion("A blue wall."), seen)) as url:
        assert await ask(url, WIDE) == "A blue wall."
        assert await ask(url + "/chat/completions/", key="") == "A blue wall."
    body, key = seen[0]
    assert key == "Bearer sk-secret"
    assert seen[1][1] == ""
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("qwen3-vl", 50, 0)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    number, picture, text = body["messages"][1]["content"]
    assert number["text"] == "image 1:"
    assert text == {"type": "text", "text": "what is it?"}
    head, data = picture["image_url"]["url"].split(",")
    assert head == "data:image/png;base64"
    file = base64.b64decode(data)
    assert int.from_bytes(file[16:20], "big") == SIDE
    assert seen[1][0]["messages"][1]["content"] == "what is it?"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"error": {"message": "no such model"}}, 404),
        (completion("x"), 500),
        ({}, 200),
        ({"choices": []}, 200),
        (completion(None), 200),
        (completion([{"text": "x"}]), 200),
        ([], 200),
        (b"<html>", 200),
        (b"x" * 1_000_000, 200),
    ],
)
async def test_whatever_the_other_side_does_wrong_is_no_text(answer: Any, status: int) -> None:
    async with endpoint(saying(answer, status=status)) as url:
        with pytest.raises(CannotWrite) as told:
            await ask(url)
    assert "sk-secret" not in str(told.value)


async def test_an_endpoint_that_is_away_or_too_slow_is_no_text() -> None:
    with pytest.raises(CannotWrite):
        await ask("http://127.0.0.1:1/v1")

    async def sleeps(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with endpoint(sleeps) as url:
        with pytest.raises(CannotWrite, match="within"):
            await ask(url, seconds=0.1)


async def test_half_a_letter_in_a_prompt_is_no_fault() -> None:
    async with endpoint(saying(completion("x"))) as url:
        poster = chat_poster(url, "", seconds=5)
        with pytest.raises(CannotWrite):
            await ChatWriter(poster.post, "m").write("s", json.loads('"\\ud83d"'), tokens=5, seconds=5)
        await poster.close()
