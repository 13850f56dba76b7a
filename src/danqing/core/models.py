"""What the catalogue says of an API model: limits, defaults, price. Data only; knows no protocol and no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from danqing.core.raster import Size


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Which sizes may be asked, and what is made when none is.

    `presets` (if any) are the only sizes, `sides` bounds each side, `area` the product, `ratio` width over height;
    all bounds are inclusive. `multiple` rounds each side of an explicit size to its nearest multiple, halves to even.
    `default` is the size made without inputs; `default_area` the pixels made with the aspect of the last input.
    `tokens` are words that stand for so many pixels of that aspect. With `keeps`, `default_area` is the most, and a
    smaller input keeps its own area. With `follow` no size is read at all: the picture is as large as the last input.
    """

    settable: bool = True
    presets: tuple[Size, ...] = ()
    sides: tuple[int, int] | None = None
    area: tuple[int, int] | None = None
    ratio: tuple[float, float] | None = None
    multiple: int = 1
    default: Size | None = None
    default_area: int | None = None
    tokens: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    keeps: bool = False
    follow: bool = False


@dataclass(frozen=True, slots=True)
class InputRule:
    """Bounds on one input picture. `formats` are Pillow's names; `max_bytes` counts the file, `max_item` the encoded
    data URI. `sides` and `ratio` are checks, not recommendations; None for unchecked."""

    formats: frozenset[str] = frozenset({"JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"})
    max_bytes: int = 10 * 1024 * 1024
    max_item: int = 10_485_760
    sides: tuple[int, int] | None = None
    ratio: tuple[float, float] | None = None


class Standing(StrEnum):
    """How far a parameter or a function does here what its documentation says."""

    SAME = "same"
    STAND_IN = "stand-in"
    IDLE = "idle"
    """Checked, and without effect."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class KnobRule:
    """One extra parameter: its type, bounds and default.

    `spelt` takes "true" and "false" for truths; `text_only` are choices refused beside input pictures; `not_with`
    names modes in which the parameter is refused. `standing` and `note` say, for people, what it does here.
    """

    type: str
    default: bool | int | float | str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    spelt: bool = False
    text_only: tuple[str, ...] = ()
    not_with: tuple[str, ...] = ()
    standing: Standing = Standing.IDLE
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModeRule:
    """A mode that one parameter turns on: the limits that then hold instead of the model's own. A refused mode is
    checked like any other, and then not entered.

    `most` is the parameter that says how many pictures are made at most, where that is not the count of `n`;
    `streamed` are the routes that answer in frames of an event stream only, while the mode is on.
    """

    images: tuple[int, int]
    count: tuple[int, int]
    default_count: int
    size: SizeRule | None = None
    most: str | None = None
    streamed: frozenset[str] = frozenset()
    standing: Standing = Standing.SAME
    note: str = ""


@dataclass(frozen=True, slots=True)
class FunctionRule:
    """One named function of an editing model: whether it needs a mask, and its own parameters.

    `extends`: it paints beyond the picture's edges; `enlarges`: its picture has more pixels than it came with.
    `instruction` is what the function itself says to a checkpoint that is told everything in words, by the prompt's
    language ("en", "zh"); it goes before the prompt.
    """

    mask: bool = False
    extends: bool = False
    enlarges: bool = False
    instruction: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    also: tuple[str, ...] = ()
    """Other spellings of its name."""
    knobs: Mapping[str, KnobRule] = field(default_factory=lambda: MappingProxyType({}))
    standing: Standing = Standing.SAME
    note: str = ""


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
    """0 where the model takes no negative prompt."""
    watermark: bool = True
    """Whether a visible mark may be asked for."""
    checks: tuple[str, ...] = ("n", "size")
    """Which of these two values is looked at first."""
    size: SizeRule = SizeRule()
    edit_size: SizeRule | None = None
    """The rule where input pictures are given, if it is another."""
    inputs: InputRule = InputRule()
    knobs: Mapping[str, KnobRule] = field(default_factory=lambda: MappingProxyType({}))
    modes: Mapping[str, ModeRule] = field(default_factory=lambda: MappingProxyType({}))
    functions: Mapping[str, FunctionRule] = field(default_factory=lambda: MappingProxyType({}))
    refuses: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Members of `input` that are documented and not taken here, and why."""
    price: Price = Price()
    free_quota: int | None = None
    rate: Rate | None = None
    alias_of: str | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Wire-visible words that differ by model, such as the internal name that an error message shows."""
    texts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What the service says where a value is refused, where this model says it in other words than most."""

    @property
    def most_images(self) -> int:
        """The most input pictures, in any mode."""
        return max(self.images[1], *(mode.images[1] for mode in self.modes.values()), 0)
