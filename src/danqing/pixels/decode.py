"""Untrusted bytes to sRGB pixels: the function that runs inside a decoder process. Knows no process and no limits
but those of the picture itself.

    open (six formats, size check) → load frame 1 → 8 bits a channel → shrink → turn upright → ICC to sRGB → white

Pictures above `KEEP_AREA` are shrunk as soon as they have 8 bits a channel and before anything copies them again,
so that 64 megapixels with alpha and a profile stay inside a decoder's memory. Metadata is read for the orientation
and the colours, then dropped; metadata that cannot be read is as good as none.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from math import isfinite, isqrt

from PIL import BmpImagePlugin as _Bmp
from PIL import GifImagePlugin as _Gif
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL import ImageColor as _Color
from PIL import ImagePalette as _Palette
from PIL import WebPImagePlugin as _WebP

from danqing.core.errors import InputFault, InputOutOfBounds, InputUndecodable
from danqing.core.raster import Raster, Size

FORMATS = frozenset({"PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"})
MAX_AREA = 64_000_000
MAX_SIDE = 16_384
KEEP_AREA = 4_194_304
MAX_PROFILE = 4 * 1024 * 1024

# Imported now because a decoder opens no file later: Pillow would import them at the first picture that needs them.
PRELOADED = (_Bmp, _Gif, _WebP, _Color, _Palette)

_MAX_SCANNED = 16 * MAX_AREA
# Of processor time. A head takes milliseconds and a pixel some 30 ns; slow processors are many times slower.
_HEAD_SECONDS = 0.5
_PIXEL_SECONDS = 1e-7
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_METADATA = r"(Possibly c|C)orrupt EXIF data|Metadata Warning|Truncated File Read"
# What Pillow lets out of metadata that lies about itself; `Warning` because warnings are errors here.
_ODD = (
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    OSError,
    struct.error,
    Warning,
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file. `original` is the size of the upright picture before it was shrunk; `format` Pillow's name."""

    raster: Raster
    original: Size
    format: str


def prepare() -> None:
    """Set Pillow up for decoding, once a process: plain JPEG for every JPEG (a multi-picture file's first picture is
    its JPEG), profiles up to `MAX_PROFILE` inside PNG, and every lazy import done."""
    Image.preinit()
    Image.register_open("JPEG", JpegImagePlugin.JpegImageFile, lambda prefix: prefix[:3] == b"\xff\xd8\xff")
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE
    _srgb()


Within = Callable[[float], AbstractContextManager[None]]
"""Bounds what happens inside it to so many seconds of processor time."""


def untimed(_seconds: float) -> AbstractContextManager[None]:
    """Bounds nothing."""
    return nullcontext()


def decode(
    data: bytes, formats: AbstractSet[str], *, alpha: bool = False, within: Within = untimed
) -> Picture:
    """The first frame of an image file as RGB of at most `KEEP_AREA` pixels; with `alpha`, a picture that has
    transparency comes as RGBA instead of on white.

    Raises InputOutOfBounds for more than 64 megapixels or a side above 16,384, before any pixel is read, and
    InputUndecodable for anything that is not an undamaged picture in one of `formats` (Pillow's names), or that
    takes longer than any undamaged picture of its size (`within`, where somebody keeps the time).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=_METADATA, category=UserWarning)
        try:
            return _decode(data, sorted(formats & FORMATS), alpha=alpha, within=within)
        except InputFault:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
            raise InputOutOfBounds from problem
        except Exception as problem:  # boundary: a decoder may raise anything on bytes made to break it
            raise InputUndecodable from problem


def _decode(data: bytes, formats: list[str], *, alpha: bool, within: Within) -> Picture:
    with within(_HEAD_SECONDS):
        opened = Image.open(BytesIO(data), formats=formats)
    with opened:
        name = opened.format or ""
        size = Size(*opened.size)
        _check(size, data if name == "JPEG" else b"")
        with within(_HEAD_SECONDS + size.area * _PIXEL_SECONDS):
            opened.load()
        turn = 1 if name == "TIFF" else _orientation(opened)  # Pillow turned a TIFF while loading it
        profile = opened.info.get("icc_profile")
        image = _narrow(opened)
    original = Size(*image.size) if turn < 5 else Size(*reversed(image.size))
    image = _shrink(image)
    if turn in _TURNS:
        image = image.transpose(_TURNS[turn])
    image = _colour(image, profile)
    if image.mode == "RGBA" and not alpha:
        image = _on_white(image)
    raster = Raster(Size(*image.size), len(image.mode), image.tobytes())
    return Picture(raster, original, name)


def _check(size: Size, jpeg: bytes) -> None:
    """Sizes, and the passes a progressive JPEG makes over its pixels: some 20 MB can hold enough for hours."""
    if size.area > MAX_AREA or max(size.width, size.height) > MAX_SIDE:
        raise InputOutOfBounds
    if jpeg.count(b"\xff\xda") * size.area > _MAX_SCANNED:
        raise InputUndecodable


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none that can be read."""
    with suppress(*_ODD):
        value = image.getexif().get(_ORIENTATION, 1)
        if value in _TURNS:
            return int(value)
    return 1


def _narrow(image: Image.Image) -> Image.Image:
    """The loaded picture in L, LA, RGB, RGBA or CMYK; wider channels are scaled to 8 bits, where Pillow clips."""
    if image.mode.startswith("I;16"):
        grey, clear = _high_byte(image), image.info.get("transparency")
        return grey if not isinstance(clear, int) else _without(grey, image, clear)
    if image.mode in {"I", "F"}:
        return _stretch(image)
    if image.mode == "LAB":
        return (
            ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), _srgb(), outputMode="RGB")
            or image
        )
    if image.has_transparency_data:
        return _in_mode(image, "LA" if image.mode in {"La", "LA"} else "RGBA")
    if image.mode in {"L", "CMYK"}:
        return image
    return _in_mode(image, "L" if image.mode == "1" else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Pillow's convert, which copies even where there is nothing to convert."""
    return image if image.mode == mode else image.convert(mode)


def _high_byte(image: Image.Image) -> Image.Image:
    """16 bits to 8 as Pillow does it for 16-bit RGB: the high byte. 12-bit TIFF is widened first."""
    bits = (
        image.tag_v2.get(_BITS_PER_SAMPLE, (16,))
        if isinstance(image, TiffImagePlugin.TiffImageFile)
        else (16,)
    )
    wide = image.point(lambda value: value * 16) if bits[0] == 12 else image
    high = wide.tobytes()[0 if wide.mode.endswith("B") else 1 :: 2]
    return Image.frombytes("L", image.size, high)


def _without(grey: Image.Image, wide: Image.Image, clear: int) -> Image.Image:
    """The grey picture, given alpha: nothing where the 16-bit one has that value, all elsewhere."""
    table = [255] * 65_536
    table[clear] = 0
    grey.putalpha(wide.convert("I").point(table, "L"))
    return grey


def _stretch(image: Image.Image) -> Image.Image:
    """32-bit integers and floats to 8 bits. White is 1, 255 or 65,535, the first that covers the picture; with
    negative or larger values the picture's own range is stretched."""
    low, high = (float(value) for value in image.getextrema() if not isinstance(value, tuple))
    if not (isfinite(low) and isfinite(high)):
        raise InputUndecodable
    floats = image.convert("F")
    tops = (1.0, 255.0, 65_535.0) if image.mode == "F" else (255.0, 65_535.0)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is not None:
        low, high = 0.0, top
    scale = 255.0 / (high - low)
    return floats.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")


def _shrink(image: Image.Image) -> Image.Image:
    """At most `KEEP_AREA` pixels, by Lanczos, keeping the aspect."""
    width, height = image.size
    if width * height <= KEEP_AREA:
        return image
    size = max(1, isqrt(KEEP_AREA * width // height)), max(1, isqrt(KEEP_AREA * height // width))
    return image.resize(size, Image.Resampling.LANCZOS)


def _colour(image: Image.Image, profile: object) -> Image.Image:
    """RGB or RGBA in sRGB. A profile that is too large, broken or of another colour space is ignored."""
    alpha = image.getchannel("A") if image.mode in {"LA", "RGBA"} else None
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE:
        with suppress(ImageCms.PyCMSError, *_ODD):
            plain = image if alpha is None else image.convert(image.mode[:-1])
            image = _by_profile(plain, profile)
            if alpha is not None:
                image.putalpha(alpha)
            return image
    return _in_mode(image, "RGB" if alpha is None else "RGBA")


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    if (source.profile.profile_description or "").startswith("sRGB") and image.mode == "RGB":
        return image
    converted = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
    if converted is None:
        raise ValueError("the profile was applied to nothing")
    return converted


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white
