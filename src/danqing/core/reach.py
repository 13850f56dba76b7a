"""What workers could ever make, by the memory they have, and the refusal of an order that none of them could. Pure:
knows no device and no family; workers tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from danqing.core.errors import BadOrder
from danqing.core.raster import Size

Span = tuple[int, int]
"""Pixels of one picture: so many surely fit, and so many or more never will. Between them it depends on the aspect."""
Reach = Mapping[str, tuple[Span, ...]]
"""What one worker tells, by API name ("*" for all others): the span from no input picture, from one, and so on up to
the most that are looked at together."""

_EVERY = "*"


def require(reaches: Iterable[Reach], model: str, inputs: int, size: Size | None = None) -> None:
    """Raises BadOrder if no worker that is there could ever make such a picture, with what would fit; of a size that is
    not known yet nothing is said. Where nobody is there, or one of them tells nothing of the model, it may pass."""
    told = [reach.get(model) or reach.get(_EVERY) for reach in reaches]
    spans = [one for one in told if one]
    if not spans or len(spans) < len(told):
        return
    most = max(map(len, spans)) - 1
    if inputs > most:
        raise BadOrder(
            f"images: what stands behind {model} here looks at {most} input images at most, and {inputs} were given.",
            field="images",
        )
    fits, never = (
        max(bounds) for bounds in zip(*(one[inputs] for one in spans if inputs < len(one)), strict=True)
    )
    if size is not None and size.area >= never:
        beside = f" beside {inputs} input images" if inputs else ""
        like = _like(size, fits)
        raise BadOrder(
            f"size: {size.width}*{size.height}{beside} needs more memory than there is here; "
            + (f"{like.width}*{like.height} would fit." if fits else "no size would fit."),
            field="size",
        )


def _like(size: Size, area: int) -> Size:
    """A size of no more than that area in about the same aspect; its sides are multiples of 32 where they can be, which
    nobody rounds up."""
    width = math.isqrt(area * size.width // size.height)
    height = math.isqrt(area * size.height // size.width)
    return Size(*(side // 32 * 32 or max(1, side) for side in (width, height)))
