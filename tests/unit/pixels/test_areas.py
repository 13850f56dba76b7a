"""Masks, boxes and canvases: what is selected, and that nothing else is touched."""

from __future__ import annotations

import pytest
from PIL import Image, ImageDraw

from danqing.core.raster import Raster, Size
from danqing.core.sizes import MOST
from danqing.pixels import areas


def raster(picture: Image.Image) -> Raster:
    return Raster(Size(*picture.size), len(picture.getbands()), picture.tobytes())


def picture(it: Raster) -> Image.Image:
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[it.channels]
    return Image.frombytes(mode, (it.size.width, it.size.height), it.data)


def drawn(width: int, height: int) -> Image.Image:
    """Four colours and a disc, so that a shift by one pixel shows."""
    image = Image.new("RGB", (width, height), (200, 40, 30))
    pen = ImageDraw.Draw(image)
    pen.rectangle((width // 2, 0, width, height // 2), fill=(20, 160, 60))
    pen.rectangle((0, height // 2, width // 2, height), fill=(30, 50, 200))
    pen.ellipse((width // 4, height // 4, width // 2, height // 2), fill=(240, 220, 40))
    return image


def test_white_is_selected_black_is_not_and_grey_is_what_it_is_nearer_to() -> None:
    given = Image.new("RGB", (4, 1), (0, 0, 0))
    for x, level in enumerate((0, 127, 128, 255)):
        given.putpixel((x, 0), (level, level, level))
    mask = areas.mask_of(raster(given))
    assert mask is not None
    assert (mask.channels, mask.data) == (1, bytes([0, 0, 255, 255]))


def test_what_is_transparent_in_a_mask_is_not_selected_whatever_colour_lies_under_it() -> None:
    given = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    given.putpixel((1, 0), (255, 255, 255, 255))
    mask = areas.mask_of(raster(given))
    assert mask is not None
    assert mask.data == bytes([0, 255])


@pytest.mark.parametrize("given", [Image.new("RGB", (3, 3)), Image.new("RGBA", (3, 3), (255, 255, 255, 0))])
def test_a_mask_that_selects_nothing_is_none(given: Image.Image) -> None:
    assert areas.mask_of(raster(given)) is None


def test_a_box_is_clipped_to_its_picture_and_follows_its_shrinking_outwards() -> None:
    came, kept = Size(1000, 500), Size(500, 250)
    assert areas.scaled([(0, 0, 11, 11)], came, kept) == ((0, 0, 6, 6),)
    assert areas.scaled([(901, 401, 5000, 5000)], came, kept) == ((450, 200, 500, 250),)


@pytest.mark.parametrize("box", [(1000, 0, 1100, 10), (0, 500, 10, 600)])
def test_a_box_with_nothing_of_the_picture_in_it_is_refused_with_the_others(box: areas.Box) -> None:
    assert areas.scaled([(0, 0, 10, 10), box], Size(1000, 500), Size(1000, 500)) is None


def test_boxes_select_their_pixels_and_no_more() -> None:
    mask = areas.boxed(Size(6, 4), [(1, 1, 3, 2), (5, 3, 6, 4)])
    white = {(x, y) for y in range(4) for x in range(6) if mask.data[y * 6 + x]}
    assert white == {(1, 1), (2, 1), (5, 3)}
    assert set(mask.data) == {0, 255}


def test_what_several_boxes_hold_is_cut_out_together() -> None:
    whole = drawn(40, 30)
    box = areas.bounds([(3, 4, 10, 9), (8, 2, 20, 6)])
    assert box == (3, 2, 20, 9)
    assert picture(areas.cut(raster(whole), box)).tobytes() == whole.crop(box).tobytes()


def test_a_grown_canvas_holds_the_picture_to_the_pixel_and_the_mask_the_rest() -> None:
    whole = drawn(64, 48)
    canvas, mask = areas.grown(raster(whole), (0.5, 0.0, 0.25, 1.0))
    assert canvas.size == mask.size == areas.grown_size(Size(64, 48), (0.5, 0.0, 0.25, 1.0)) == Size(144, 72)
    place = (16, 24, 80, 72)
    assert picture(canvas).crop(place).tobytes() == whole.tobytes()
    assert set(picture(mask).crop(place).tobytes()) == {0}
    assert mask.data.count(255) == 144 * 72 - 64 * 48


def test_around_it_the_picture_s_own_edges_go_on() -> None:
    canvas, _ = areas.grown(raster(Image.new("RGB", (64, 64), (10, 200, 90))), (1.0, 1.0, 1.0, 1.0))
    assert picture(canvas).getcolors() == [(192 * 192, (10, 200, 90))]


def test_a_canvas_that_would_be_too_large_is_shrunk_whole() -> None:
    canvas, mask = areas.grown(raster(Image.new("RGB", (3000, 1400))), (1.0, 1.0, 1.0, 1.0))
    assert canvas.size == mask.size
    assert MOST * 0.99 < canvas.size.area <= MOST
    assert canvas.size.ratio == pytest.approx(3000 / 1400, rel=0.01)
