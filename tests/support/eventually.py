"""Waiting for something that another process or task brings about, with an end to the patience."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], object | Awaitable[object]], seconds: float = 10.0) -> None:
    """Return as soon as `holds()` (awaited if need be) is true; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            answer = holds()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(0.005)
