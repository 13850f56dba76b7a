"""The visible mark: where it is, that it can be read, and that it leaves the rest alone."""

from __future__ import annotations

import pytest

from danqing.core.raster import Raster, Size
from danqing.pixels.marks import mark

WORDS = "Qwen-Image"


def flat(width: int, height: int, gray: int, channels: int = 3) -> Raster:
    return Raster(Size(width, height), channels, bytes([gray]) * (width * height * channels))


def touched(before: Raster, after: Raster) -> list[tuple[int, int]]:
    width, step = before.size.width, before.channels
    stride = width * step
    rows = range(before.size.height)
    return [
        (x, y)
        for y in rows
        if before.data[y * stride : (y + 1) * stride] != after.data[y * stride : (y + 1) * stride]
        for x in range(width)
        if before.data[y * stride + x * step] != after.data[y * stride + x * step]
    ]


@pytest.mark.parametrize("gray", [0, 128, 255])
@pytest.mark.parametrize(("width", "height"), [(512, 512), (256, 384), (1024, 300)])
def test_the_mark_is_at_the_bottom_right_and_nowhere_else(width: int, height: int, gray: int) -> None:
    before = flat(width, height, gray)
    spots = touched(before, mark(before, WORDS))
    assert spots
    assert min(x for x, _ in spots) > width * 0.3
    assert min(y for _, y in spots) > height * 0.85


@pytest.mark.parametrize("gray", [0, 90, 180, 255])
def test_the_mark_can_be_read_on_any_ground(gray: int) -> None:
    before = flat(512, 512, gray)
    data = mark(before, WORDS).data
    assert max(data) - min(data) >= 90


@pytest.mark.parametrize("channels", [3, 4])
def test_a_mark_keeps_size_and_channels(channels: int) -> None:
    before = flat(300, 200, 50, channels)
    after = mark(before, WORDS)
    assert (after.size, after.channels) == (before.size, channels)
    assert after != before


def test_a_mark_is_opaque_on_a_transparent_picture() -> None:
    after = mark(Raster(Size(400, 400), 4, bytes(400 * 400 * 4)), WORDS)
    assert max(after.data[3::4]) > 200


def test_the_mark_grows_with_the_picture() -> None:
    small, large = flat(400, 400, 0), flat(1600, 1600, 0)
    few, many = touched(small, mark(small, WORDS)), touched(large, mark(large, WORDS))
    assert 8 < len(many) / len(few) < 32


def test_a_picture_too_small_for_the_mark_is_left_alone() -> None:
    assert mark(flat(32, 16, 0), WORDS) == flat(32, 16, 0)


def test_the_words_are_the_callers() -> None:
    assert mark(flat(400, 400, 0), "AI") != mark(flat(400, 400, 0), WORDS)
