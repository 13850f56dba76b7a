"""What the engine is asked to make, and what it tells on the way. Plain data between threads and processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from danqing.core.errors import Fault
from danqing.core.job import Quality
from danqing.core.order import Knob, no_knobs
from danqing.core.raster import Raster, Size


@dataclass(frozen=True, slots=True)
class Work:
    """One job for an engine, known there by its lease token. `size` is the exact size of every picture delivered;
    picture i is made from noise of `seed + i`. `inputs` are RGB or RGBA, in order."""

    token: str
    model: str
    prompt: str
    negative_prompt: str | None
    inputs: tuple[Raster, ...]
    count: int
    size: Size
    seed: int
    tenant: str = ""
    knobs: Mapping[str, Knob] = field(default_factory=no_knobs)
    cost: float = 0.0
    mask: Raster | None = None
    """Where the input at `edited` may change: one channel, of that input's size, 255 there and 0 elsewhere. Every
    other pixel comes out as the input has it, resampled to `size`."""
    edited: int = 0
    priority: int = 0
    """Higher goes before lower among the works of one tenant."""


@dataclass(frozen=True, slots=True)
class Started:
    """The work left the arrivals; `steps` denoising steps will be counted over all its pictures. Its longest unit of
    work should not take more than `unit` seconds, 0 where nobody can say."""

    token: str
    steps: int
    unit: float = 0.0


@dataclass(frozen=True, slots=True)
class Stepped:
    """`step` of `steps` denoising steps are done; `left` is the predicted rest in seconds, None if unknown."""

    token: str
    step: int
    steps: int
    left: float | None = None


@dataclass(frozen=True, slots=True)
class Foretold:
    """The work waits while others advance, or has not begun: `left` is the predicted rest in seconds."""

    token: str
    left: float


@dataclass(frozen=True, slots=True)
class Preview:
    """What picture `index` would be by what is known after `step` of its `steps`: a small RGB raster of the whole
    canvas, at most 256 pixels a side. Told of works that somebody watches, and never needed for anything."""

    token: str
    index: int
    step: int
    steps: int
    raster: Raster


@dataclass(frozen=True, slots=True)
class ImageReady:
    """Picture `index` (from 0) is finished."""

    token: str
    index: int
    raster: Raster


@dataclass(frozen=True, slots=True)
class Finished:
    """Every picture was delivered; `seconds` of engine time were spent on it. `quality` is how it was made."""

    token: str
    seconds: float
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The work was dropped on request; nothing of it will follow."""

    token: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The work ended without its pictures."""

    token: str
    fault: Fault


Event = Started | Stepped | Preview | Foretold | ImageReady | Finished | Cancelled | Failed
