"""What is done to a decoded picture before it leaves the engine. Knows no family and no job."""

from __future__ import annotations

from danqing.core.events import Work
from danqing.core.raster import Raster
from danqing.engine.inpaint import put_back
from danqing.engine.palette import Palette, recoloured

PALETTE = "color_palette"
"""The knob that carries a palette in the form of `Palette.parse`."""


def finished(raster: Raster, work: Work) -> Raster:
    """The picture in the palette that was asked for, if one was, and inside the mask only, if there is one."""
    raster = _recoloured(raster, work)
    return raster if work.mask is None else put_back(raster, work.inputs[work.edited], work.mask)


def _recoloured(raster: Raster, work: Work) -> Raster:
    """The picture in the palette that was asked for, if one was."""
    asked = work.knobs.get(PALETTE)
    return recoloured(raster, Palette.parse(asked)) if isinstance(asked, str) else raster
