"""A writer behind an address: any service with OpenAI's chat completions, the operator's own or a hosted one.

Pictures travel as small PNG files in data URLs. Only the text of the first choice is taken from an answer; everything
else that a service may do is CannotWrite. The key stands in a header and nowhere else, neither in a log nor in a fault.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite
from danqing.outbound.post import Poster, Unanswered
from danqing.pixels.png import encode
from danqing.pixels.views import view

PATH = "/chat/completions"
SIDE = 768
"""The longer side of the copies that the service sees."""

Post = Callable[[bytes], Awaitable[bytes]]
"""A question in JSON to its answer. Raises Unanswered."""


class ChatWriter:
    """See `core.writing.Writer`."""

    def __init__(self, post: Post, model: str) -> None:
        """`model` is the name that the service knows."""
        self._post, self._model = post, model

    async def write(
        self, system: str, text: str, pictures: Sequence[Raster] = (), *, tokens: int, seconds: float
    ) -> str:
        """See `Writer.write`; the same question gets the same answer as far as the service lets it."""
        body = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": await _content(text, pictures)},
            ],
            "max_tokens": tokens,
            "temperature": 0,
            "seed": 0,
            "stream": False,
        }
        try:
            async with asyncio.timeout(seconds):
                return _answer(await self._post(orjson.dumps(body)))
        except TimeoutError:
            raise CannotWrite(f"no answer within {seconds:g} s") from None
        except (Unanswered, orjson.JSONEncodeError) as why:
            raise CannotWrite(f"the chat endpoint: {why}") from why


def chat_poster(url: str, key: str, *, seconds: float) -> Poster:
    """Who carries the questions to the service with that base URL (ending in `/v1` as a rule, or in the whole path);
    `seconds` are for one of them."""
    base = url.rstrip("/")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Poster(base if base.endswith(PATH) else base + PATH, seconds=seconds, headers=headers)


async def _content(text: str, pictures: Sequence[Raster]) -> str | list[dict[str, Any]]:
    """Plain text where there is nothing to see: not every service takes parts."""
    if not pictures:
        return text
    links = [await asyncio.to_thread(_link, picture) for picture in pictures]
    parts: list[dict[str, Any]] = []
    for number, link in enumerate(links, start=1):
        parts += [
            {"type": "text", "text": f"image {number}:"},
            {"type": "image_url", "image_url": {"url": link}},
        ]
    return [*parts, {"type": "text", "text": text}]


def _link(picture: Raster) -> str:
    return "data:image/png;base64," + base64.b64encode(encode(view(picture, SIDE))).decode()


def _answer(body: bytes) -> str:
    try:
        text = orjson.loads(body)["choices"][0]["message"]["content"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        raise CannotWrite("the chat endpoint: not a completion") from None
    if not isinstance(text, str):
        raise CannotWrite("the chat endpoint: no text")
    return text
