"""What was asked, in our terms. Knows no protocol: foreign names stay in `wire`, limits in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from danqing.core.raster import Size

Knob = bool | int | float | str


def no_knobs() -> Mapping[str, Knob]:
    """An empty, read-only set of knobs."""
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Inline:
    """An input picture that came with the request: the file's bytes, still untrusted."""

    data: bytes = field(repr=False)
    mime: str = ""


@dataclass(frozen=True, slots=True)
class Remote:
    """An input picture somewhere else: an http or https URL as given, still untrusted."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An input picture that its owner sent ahead: the name of the upload, as given."""

    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Taken:
    """An input picture that is safely in the store: its `Raster.digest`, and the size of the upright picture as it
    came, which may be larger than the raster kept of it."""

    digest: str
    size: Size


Source = Inline | Remote | Uploaded | Taken


Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of an upright picture as it came; right and bottom are just outside."""

Margins = tuple[float, float, float, float]
"""How far a canvas reaches beyond its picture above, below, left and right, in heights and widths of the picture."""


@dataclass(frozen=True, slots=True)
class Order:
    """One request for `count` pictures.

    `sources` keep their order ("image 1", "image 2"); `size` is None where the model's default applies, which may
    follow the last input; `area` asks for about so many pixels with the last input's aspect instead; `seed` is None
    where the service chooses; image i uses `seed + i`.
    `knobs` are the model's extra parameters, declared and range-checked in the catalogue.

    `mask` says where the first source may change: white there, black elsewhere. `boxes` are those of each source, in
    order, or none at all: the last source, whose aspect the pictures follow, may change inside its boxes only; of
    another source only what its boxes hold together is meant. `margins` extend the first source, which stays as it
    is; `enlarge` multiplies the sides of a picture that is made as large as its input.
    """

    model: str
    prompt: str
    negative_prompt: str | None = None
    sources: tuple[Source, ...] = ()
    count: int = 1
    size: Size | None = None
    area: int | None = None
    seed: int | None = None
    watermark: bool = False
    knobs: Mapping[str, Knob] = field(default_factory=no_knobs)
    mask: Source | None = None
    boxes: tuple[tuple[Box, ...], ...] = ()
    margins: Margins | None = None
    enlarge: int = 1


@dataclass(frozen=True, slots=True)
class Mask:
    """Where an input may change: the name of a raster of one channel and of the input's size (255 may change, 0 stays),
    and the input's place."""

    digest: str
    of: int = 0


@dataclass(frozen=True, slots=True)
class Brief:
    """An order made definite, as the store keeps it and a worker receives it: every default resolved, the inputs
    normalised and named by content (`Raster.digest`), in order. Holds no untrusted byte."""

    model: str
    prompt: str
    negative_prompt: str | None
    inputs: tuple[str, ...]
    count: int
    size: Size
    seed: int
    watermark: bool = False
    knobs: Mapping[str, Knob] = field(default_factory=no_knobs)
    mask: Mask | None = None

    @property
    def rasters(self) -> tuple[str, ...]:
        """Every raster that making the pictures takes, each once."""
        return tuple(dict.fromkeys((*self.inputs, *([self.mask.digest] if self.mask is not None else []))))
