"""Parameters that are lists: a palette of colours with their shares, and boxes in the input pictures. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from danqing.core.errors import BadOrder
from danqing.wire.dashscope.refusals import wrong

COLOURS = (3, 10)
BOXES = 2
"""Boxes in one input picture."""

WHOLE = 10_000
"""A share of everything, in hundredths of a percent."""

_HEX = re.compile(r"#?[0-9A-Fa-f]{6}")
_SHARE = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")


def palette(name: str, value: object, _: int) -> str:
    """Three to ten of `{"hex": "#C2D1E6", "ratio": "23.51%"}` whose shares make a whole; a share may also be a number,
    of percent or of one. Returns the
    knob, `#c2d1e6 2351, …` with shares in hundredths of a percent. Raises BadOrder."""
    low, high = COLOURS
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise wrong(name, f"a list of {low} to {high} colours")
    shares = [_share(name, item) for item in value]
    whole = {WHOLE} if any(isinstance(item["ratio"], str) for item in value) else {WHOLE, WHOLE // 100}
    if sum(shares) not in whole:
        raise BadOrder(f"The ratios of {name} must sum to 100.00%", field=f"parameters.{name}")
    colours = [str(item["hex"]).lstrip("#").lower() for item in value]
    return ", ".join(f"#{colour} {share}" for colour, share in zip(colours, shares, strict=True))


def boxes(name: str, value: object, pictures: int) -> None:
    """A list for each input picture, of up to two boxes `[x1, y1, x2, y2]` in its own pixels. Raises BadOrder."""
    if not isinstance(value, list) or len(value) != pictures:
        raise BadOrder(
            f"The length of {name} must equal the number of input images ({pictures})",
            field=f"parameters.{name}",
        )
    for place, found in enumerate(value):
        if not isinstance(found, list) or len(found) > BOXES:
            raise wrong(name, f"at most {BOXES} boxes for each image", f"parameters.{name}[{place}]")
        if not all(_is_box(box) for box in found):
            raise wrong(name, "boxes of [x1, y1, x2, y2] in pixels", f"parameters.{name}[{place}]")


CHECKS: Mapping[str, Callable[[str, object, int], str | None]] = MappingProxyType(
    {"palette": palette, "boxes": boxes}
)


def _share(name: str, item: object) -> int:
    """One colour's share, in hundredths of a percent."""
    if not isinstance(item, dict) or not _HEX.fullmatch(str(item.get("hex"))):
        raise wrong(name, "colours of a hex such as #C2D1E6 and a ratio such as 23.51%")
    ratio = item.get("ratio")
    if isinstance(ratio, int | float) and not isinstance(ratio, bool) and 0 <= ratio <= 100:
        return round(ratio * 100)
    match = _SHARE.fullmatch(ratio) if isinstance(ratio, str) else None
    if match is None:
        raise wrong(name, "colours of a hex such as #C2D1E6 and a ratio such as 23.51%")
    return int(match[1]) * 100 + int((match[2] or "0").ljust(2, "0"))


def _is_box(box: object) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in box):
        return False
    return bool(box[0] < box[2] and box[1] < box[3])
