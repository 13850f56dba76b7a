"""Which size is drawn for which asked size, and that what is delivered has exactly the asked one."""

from __future__ import annotations

import pytest
from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.engine.canvas import drawn_size, from_canvas, input_size, to_canvas
from danqing.profiles.loader import Canvas, Native, load_profile

MINIATURE = load_profile("miniature").checkpoints["miniature"].native


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ((1024, 1024), (128, 128)),
        ((512, 512), (128, 128)),
        ((1664, 928), (224, 128)),
        ((928, 1664), (128, 224)),
        ((1472, 1104), (128, 96)),
        ((1140, 1472), (96, 128)),
        ((1536, 1024), (192, 128)),
        ((1024, 1536), (128, 192)),
        ((1328, 1328), (128, 128)),
        ((1024, 1280), (96, 128)),
        ((2688, 1152), (224, 96)),
        ((8000, 1000), (224, 96)),
        ((130, 129), (128, 128)),
    ],
)
def test_a_bucketed_checkpoint_draws_the_taught_size_of_the_nearest_aspect(
    asked: tuple[int, int], drawn: tuple[int, int]
) -> None:
    assert drawn_size(MINIATURE, Size(*asked)) == Size(*drawn)


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ((1024, 1024), (1024, 1024)),
        ((1080, 1920), (1088, 1920)),
        ((1440, 1080), (1440, 1088)),
        ((2048, 872), (2048, 896)),
        ((1, 1), (32, 32)),
    ],
)
def test_a_true_size_checkpoint_draws_the_next_multiple_above(
    asked: tuple[int, int], drawn: tuple[int, int]
) -> None:
    assert drawn_size(Native(), Size(*asked)) == Size(*drawn)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ((500, 500), (1024, 1024)),
        ((4000, 3000), (1184, 896)),
        ((300, 400), (896, 1184)),
        ((1000, 2), (22912, 32)),
    ],
)
def test_inputs_are_read_at_the_drawn_area_in_their_own_aspect(
    given: tuple[int, int], read: tuple[int, int]
) -> None:
    assert input_size(Native(), Size(*given), Size(1024, 1024)) == Size(*read)


def test_a_bucketed_checkpoint_reads_inputs_at_the_size_it_draws() -> None:
    native = Native(Canvas.BUCKET, buckets=((128, 128), (128, 192), (224, 96)))
    assert input_size(native, Size(300, 900), Size(224, 96)) == Size(224, 96)


def test_one_that_was_taught_mixed_sizes_reads_every_input_at_the_bucket_of_its_own_aspect() -> None:
    assert input_size(MINIATURE, Size(600, 900), Size(224, 96)) == Size(128, 192)
    assert input_size(MINIATURE, Size(700, 700), Size(224, 96)) == Size(128, 128)


def test_a_bucket_canvas_without_buckets_is_refused() -> None:
    with pytest.raises(ValueError, match="buckets"):
        Native(canvas=Canvas.BUCKET)


def test_transparent_parts_are_delivered_white_and_the_size_is_the_asked_one() -> None:
    clear = Image.new("RGBA", (64, 32), (255, 0, 0, 0))
    made = from_canvas(clear, Size(50, 31), crop=False)
    assert made == Raster(Size(50, 31), 3, b"\xff" * (50 * 31 * 3))


def test_a_surplus_is_cut_from_both_sides_when_cropping_and_squeezed_when_not() -> None:
    striped = Image.new("RGB", (6, 2), "black")
    striped.paste("white", (1, 0, 5, 2))
    assert set(from_canvas(striped, Size(4, 2), crop=True).data) == {255}
    assert set(from_canvas(striped, Size(4, 2), crop=False).data) != {255}


def test_a_picture_smaller_than_asked_is_enlarged() -> None:
    assert from_canvas(Image.new("RGB", (128, 128), "red"), Size(512, 512), crop=True).size == Size(512, 512)


def test_an_rgb_raster_becomes_an_opaque_canvas() -> None:
    canvas = to_canvas(Raster(Size(3, 2), 3, bytes(range(18))), Size(3, 2))
    assert canvas.mode == "RGBA"
    assert canvas.getchannel("A").getextrema() == (255, 255)
    assert canvas.convert("RGB").tobytes() == bytes(range(18))
