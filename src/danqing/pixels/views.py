"""Smaller copies of pictures, for whoever only has to look at them. Knows nothing of who that is."""

from __future__ import annotations

from PIL import Image

from danqing.core.raster import Raster, Size


def view(raster: Raster, side: int) -> Raster:
    """The picture with its longer side at most `side` pixels, by Lanczos, keeping the aspect; as it is if it fits.
    Pixels that are transparent do not colour their neighbours. Takes processor time; call it in a thread."""
    width, height = raster.size.width, raster.size.height
    longer = max(width, height)
    if longer <= side:
        return raster
    mode = "RGB" if raster.channels == 3 else "RGBA"
    small = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    image = Image.frombuffer(mode, (width, height), raster.data)
    shrunk = image.resize(small, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return Raster(Size(*small), raster.channels, shrunk.tobytes())
