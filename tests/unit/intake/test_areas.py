"""What an order says of parts of its pictures becomes pixels: which picture, which mask, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from danqing.core.errors import BoxOutside, Fault, MaskEmpty, MaskMismatch
from danqing.core.order import Mask, Order, Taken
from danqing.core.raster import Raster, Size
from danqing.intake.areas import settled

pytestmark = pytest.mark.asyncio

SIZE = Size(8, 6)


@dataclass
class Shelf:
    """A tenant's rasters by name."""

    rasters: dict[str, Raster] = field(default_factory=dict)

    async def load(self, digest: str) -> Raster:
        return self.rasters[digest]

    async def keep(self, raster: Raster) -> str:
        self.rasters[raster.digest()] = raster
        return raster.digest()

    def put(self, level: int, size: Size = SIZE, came: Size | None = None) -> Taken:
        """A picture of one grey; `came` is its size before it was shrunk."""
        raster = Raster(size, 3, bytes([level]) * size.area * 3)
        self.rasters[raster.digest()] = raster
        return Taken(raster.digest(), came or size)

    async def settle(self, *sources: Taken, **more: Any) -> tuple[Order, Mask | None]:
        return await settled(Order("m", "p", sources=sources, **more), self.load, self.keep)


async def test_an_order_that_says_nothing_of_parts_is_left_alone() -> None:
    shelf = Shelf()
    order = Order("m", "p", sources=(shelf.put(1), shelf.put(2)), boxes=((), ()))
    assert await settled(order, shelf.load, shelf.keep) == (order, None)


async def test_a_mask_becomes_one_channel_and_belongs_to_the_first_picture() -> None:
    shelf = Shelf()
    order, mask = await shelf.settle(shelf.put(1), shelf.put(2), mask=shelf.put(255))
    assert mask is not None
    assert (mask.of, shelf.rasters[mask.digest]) == (0, Raster(SIZE, 1, b"\xff" * SIZE.area))
    assert order.sources == (shelf.put(1), shelf.put(2))


@pytest.mark.parametrize(("level", "size", "fault"), [(0, SIZE, MaskEmpty), (255, Size(6, 8), MaskMismatch)])
async def test_a_mask_that_does_not_fit_or_selects_nothing_is_refused(
    level: int, size: Size, fault: type[Fault]
) -> None:
    shelf = Shelf()
    with pytest.raises(fault):
        await shelf.settle(shelf.put(1), mask=shelf.put(level, size))


async def test_sizes_are_compared_as_the_files_had_them() -> None:
    """A large picture is kept smaller than it came; so is its mask, and a small mask is another size all the same."""
    shelf = Shelf()
    large = Size(80, 60)
    _, mask = await shelf.settle(shelf.put(1, came=large), mask=shelf.put(255, came=large))
    assert mask is not None
    with pytest.raises(MaskMismatch):
        await shelf.settle(shelf.put(1, came=large), mask=shelf.put(255))


async def test_boxes_of_the_last_picture_say_where_it_may_change() -> None:
    shelf = Shelf()
    order, mask = await shelf.settle(shelf.put(1), shelf.put(2), boxes=((), ((0, 0, 2, 1), (7, 5, 99, 99))))
    assert mask is not None
    assert mask.of == 1
    white = {place for place, level in enumerate(shelf.rasters[mask.digest].data) if level}
    assert white == {0, 1, 47}
    assert order.sources == (shelf.put(1), shelf.put(2))


async def test_boxes_of_another_picture_say_what_of_it_is_meant() -> None:
    shelf = Shelf()
    order, mask = await shelf.settle(shelf.put(1), shelf.put(2), boxes=(((1, 1, 3, 3), (2, 2, 6, 4)), ()))
    assert mask is None
    first, last = order.sources
    assert isinstance(first, Taken)
    assert shelf.rasters[first.digest].size == first.size == Size(5, 3)
    assert last == shelf.put(2)


async def test_boxes_are_in_the_pixels_of_the_picture_as_it_came() -> None:
    shelf = Shelf()
    _, mask = await shelf.settle(shelf.put(1, came=Size(80, 60)), boxes=(((40, 30, 80, 60),),))
    assert mask is not None
    assert shelf.rasters[mask.digest].data.count(255) == 4 * 3


async def test_a_box_outside_its_picture_is_refused() -> None:
    shelf = Shelf()
    with pytest.raises(BoxOutside):
        await shelf.settle(shelf.put(1), shelf.put(2), boxes=(((8, 0, 9, 1),), ()))


async def test_margins_make_a_larger_picture_that_may_change_where_it_is_new() -> None:
    shelf = Shelf()
    came = Size(80, 60)
    order, mask = await shelf.settle(shelf.put(9, came=came), margins=(0.5, 0.0, 0.25, 0.0))
    assert mask is not None
    (canvas,) = order.sources
    assert isinstance(canvas, Taken)
    assert canvas.size == Size(100, 90)
    assert shelf.rasters[canvas.digest].size == shelf.rasters[mask.digest].size == Size(10, 9)
    assert shelf.rasters[mask.digest].data.count(0) == SIZE.area
