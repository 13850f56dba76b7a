from __future__ import annotations

import pytest

from danqing.core.raster import Raster, Size
from danqing.pixels.views import view


def test_a_picture_that_fits_is_shown_as_it_is() -> None:
    raster = Raster(Size(64, 32), 3, bytes(64 * 32 * 3))
    assert view(raster, 64) is raster


@pytest.mark.parametrize(
    ("size", "small"),
    [
        (Size(128, 64), Size(64, 32)),
        (Size(64, 128), Size(32, 64)),
        (Size(4096, 1), Size(64, 1)),
        (Size(100, 99), Size(64, 63)),
    ],
)
def test_a_larger_one_keeps_its_aspect(size: Size, small: Size) -> None:
    shown = view(Raster(size, 3, bytes((10, 200, 30)) * size.area), 64)
    assert shown.size == small
    assert shown.data == bytes((10, 200, 30)) * small.area


def test_what_is_transparent_does_not_colour_what_is_not() -> None:
    row = bytes((255, 0, 0, 255)) * 64 + bytes((0, 255, 0, 0)) * 64
    shown = view(Raster(Size(128, 128), 4, row * 128), 16)
    pixels = [shown.data[at : at + 4] for at in range(0, len(shown.data), 4)]
    assert all(pixel[1] < 8 for pixel in pixels if pixel[3] > 8)
    assert {pixel[3] for pixel in pixels} >= {0, 255}
