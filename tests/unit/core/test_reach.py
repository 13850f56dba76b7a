"""What is refused because nobody could ever make it, and what is said of it."""

from __future__ import annotations

import pytest

from danqing.core.errors import BadOrder
from danqing.core.raster import Size
from danqing.core.reach import Reach, require

SMALL: Reach = {"m": ((1000, 2000), (500, 900))}
LARGE: Reach = {"m": ((9000, 10_000),), "*": ((1, 2),)}


@pytest.mark.parametrize(
    ("reaches", "inputs", "size", "may"),
    [
        ([SMALL], 0, Size(40, 49), True),
        ([SMALL], 0, Size(40, 50), False),
        ([SMALL], 1, Size(30, 30), False),
        ([SMALL], 1, Size(29, 31), True),
        ([SMALL], 2, Size(1, 1), False),
        ([SMALL], 2, None, False),
        ([SMALL], 1, None, True),
        ([SMALL, LARGE], 0, Size(99, 99), True),
        ([SMALL, LARGE], 0, Size(100, 100), False),
        ([SMALL, LARGE], 1, Size(30, 30), False),
        ([SMALL, {}], 0, Size(100, 100), True),
        ([{}], 9, Size(100, 100), True),
        ([], 9, Size(100, 100), True),
    ],
)
def test_only_what_no_worker_that_is_there_could_make_is_refused(
    reaches: list[Reach], inputs: int, size: Size | None, may: bool
) -> None:
    if may:
        require(reaches, "m", inputs, size)
        return
    with pytest.raises(BadOrder):
        require(reaches, "m", inputs, size)


def test_a_worker_may_speak_for_all_names_at_once() -> None:
    with pytest.raises(BadOrder):
        require([LARGE], "another", 0, Size(2, 1))
    require([LARGE], "another", 0, Size(1, 1))


@pytest.mark.parametrize("size", [Size(4096, 4096), Size(4096, 512), Size(400, 4000), Size(2000, 1999)])
@pytest.mark.parametrize("fits", [1, 90, 65_536, 1_000_000])
def test_the_size_that_is_named_may_pass(size: Size, fits: int) -> None:
    with pytest.raises(BadOrder) as caught:
        require([{"m": ((fits, fits + 1),)}], "m", 0, size)
    named = caught.value.message.split("; ")[1].removesuffix(" would fit.")
    width, height = map(int, named.split("*"))
    assert width >= 1
    assert height >= 1
    assert width * height <= fits or min(width, height) == 1
    assert caught.value.field == "size"


def test_where_nothing_fits_no_size_is_named() -> None:
    with pytest.raises(BadOrder, match=r"no size would fit\.$"):
        require([{"m": ((0, 1),)}], "m", 0, Size(1, 1))
