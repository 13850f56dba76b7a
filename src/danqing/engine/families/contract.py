"""What the loop asks of a model family. Knows no family and no thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from danqing.core.events import Work
from danqing.core.raster import Raster, Size
from danqing.engine.cache import Budget
from danqing.engine.canvas import drawn_size, input_size
from danqing.engine.language import Language
from danqing.profiles.loader import Native, Preset
from danqing.schedule.cost import Bill, Stage


@dataclass(frozen=True, slots=True)
class Plan:
    """A work made definite for one checkpoint: where it is drawn, in how many steps, guided how. `negative`
    is None without guidance; `inputs` are the sizes the input pictures are read at, `digests` name their
    content; `native` says how pictures are fitted."""

    work: Work
    drawn: Size
    inputs: tuple[Size, ...]
    digests: tuple[str, ...]
    steps: int
    guidance: float
    negative: str | None
    native: Native
    adapter: str | None = None
    """Which of the checkpoint's adapters is worn; None for none."""
    strength: float = 1.0
    """The share of the steps that are taken, from the input noised as far; 1 for all, from noise alone."""
    preset: str = ""
    """The name of what says all this in the profile."""


STRENGTH = "strength"
"""The knob that says how far an edit may go from its input, from 0 to 1."""

_NEUTRAL = " "


def plan(work: Work, preset: Preset, native: Native) -> Plan:
    """How `work` will be made. A blank negative prompt counts as none; without one, guidance above 1 steers away from
    the preset's, or from the neutral prompt, a single space."""
    given = work.negative_prompt if work.negative_prompt and work.negative_prompt.strip() else None
    guidance = preset.guidance if given is None else preset.guidance_negative
    drawn = drawn_size(native, work.size)
    return Plan(
        work=work,
        drawn=drawn,
        inputs=tuple(input_size(native, raster.size, drawn) for raster in work.inputs),
        digests=tuple(raster.digest() for raster in work.inputs),
        steps=preset.steps,
        guidance=guidance,
        negative=(given or preset.negative or _NEUTRAL) if guidance > 1 else None,
        native=native,
        adapter=preset.adapter,
        strength=_strength(work),
        preset=preset.name,
    )


def _strength(work: Work) -> float:
    asked = work.knobs.get(STRENGTH)
    return float(asked) if work.inputs and isinstance(asked, float) else 1.0


def skipped(plan: Plan, steps: int) -> int:
    """Of `steps` denoising steps those that are not taken, because the picture begins as its input, noised, and not as
    noise alone."""
    return steps - max(1, math.ceil(steps * plan.strength - 1e-9))


class Family(Protocol):
    """The stages of one checkpoint's modules. Every method runs on the engine thread, one at a time.
    `conditions`, `prefix` and `lane` are the family's own; the loop only carries them."""

    language: Language | None
    """The text encoder as a language model; None if it is none."""
    device: torch.device
    """Where it computes, wherever its modules lie meanwhile."""
    most_inputs: int
    """The most input pictures that checkpoints of this kind look at together."""
    vae: Any
    """The autoencoder: what latents mean is its own."""

    @property
    def modules(self) -> Mapping[str, Any]:
        """All that holds weights, the `transformer` among them, in main memory when it is new: whoever loads a family
        settles them on the device (`engine.settle`)."""
        ...

    def adopt(self, name: str, file: Path, schedule: Mapping[str, float]) -> None:
        """Read in an adapter that works may ask for, with what it changes in the schedule. Raises ValueError."""
        ...

    def steps(self, plan: Plan) -> int:
        """Denoising steps of one picture."""
        ...

    def tokens(self, plan: Plan) -> int:
        """What a step of one picture puts through the transformer: its own tokens, and those of the inputs where they
        go with it in every step."""
        ...

    def bill(self, plan: Plan, stage: Stage, lanes: int = 1) -> Bill:
        """What one unit of that stage costs: by the plan, and before the first step by what is remembered."""
        ...

    @property
    def changes(self) -> int:
        """How often what is remembered has changed: until it does again, bills hold."""
        ...

    def passing(self, plan: Plan) -> int:
        """Bytes that the hungriest unit needs while it runs and gives back."""
        ...

    def encode(self, plan: Plan) -> Any:
        """Read the prompts and the input pictures, once for all pictures and guidance branches of a work."""
        ...

    def prefill(self, plan: Plan, conditions: Any) -> Any:
        """What all steps of all pictures share."""
        ...

    def begin(self, plan: Plan, prefix: Any, index: int) -> Any:
        """Picture `index` as noise of `seed + index`, or as its input with so much of that noise."""
        ...

    def company(self, plan: Plan) -> Hashable:
        """What works must have alike for their pictures to be stepped together; any two of one work have."""
        ...

    def step(self, plan: Plan, lanes: Sequence[Any]) -> None:
        """Advance each lane by one denoising step; `plan` is the first one's. Raises NotFinite if numbers of some ran
        away; the others have advanced."""
        ...

    def latents(self, picture: Image.Image) -> torch.Tensor:
        """An RGBA canvas as normalised latents (1, tokens, channels), tokens row by row."""
        ...

    def predicted(self, lane: Any) -> torch.Tensor:
        """The clean latents (1, tokens, channels) that a lane's last step foresaw; only after a step."""
        ...

    def decode(self, plan: Plan, lane: Any) -> Raster:
        """The finished picture at the asked size."""
        ...

    def forget(self, plan: Plan | None = None) -> None:
        """Remember nothing of that work's inputs any more, or nothing at all, and give the memory back."""
        ...

    def sound(self) -> bool:
        """Whether the device still computes. After some faults it never does again in the same process."""
        ...

    def figures(self) -> Mapping[str, float]:
        """What was remembered and found again, as counts and bytes by name."""
        ...


NOT_FINITE = "the latents are no longer finite numbers"


class NotFinite(ArithmeticError):
    """Latents turned into NaN or infinity: those of `lanes`, where it is known which."""

    def __init__(self, message: str, lanes: tuple[Any, ...] = ()) -> None:
        """Some lanes cannot go on."""
        super().__init__(message)
        self.lanes = lanes


Opener = Callable[[Path, torch.device, torch.dtype, Budget], Family]
"""Builds a family from a checked folder, a device, a number format, and how many bytes it may remember."""
