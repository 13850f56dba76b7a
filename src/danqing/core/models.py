"""What the catalogue says of an API model: limits, defaults, price. Data only; knows no protocol and no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from danqing.core.raster import Size


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Which sizes may be asked, and what is made when none is.

    `presets` (if any) are the only sizes, `sides` bounds each side, `area` the product, `ratio` width over height;
    all bounds are inclusive. `multiple` rounds each side of an explicit size to its nearest multiple, halves to even.
    `default` is the size made without inputs; `default_area` the pixels made with the aspect of the last input.
    """

    settable: bool = True
    presets: tuple[Size, ...] = ()
    sides: tuple[int, int] | None = None
    area: tuple[int, int] | None = None
    ratio: tuple[float, float] | None = None
    multiple: int = 1
    default: Size | None = None
    default_area: int | None = None


@dataclass(frozen=True, slots=True)
class InputRule:
    """Bounds on one input picture. `formats` are Pillow's names; `max_bytes` counts the file, `max_item` the encoded
    data URI. `sides` and `ratio` are checks, not recommendations; None for unchecked."""

    formats: frozenset[str] = frozenset({"JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"})
    max_bytes: int = 10 * 1024 * 1024
    max_item: int = 10_485_760
    sides: tuple[int, int] | None = None
    ratio: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class KnobRule:
    """One extra parameter: its type, bounds and default."""

    type: str
    default: bool | int | float | str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Price:
    """Per delivered picture. `currency` is ISO 4217."""

    amount: float = 0.0
    currency: str = "CNY"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` submits per `seconds`."""

    limit: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Model:
    """One API model name. `family` is the key of its rules and response shape; `routes` maps a wire route's key to
    the modes it is served in there ("sync", "async")."""

    name: str
    family: str
    routes: Mapping[str, frozenset[str]]
    images: tuple[int, int]
    count: tuple[int, int]
    default_count: int = 1
    prompt_chars: int = 800
    negative_chars: int = 500
    size: SizeRule = SizeRule()
    inputs: InputRule = InputRule()
    knobs: Mapping[str, KnobRule] = field(default_factory=lambda: MappingProxyType({}))
    price: Price = Price()
    free_quota: int | None = None
    rate: Rate | None = None
    alias_of: str | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Wire-visible words that differ by model, such as the internal name that an error message shows."""
