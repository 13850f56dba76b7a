"""Parameters that are lists: a palette of colours with their shares, and boxes in the input pictures. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType

from danqing.core.errors import BadOrder
from danqing.wire.dashscope.refusals import wrong

COLOURS = (3, 10)
BOXES = 2
"""Boxes in one input picture."""

WHOLE = 10_000
"""A share of everything, in hundredths of a percent."""

SLACK = Decimal("0.05")
"""Percent by which numbers may miss the whole: ten shares, each rounded to a hundredth of a percent."""

_HEX = re.compile(r"#?[0-9A-Fa-f]{6}")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?)%")


def palette(name: str, value: object, _: int) -> str:
    """Three to ten of `{"hex": "#C2D1E6", "ratio": "23.51%"}` whose shares make a whole; a share may also be a number,
    of percent or, if all are, of one, and numbers may be off by their own rounding. Returns the knob,
    `#c2d1e6 2351, …` with shares in hundredths of a percent that sum to `WHOLE`. Raises BadOrder."""
    low, high = COLOURS
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise wrong(name, f"a list of {low} to {high} colours")
    shares = [_share(name, item) for item in value]
    numbers = [not isinstance(item["ratio"], str) for item in value]
    total, slack = sum(shares, Decimal(0)), SLACK if any(numbers) else Decimal(0)
    off = min(abs(total - 100), abs(total - 1) * 100) if all(numbers) else abs(total - 100)
    if off > slack:
        raise BadOrder(f"The ratios of {name} must sum to 100.00%", field=f"parameters.{name}")
    colours = [item["hex"].lstrip("#").lower() for item in value]
    return ", ".join(f"#{colour} {share}" for colour, share in zip(colours, _whole(shares), strict=True))


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


def _share(name: str, item: object) -> Decimal:
    """One colour's share as it was written, of a hundred or, for a number, perhaps of one."""
    shape = wrong(name, "colours of a hex such as #C2D1E6 and a ratio such as 23.51%")
    if not isinstance(item, dict) or not isinstance(item.get("hex"), str) or not _HEX.fullmatch(item["hex"]):
        raise shape
    ratio = item.get("ratio")
    if isinstance(ratio, int | float) and not isinstance(ratio, bool) and 0 <= ratio <= 100:
        return Decimal(str(ratio))
    match = _SHARE.fullmatch(ratio) if isinstance(ratio, str) else None
    if match is None:
        raise shape
    return Decimal(match[1])


def _whole(shares: Sequence[Decimal]) -> list[int]:
    """The shares in parts of `WHOLE`, which they sum to: what rounding down leaves goes to the largest remainders."""
    total = sum(shares, Decimal(0))
    exact = [share * WHOLE / total for share in shares]
    parts = [int(part) for part in exact]
    most_left = sorted(range(len(parts)), key=lambda at: parts[at] - exact[at])
    for at in most_left[: WHOLE - sum(parts)]:
        parts[at] += 1
    return parts


def _is_box(box: object) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in box):
        return False
    return bool(box[0] < box[2] and box[1] < box[3])
