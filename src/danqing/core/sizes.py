"""Which sizes a model accepts and which one it makes. Pure arithmetic on a `SizeRule`; knows no spelling.

Where the numbers come from: the default-size procedure and the rounding of explicit sizes are the wire
contract's, fitted to observed answers (768×1376 at 2048² becomes 1520×2736; 1033×1032 becomes 1040×1024).
"""

from __future__ import annotations

import math
from enum import StrEnum

from danqing.core.models import Model, SizeRule
from danqing.core.order import Order
from danqing.core.raster import Size

STEP = 16
"""Default sizes are multiples of this many pixels: one latent patch of every family served."""

SLIMMEST = 16
"""No default size is wider or taller than this to one. Ours: a sliver must not ask for a side that
no engine can paint."""


MOST = 16_777_216
"""No picture that follows its input has more pixels: those of the largest size that any model takes, 4096²."""


class Breach(StrEnum):
    """Which part of a rule an explicit size breaks."""

    FIXED = "fixed"
    PRESET = "preset"
    SIDES = "sides"
    AREA = "area"
    RATIO = "ratio"


def check(rule: SizeRule, size: Size) -> Breach | None:
    """The first part of the rule that an explicit size breaks, before rounding; None where it is accepted."""
    if not rule.settable:
        return Breach.FIXED
    if size.width < 1 or size.height < 1:
        return Breach.SIDES if rule.sides else Breach.AREA
    if rule.presets and size not in rule.presets:
        return Breach.PRESET
    if rule.sides and not all(_within(rule.sides, side) for side in (size.width, size.height)):
        return Breach.SIDES
    if rule.area and not _within(rule.area, size.area):
        return Breach.AREA
    if rule.ratio and not _within(rule.ratio, size.ratio):
        return Breach.RATIO
    return None


def rounded(size: Size, multiple: int) -> Size:
    """Each side at its nearest multiple, halves to even: at 16, 1032 (64.5) is 1024 and 1033 is 1040."""
    return Size(round(size.width / multiple) * multiple, round(size.height / multiple) * multiple)


def fitted(area: int, like: Size) -> Size:
    """About `area` pixels with the aspect of `like`: √(area·r) by √(area/r), floored to multiples of 16.

    In integers, so that no platform's square root decides: ⌊√x⌋ = isqrt(⌊x⌋).
    """
    width = min(like.width, like.height * SLIMMEST)
    height = min(like.height, like.width * SLIMMEST)
    sides = (math.isqrt(area * width // height), math.isqrt(area * height // width))
    return Size(*(max(STEP, side // STEP * STEP) for side in sides))


def resolve(rule: SizeRule, asked: Size | None, last_input: Size | None) -> Size:
    """The exact size to make: the asked one rounded, or the last input's aspect, or the model's default."""
    if asked is not None:
        return rounded(asked, rule.multiple)
    if last_input is not None and rule.default_area is not None:
        area = min(rule.default_area, last_input.area) if rule.keeps else rule.default_area
        return fitted(area, last_input)
    if rule.default is not None:
        return rule.default
    if rule.default_area is not None:
        return fitted(rule.default_area, Size(1, 1))
    raise ValueError("a size rule names a default size or a default area")


def within(size: Size, most: int = MOST) -> Size:
    """The size itself, or that of its aspect with about `most` pixels, if it has more."""
    if size.area <= most:
        return size
    return Size(
        max(1, math.isqrt(most * size.width // size.height)),
        max(1, math.isqrt(most * size.height // size.width)),
    )


def made(model: Model, order: Order, last_input: Size | None) -> Size:
    """The exact size of an order's pictures, once the size of its last input is known."""
    rule = model.size if last_input is None or model.edit_size is None else model.edit_size
    modes = (mode for name, mode in model.modes.items() if order.knobs.get(name) is True)
    rule = next((mode.size for mode in modes if mode.size is not None), rule)
    if rule.follow and last_input is not None:
        return within(Size(last_input.width * order.enlarge, last_input.height * order.enlarge))
    if order.area is not None:
        return fitted(order.area, last_input if last_input is not None else Size(1, 1))
    return resolve(rule, order.size, last_input)


def _within(bounds: tuple[float, float], value: float) -> bool:
    return bounds[0] <= value <= bounds[1]
