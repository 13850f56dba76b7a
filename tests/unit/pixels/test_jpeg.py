from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.pixels.jpeg import MOST, preview
from danqing.pixels.labels import KEYWORD, generated


def noise(size: Size) -> Raster:
    """As hard to squeeze as a picture can be."""
    return Raster(size, 3, np.random.default_rng(1).integers(0, 256, size.area * 3, dtype=np.uint8).tobytes())


def read(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    assert image.format == "JPEG"
    return image


@pytest.mark.parametrize("size", [Size(256, 256), Size(256, 3), Size(64, 64), Size(1, 1), Size(2, 256)])
def test_a_preview_fits_whatever_it_shows(size: Size) -> None:
    file = preview(noise(size), size)
    assert len(file) <= MOST
    assert file[:3] == b"\xff\xd8\xff"
    assert file[-2:] == b"\xff\xd9"
    read(file)


@pytest.mark.parametrize("size", [Size(256, 256), Size(64, 64), Size(1, 1)])
def test_a_label_is_carried_within_the_same_size(size: Size) -> None:
    packet = generated("maker", "0" * 36 + "-5")[KEYWORD]
    file = preview(noise(size), size, packet)
    assert len(file) <= MOST
    assert read(file).info["xmp"].decode() == packet
    assert "xmp" not in read(preview(noise(size), size)).info


def test_what_fits_at_once_keeps_its_size_and_its_colours() -> None:
    shown = read(preview(Raster(Size(64, 64), 3, bytes([200, 40, 90]) * 64 * 64), Size(1024, 1024)))
    assert shown.size == (64, 64)
    red, green, blue = shown.getpixel((30, 30))  # type: ignore[misc]
    assert abs(red - 200) < 4
    assert abs(green - 40) < 4
    assert abs(blue - 90) < 4


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (Size(1024, 1024), (64, 64)),
        (Size(1024, 512), (64, 32)),
        (Size(512, 1536), (21, 64)),
        (Size(1030, 1024), (64, 64)),
    ],
)
def test_a_preview_has_the_aspect_that_was_asked_for(asked: Size, shown: tuple[int, int]) -> None:
    assert read(preview(Raster(Size(64, 64), 3, bytes(64 * 64 * 3)), asked)).size == shown
