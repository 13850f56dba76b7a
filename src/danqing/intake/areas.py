"""From what an order says of parts of its pictures to what a worker needs: a mask, pictures cut out, a grown canvas.

Everything is settled here, once, in pixels, so that no engine reads boxes or margins. Knows no protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from danqing.core.errors import BoxOutside, MaskEmpty, MaskMismatch
from danqing.core.order import Margins, Mask, Order, Taken
from danqing.core.raster import Raster
from danqing.pixels import areas

Load = Callable[[str], Awaitable[Raster]]
"""A raster of the tenant's, by its name."""
Keep = Callable[[Raster], Awaitable[str]]
"""Store a raster for the tenant; answers its name."""


async def settled(order: Order, load: Load, keep: Keep) -> tuple[Order, Mask | None]:
    """The order with the pictures that are meant in place of those given, and where it may change them: None for
    anywhere. Its sources and its mask are all taken. Raises MaskMismatch, MaskEmpty, BoxOutside."""
    if isinstance(order.mask, Taken):
        return order, await _mask(order, order.mask, load, keep)
    if order.margins is not None:
        return await _grown(order, order.margins, load, keep)
    if any(order.boxes):
        return await _boxed(order, load, keep)
    return order, None


async def _mask(order: Order, given: Taken, load: Load, keep: Keep) -> Mask:
    first = order.sources[0]
    if not isinstance(first, Taken) or first.size != given.size:
        raise MaskMismatch
    mask = await asyncio.to_thread(areas.mask_of, await load(given.digest))
    if mask is None:
        raise MaskEmpty
    return Mask(await keep(mask), 0)


async def _grown(order: Order, margins: Margins, load: Load, keep: Keep) -> tuple[Order, Mask]:
    first, *others = order.sources
    if not isinstance(first, Taken):
        raise TypeError("sources are taken before they are settled")
    canvas, mask = await asyncio.to_thread(areas.grown, await load(first.digest), margins)
    taken = Taken(await keep(canvas), areas.grown_size(first.size, margins))
    return replace(order, sources=(taken, *others)), Mask(await keep(mask), 0)


async def _boxed(order: Order, load: Load, keep: Keep) -> tuple[Order, Mask | None]:
    """The last picture is the one that is edited, as its aspect is the one that is kept; the others are looked at."""
    sources, mask = list(order.sources), None
    for place, (source, boxes) in enumerate(zip(order.sources, order.boxes, strict=True)):
        if not boxes or not isinstance(source, Taken):
            continue
        raster = await load(source.digest)
        found = areas.scaled(boxes, source.size, raster.size)
        if found is None:
            raise BoxOutside
        if place == len(sources) - 1:
            mask = Mask(await keep(areas.boxed(raster.size, found)), place)
            continue
        part = areas.cut(raster, areas.bounds(found))
        sources[place] = Taken(await keep(part), part.size)
    return replace(order, sources=tuple(sources)), mask
