"""What is written reads back exactly, the same every time, and says what it was told to say."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.pixels import png
from tests.support import pictures


def raster(channels: int, width: int = 6, height: int = 4) -> Raster:
    data = pictures.colours(width, height).convert("RGB" if channels == 3 else "RGBA").tobytes()
    return Raster(Size(width, height), channels, data)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("width", "height"), [(6, 4), (1, 1), (1, 300), (300, 1), (257, 3)])
def test_a_raster_reads_back_exactly(channels: int, width: int, height: int) -> None:
    given = raster(channels, width, height)
    with Image.open(BytesIO(png.encode(given)), formats=["PNG"]) as image:
        image.load()
        assert (image.mode, image.size) == ("RGB" if channels == 3 else "RGBA", (width, height))
        assert image.tobytes() == given.data


def test_transparent_pixels_keep_their_colour() -> None:
    given = Raster(Size(2, 1), 4, bytes((10, 20, 30, 0, 40, 50, 60, 255)))
    with Image.open(BytesIO(png.encode(given))) as image:
        assert image.tobytes() == given.data


def test_the_same_pixels_make_the_same_bytes() -> None:
    assert png.encode(raster(3), text={"a": "b"}) == png.encode(raster(3), text={"a": "b"})


def test_texts_are_in_the_file_in_any_script() -> None:
    words = {"XML:com.adobe.xmp": "<x>丹青</x>", "Note": "painter's red"}
    with Image.open(BytesIO(png.encode(raster(3), text=words))) as image:
        image.load()
        assert {name: str(value) for name, value in image.text.items()} == words


def test_the_file_says_that_it_is_srgb_and_nothing_else() -> None:
    with Image.open(BytesIO(png.encode(raster(3)))) as image:
        image.load()
        assert image.info == {"srgb": 0}


@pytest.mark.parametrize("keyword", ["", "x" * 80, "nul\0", "丹"])
def test_a_keyword_that_png_does_not_take_is_refused(keyword: str) -> None:
    with pytest.raises(ValueError, match=r"keyword|latin-1"):
        png.encode(raster(3), text={keyword: "x"})
