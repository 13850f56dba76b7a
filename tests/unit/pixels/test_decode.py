"""Golden pixels: what becomes of every format and mode. In this process; the confinement is tested elsewhere."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from danqing.core.errors import InputOutOfBounds, InputUndecodable
from danqing.core.raster import Size
from danqing.pixels import decode as room
from danqing.pixels.decode import FORMATS, KEEP_AREA, Picture
from tests.support import pictures


@pytest.fixture(autouse=True, scope="module")
def _prepared() -> None:
    room.prepare()


def decode(data: bytes, *, alpha: bool = False) -> Picture:
    return room.decode(data, FORMATS, alpha=alpha)


def pixels(data: bytes, *, alpha: bool = False) -> list[tuple[int, ...]]:
    raster = decode(data, alpha=alpha).raster
    step = raster.channels
    return [tuple(raster.data[at : at + step]) for at in range(0, len(raster.data), step)]


def close(seen: bytes, wanted: bytes, by: int) -> bool:
    return len(seen) == len(wanted) and all(abs(a - b) <= by for a, b in zip(seen, wanted, strict=True))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_a_lossless_file_gives_exactly_its_pixels(name: str, options: dict[str, object]) -> None:
    image = pictures.colours()
    picture = decode(pictures.save(image, name, **options))
    assert (picture.raster.data, picture.original, picture.format) == (image.tobytes(), Size(6, 4), name)


def test_a_gif_gives_exactly_its_palette_colours() -> None:
    image = pictures.colours()
    assert decode(pictures.save(image.quantize(24), "GIF")).raster.data == image.tobytes()


@pytest.mark.parametrize("options", [{"quality": 95}, {"quality": 95, "progressive": True}])
def test_a_jpeg_gives_its_pixels_up_to_its_own_loss(options: dict[str, object]) -> None:
    image = pictures.blocks()
    picture = decode(pictures.save(image, "JPEG", subsampling=0, **options))
    assert picture.format == "JPEG"
    assert close(picture.raster.data, image.tobytes(), 4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_every_orientation_comes_out_upright(name: str, orientation: int) -> None:
    upright = pictures.blocks()
    turn = pictures.STORED_AS[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(name, {})
    picture = decode(pictures.save(stored, name, exif=pictures.exif(orientation), **options))
    assert picture.original == picture.raster.size == Size(64, 32)
    assert close(picture.raster.data, upright.tobytes(), 4 if name == "JPEG" else 0)


def test_an_orientation_that_does_not_exist_is_ignored() -> None:
    image = pictures.colours()
    assert decode(pictures.save(image, "PNG", exif=pictures.exif(99))).raster.data == image.tobytes()


def test_unreadable_exif_is_as_good_as_none() -> None:
    image = pictures.blocks()
    for junk in (
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0junk",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03",
    ):
        data = pictures.save(image, "JPEG", quality=95, subsampling=0, exif=junk)
        assert close(decode(data).raster.data, image.tobytes(), 4)


def test_one_bit_gray_becomes_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert pixels(pictures.save(image, "PNG")) == [(0, 0, 0), (255, 255, 255)]


def test_gray_becomes_gray() -> None:
    assert pixels(pictures.save(Image.new("L", (1, 1), 77), "PNG")) == [(77, 77, 77)]


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (255, 0, 0, 128)), ("LA", (0, 128))])
def test_transparency_is_laid_on_white(mode: str, colour: tuple[int, ...]) -> None:
    red = 255 if mode == "RGBA" else 127
    assert pixels(pictures.save(Image.new(mode, (1, 1), colour), "PNG")) == [(red, 127, 127)]


def test_transparency_is_kept_where_the_model_reads_it() -> None:
    data = pictures.save(Image.new("RGBA", (1, 1), (9, 8, 7, 6)), "PNG")
    assert pixels(data, alpha=True) == [(9, 8, 7, 6)]


def test_an_opaque_picture_stays_rgb_even_where_the_model_reads_transparency() -> None:
    assert pixels(pictures.save(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), alpha=True) == [(9, 8, 7)]


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = Image.frombytes("P", (2, 1), b"\0\1")
    image.putpalette([10, 20, 30, 40, 50, 60])
    for name, transparency in (("PNG", 1), ("PNG", b"\xff\0"), ("GIF", 1)):
        data = pictures.save(image, name, transparency=transparency)
        assert pixels(data) == [(10, 20, 30), (255, 255, 255)]


def test_a_transparent_colour_key_becomes_white() -> None:
    image = pictures.colours(2, 1)
    first = image.getpixel((0, 0))
    assert pixels(pictures.save(image, "PNG", transparency=first))[0] == (255, 255, 255)


def test_sixteen_bit_gray_png_is_scaled_not_clipped() -> None:
    rows = b"\0" + struct.pack(">4H", 0, 0x0100, 0x8000, 0xFFFF)
    assert [gray for gray, _, _ in pixels(pictures.raw_png(4, 1, 16, 0, rows))] == [0, 1, 128, 255]


def test_the_transparent_grey_of_sixteen_bits_becomes_white_and_its_neighbours_do_not() -> None:
    rows = b"\0" + struct.pack(">3H", 0x8000, 0x8001, 0)
    clear = pictures.chunk(b"tRNS", struct.pack(">H", 0x8000))
    assert [grey for grey, _, _ in pixels(pictures.raw_png(3, 1, 16, 0, rows, before=clear))] == [255, 128, 0]


def test_sixteen_bit_colour_and_alpha_png_are_scaled_not_clipped() -> None:
    rgb = pictures.raw_png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x8000, 0x4000, 0xFFFF))
    assert pixels(rgb) == [(128, 64, 255)]
    gray_alpha = pictures.raw_png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 0x8000, 0xFFFF))
    assert pixels(gray_alpha) == [(128, 128, 128)]


def test_sixteen_and_twelve_bit_tiff_are_scaled_not_clipped() -> None:
    sixteen = pictures.gray_tiff(3, 1, 16, struct.pack("<3H", 0, 0x8000, 0xFFFF))
    assert [gray for gray, _, _ in pixels(sixteen)] == [0, 128, 255]
    twelve = pictures.gray_tiff(2, 1, 12, bytes([0x80, 0x0F, 0xFF]))
    assert [gray for gray, _, _ in pixels(twelve)] == [128, 255]


@pytest.mark.parametrize(
    ("values", "grays"),
    [
        ((0.0, 0.5, 1.0), [0, 128, 255]),
        ((0.0, 127.0, 255.0), [0, 127, 255]),
        ((0.0, 32896.0, 65535.0), [0, 128, 255]),
        ((-1.0, 0.0, 1.0), [0, 128, 255]),
        ((0.0, 0.0, 0.0), [0, 0, 0]),
    ],
)
def test_float_tiff_is_scaled_not_clipped(values: tuple[float, ...], grays: list[int]) -> None:
    image = Image.frombytes("F", (3, 1), struct.pack("<3f", *values))
    assert [gray for gray, _, _ in pixels(pictures.save(image, "TIFF"))] == grays


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_float_picture_that_is_not_numbers_is_refused(value: float) -> None:
    image = Image.frombytes("F", (2, 1), struct.pack("<2f", value, 0.0))
    with pytest.raises(InputUndecodable):
        decode(pictures.save(image, "TIFF"))


def test_thirty_two_bit_integers_are_scaled_not_clipped() -> None:
    image = Image.frombytes("I", (3, 1), struct.pack("<3i", 0, 32896, 65535))
    assert [gray for gray, _, _ in pixels(pictures.save(image, "TIFF"))] == [0, 128, 255]


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(name: str) -> None:
    data = pictures.save(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), name)
    assert close(bytes(pixels(data)[0]), bytes((0, 255, 255)), 3)


def test_lab_becomes_srgb() -> None:
    data = pictures.save(Image.new("LAB", (1, 1), (255, 128, 128)), "TIFF")
    (pixel,) = pixels(data)
    assert min(pixel) > 200


def test_a_profile_is_applied() -> None:
    for image, space in (
        (Image.new("RGB", (1, 1), (128, 0, 255)), b"RGB "),
        (Image.new("L", (1, 1), 128), b"GRAY"),
    ):
        (pixel,) = pixels(pictures.save(image, "PNG", icc_profile=pictures.linear_profile(space)))
        assert pixel == ((188, 0, 255) if image.mode == "RGB" else (188, 188, 188))


def test_a_profile_leaves_transparency_alone() -> None:
    image = Image.new("RGBA", (1, 1), (128, 128, 128, 99))
    data = pictures.save(image, "PNG", icc_profile=pictures.linear_profile())
    assert pixels(data, alpha=True) == [(188, 188, 188, 99)]


@pytest.mark.parametrize(
    "profile",
    [
        b"junk",
        pictures.linear_profile()[:200],
        pictures.linear_profile(b"CMYK"),
        pictures.linear_profile(b"GRAY"),
    ],
)
def test_a_profile_that_cannot_be_used_is_ignored(profile: bytes) -> None:
    image = pictures.colours()
    assert decode(pictures.save(image, "PNG", icc_profile=profile)).raster.data == image.tobytes()


def test_a_profile_above_four_megabytes_is_ignored() -> None:
    padded = pictures.linear_profile() + bytes(room.MAX_PROFILE)
    image = Image.new("RGB", (8, 8), (128, 128, 128))
    data = pictures.save(image, "TIFF", icc_profile=padded)
    assert pixels(data)[0] == (128, 128, 128)


def test_only_the_first_frame_counts() -> None:
    first, second = pictures.colours(), Image.new("RGB", (6, 4), (1, 2, 3))
    for name, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        data = pictures.save(first, name, save_all=True, append_images=[second] * 3, **options)
        assert decode(data).raster.data == first.tobytes(), name
    gif = pictures.save(first.quantize(24), "GIF", save_all=True, append_images=[second] * 3)
    assert decode(gif).raster.data == first.tobytes()


def test_a_file_of_several_jpegs_is_its_first_one() -> None:
    first = pictures.blocks()
    data = pictures.save(
        first, "MPO", quality=95, subsampling=0, save_all=True, append_images=[first.rotate(180)]
    )
    picture = decode(data)
    assert picture.format == "JPEG"
    assert close(picture.raster.data, first.tobytes(), 4)


def test_a_large_picture_is_shrunk_and_its_own_size_reported() -> None:
    picture = decode(pictures.flat_png(4096, 2048))
    assert (picture.original, picture.raster.size) == (Size(4096, 2048), Size(2896, 1448))
    assert picture.raster.size.area <= KEEP_AREA


def test_the_largest_picture_that_is_kept_is_kept_whole() -> None:
    picture = decode(pictures.flat_png(2048, 2048))
    assert picture.raster.size == picture.original == Size(2048, 2048)


def test_shrinking_keeps_flat_colours_and_transparency_exact() -> None:
    data = pictures.save(Image.new("RGBA", (3000, 2000), (200, 100, 50, 128)), "PNG", compress_level=1)
    raster = decode(data, alpha=True).raster
    assert raster.size.area <= KEEP_AREA
    assert close(raster.data[:4], bytes((200, 100, 50, 128)), 1)


@pytest.mark.parametrize(("width", "height"), [(8000, 8000), (16384, 1)])
def test_a_picture_at_the_limit_is_read(width: int, height: int) -> None:
    assert decode(pictures.flat_png(width, height)).original == Size(width, height)


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (16385, 1), (1, 16385), (2**31 - 1, 2**31 - 1)])
def test_a_picture_above_the_limit_is_refused_by_its_head(width: int, height: int) -> None:
    with pytest.raises(InputOutOfBounds):
        decode(pictures.raw_png(width, height, 8, 2, b""))


def test_a_jpeg_of_endless_scans_is_refused_before_the_first() -> None:
    assert decode(pictures.scans(20)).original == Size(2048, 2048)
    with pytest.raises(InputUndecodable):
        decode(pictures.scans(400))


@pytest.mark.parametrize("name", ["PPM", "ICO", "TGA", "PDF", "EPS", "PCX", "SGI", "JPEG2000", "AVIF"])
def test_other_formats_are_not_read(name: str) -> None:
    with pytest.raises(InputUndecodable):
        decode(pictures.save(Image.new("RGB", (32, 32)), name))


def test_a_format_that_the_model_does_not_take_is_not_read() -> None:
    data = pictures.save(pictures.colours(), "PNG")
    with pytest.raises(InputUndecodable):
        room.decode(data, frozenset({"JPEG", "PPM"}))


def test_nothing_but_pixels_comes_out() -> None:
    note = "canary-7f3a"
    data = pictures.save(pictures.colours(), "JPEG", comment=note.encode(), exif=pictures.exif(1))
    assert note.encode() not in decode(data).raster.pack()
