"""What the Qwen-Image families do alike: noise, steps, guidance's two branches, what is held to an input, delivery.

A family says how its transformer is asked for a velocity, and how its pictures become latents and back. Knows none of
them by name.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.engine.cache import Memory
from danqing.engine.canvas import from_canvas, to_canvas
from danqing.engine.families.contract import NOT_FINITE, NotFinite, Plan, skipped
from danqing.engine.families.reading import CONDITIONS, Look, Reader
from danqing.engine.inpaint import Kept, cells
from danqing.engine.language import unmarked
from danqing.schedule.cost import Bill, Stage

PIXELS = 16
"""Pixels to a side of one latent token."""
_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


@dataclass(frozen=True, slots=True)
class Known:
    """What a stage of a work finds remembered: so many of its inputs, from the first, and so many of its prompts."""

    inputs: int = 0
    prompts: int = 0


NOTHING = Known()


class Costs(Protocol):
    """The bills of a checkpoint's stages."""

    def bill(self, plan: Plan, stage: Stage, lanes: int, known: Known) -> Bill:
        """See `Family.bill`; `known` is not done again."""
        ...

    def passing(self, plan: Plan) -> int:
        """See `Family.passing`."""
        ...


class Shared(Protocol):
    """What all steps of a work's pictures share: two branches of the family's own, the second for guidance, and the
    input that the pictures are held to, if they are."""

    @property
    def positive(self) -> Any:
        """Towards the prompt."""
        ...

    @property
    def negative(self) -> Any:
        """Away from the negative one; None without guidance."""
        ...

    @property
    def kept(self) -> Kept | None:
        """See `Kept`."""
        ...


T = TypeVar("T")
P = TypeVar("P", bound=Shared)


@dataclass(slots=True)
class LanePicture(Generic[P]):
    """One picture in progress: its work, latents (1, tokens, channels) and the noise they began as, its own scheduler,
    and at which of its steps it stands."""

    plan: Plan
    latents: torch.Tensor
    noise: torch.Tensor
    scheduler: Any
    prefix: P
    done: int = 0
    velocity: torch.Tensor | None = None
    """What the last step went along, for whoever wants to know where it leads."""


class Painter(ABC, Generic[P]):
    """The stages that are alike. `most_inputs` is the most input pictures that the kind looks at together."""

    most_inputs: int
    device: torch.device
    dtype: torch.dtype
    processor: Any
    encoder: Any
    transformer: Any
    vae: Any
    _costs: Costs
    _memory: Memory
    _reader: Reader
    _sigmas: list[float] | None = None
    """A distilled checkpoint's own noise levels."""

    @property
    def modules(self) -> dict[str, Any]:
        """See `Family.modules`."""
        return {"encoder": self.encoder, "transformer": self.transformer, "vae": self.vae}

    # -- what a family says of itself

    @abstractmethod
    def _scheduler(self, plan: Plan) -> Any:
        """The scheduler of a work, to be copied."""

    @abstractmethod
    def _noise(self, plan: Plan, generator: torch.Generator) -> torch.Tensor:
        """Noise of a picture, on the CPU, as latent tokens (1, tokens, channels)."""

    @abstractmethod
    def _velocity(
        self, latents: torch.Tensor, t: torch.Tensor, prefixes: Sequence[P], branches: Sequence[Any]
    ) -> torch.Tensor:
        """What the transformer answers for latents (lanes, tokens, channels) at times (lanes,) from 0 to 1, each lane
        on a branch of its prefix."""

    @abstractmethod
    def company(self, plan: Plan) -> Hashable:
        """See `Family.company`."""

    @abstractmethod
    def _looks(self, plan: Plan) -> tuple[Look, ...]:
        """The input pictures as the encoder sees them."""

    @abstractmethod
    def _said(self, plan: Plan) -> tuple[str, ...]:
        """What the encoder reads after the input pictures, for each guidance branch."""

    @abstractmethod
    def _guided(self, towards: torch.Tensor, away: torch.Tensor, guidance: float) -> torch.Tensor:
        """Classifier-free guidance, as the stock pipeline of the family mixes the two velocities."""

    @abstractmethod
    def _latents(self, picture: Image.Image) -> torch.Tensor:
        """An RGBA canvas as normalised latents (1, tokens, channels)."""

    @abstractmethod
    def _pixels(self, plan: Plan, latents: torch.Tensor) -> torch.Tensor:
        """Finished latents as a picture (channels, height, width) in [-1, 1]."""

    def _dress(self, plan: Plan) -> None:  # most have nothing to put on
        """Before the transformer is asked anything for a work."""

    # -- what it costs

    def steps(self, plan: Plan) -> int:
        """See `Family.steps`. Where the noise levels are the checkpoint's own, their number is the steps'."""
        return self._all_steps(plan) - skipped(plan, self._all_steps(plan))

    def _all_steps(self, plan: Plan) -> int:
        return len(self._sigmas) if self._sigmas else plan.steps

    def tokens(self, plan: Plan) -> int:
        """See `Family.tokens`."""
        return latent_tokens(plan.drawn)

    def bill(self, plan: Plan, stage: Stage, lanes: int = 1) -> Bill:
        """See `Family.bill`."""
        return self._costs.bill(plan, stage, lanes, self._known(plan, stage))

    @property
    def changes(self) -> int:
        """See `Family.changes`."""
        return self._memory.changes

    def _known(self, plan: Plan, stage: Stage) -> Known:
        """What a stage finds remembered. Of prefilling a family says it itself, if it remembers any of it."""
        if stage is not Stage.ENCODE:
            return NOTHING
        tenant, looks = plan.work.tenant, self._looks(plan)
        said = [self._reader.said(tenant, looks, words) for words in self._said(plan)]
        return Known(self._reader.known(tenant, looks), sum(said))

    def passing(self, plan: Plan) -> int:
        """See `Family.passing`."""
        return self._costs.passing(plan)

    # -- after a fault

    def forget(self, plan: Plan | None = None) -> None:
        """See `Family.forget`."""
        self._memory.forget(None if plan is None else plan.work.tenant)
        self._reader.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def sound(self) -> bool:
        """See `Family.sound`."""
        try:
            return float(torch.ones(2, device=self.device).sum()) == 2.0
        except RuntimeError:
            return False

    # -- what both read alike

    def figures(self) -> Mapping[str, float]:
        """See `Family.figures`."""
        return self._memory.figures()

    def _input(self, plan: Plan, place: int, size: Size) -> torch.Tensor:
        """The latents (1, tokens, channels) of an input, read at that size."""
        key = (CONDITIONS, plan.work.tenant, "latents", plan.digests[place], size)
        latents: torch.Tensor | None = self._memory.get(key)
        if latents is None:
            latents = self._memory.put(key, self._latents(to_canvas(plan.work.inputs[place], size)))
        return latents

    def _kept(self, plan: Plan) -> Kept | None:
        """The input that the pictures are held to, as it is read at their own size."""
        work = plan.work
        if not work.inputs or (work.mask is None and plan.strength >= 1.0):
            return None
        rows, columns = plan.drawn.height // PIXELS, plan.drawn.width // PIXELS
        edited = None if work.mask is None else cells(work.mask, rows, columns).to(self.device)
        return Kept(self._input(plan, work.edited, plan.drawn), edited)

    # -- steps

    @torch.inference_mode()
    def begin(self, plan: Plan, prefix: P, index: int) -> LanePicture[P]:
        """See `Family.begin`. Noise comes from a CPU generator, so it is the same on every device."""
        noise = self._noise(plan, torch.Generator("cpu").manual_seed(plan.work.seed + index)).to(self.device)
        scheduler = copy.deepcopy(self._scheduler(plan))
        steps = self._all_steps(plan)
        first = skipped(plan, steps)
        sigmas = self._sigmas or np.linspace(1.0, 1 / steps, steps)
        # Its times and levels stay on the CPU: a step reads them as numbers, and the device need not be asked.
        scheduler.set_timesteps(sigmas=sigmas, device="cpu", mu=shift(scheduler.config, noise.shape[1]))
        scheduler.set_begin_index(first)
        latents = noise
        if prefix.kept is not None and first:
            latents = prefix.kept.noised(noise, scheduler.sigmas[first])
        return LanePicture(plan, latents, noise, scheduler, prefix, done=first)

    def _done(self, made: T) -> T:
        """What a stage made, once the device has done all it was told: so the measured time is that stage's, and a
        fault that of its own work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return made

    @torch.inference_mode()
    def step(self, plan: Plan, lanes: Sequence[LanePicture[P]]) -> None:
        """See `Family.step`. Lanes of one work may stand at different steps, and lanes of different works go together
        if those are `company`."""
        self._dress(plan)
        times = [lane.scheduler.timesteps[lane.done] for lane in lanes]
        velocity = self._mixed(lanes, times)
        before = [(lane.latents, lane.done, lane.scheduler.step_index) for lane in lanes]
        try:
            told = self._moved(lanes, times, velocity)
        except BaseException:
            # All of them advance or none: whoever tries again, one by one, begins where they stood.
            for lane, (latents, done, at) in zip(lanes, before, strict=True):
                lane.latents, lane.done, lane.scheduler._step_index = latents, done, at  # noqa: SLF001
            raise
        if not all(told):
            broken = tuple(lane for lane, fine in zip(lanes, told, strict=True) if not fine)
            raise NotFinite(NOT_FINITE, broken)

    @staticmethod
    def _moved(
        lanes: Sequence[LanePicture[P]], times: Sequence[torch.Tensor], velocity: torch.Tensor
    ) -> list[bool]:
        """Each lane one step along its velocity; whether its numbers are still finite."""
        sound = []
        for lane, time, part in zip(lanes, times, velocity.split(1), strict=True):
            lane.latents = lane.scheduler.step(part, time, lane.latents, return_dict=False)[0]
            lane.done += 1
            lane.velocity = part
            kept = lane.prefix.kept
            if kept is not None:
                lane.latents = kept.held(lane.latents, lane.noise, lane.scheduler.sigmas[lane.done])
            sound.append(torch.isfinite(lane.latents).all())
        # The one thing that the device is asked for in a step. It answers when the step is done, and that also makes
        # the measured time that of the work.
        told: list[bool] = torch.stack(sound).tolist()
        return told

    def _mixed(self, lanes: Sequence[LanePicture[P]], times: Sequence[torch.Tensor]) -> torch.Tensor:
        """Velocities (lanes, tokens, channels), away from the negative prompt for the lanes that have one."""
        latents = lanes[0].latents if len(lanes) == 1 else torch.cat([lane.latents for lane in lanes])
        # In the order of the stock loop: rounded to the latents' format before the division.
        t = (torch.stack(list(times)).to(latents.dtype) / 1000).to(self.device)
        prefixes = [lane.prefix for lane in lanes]
        towards = self._velocity(latents, t, prefixes, [prefix.positive for prefix in prefixes])
        guided = [place for place, prefix in enumerate(prefixes) if prefix.negative is not None]
        if not guided:
            return towards
        if len(guided) < len(lanes):
            latents, t, prefixes = latents[guided], t[guided], [prefixes[place] for place in guided]
        away = self._velocity(latents, t, prefixes, [prefix.negative for prefix in prefixes])
        mixed = list(towards.split(1))
        for place, part in zip(guided, away.split(1), strict=True):
            mixed[place] = self._guided(mixed[place], part, lanes[place].plan.guidance)
        return torch.cat(mixed)

    # -- previews

    @torch.inference_mode()
    def latents(self, picture: Image.Image) -> torch.Tensor:
        """See `Family.latents`."""
        return self._latents(picture)

    @torch.inference_mode()
    def predicted(self, lane: LanePicture[P]) -> torch.Tensor:
        """See `Family.predicted`. Latents at noise level s are (1 - s)·clean + s·noise and the velocity is
        noise - clean (rectified flow), so clean is latents - s·velocity."""
        if lane.velocity is None:
            raise RuntimeError("nothing is foreseen before the first step")
        return lane.latents - lane.scheduler.sigmas[lane.done].to(lane.latents.dtype) * lane.velocity

    # -- decode

    @torch.inference_mode()
    def decode(self, plan: Plan, lane: LanePicture[P]) -> Raster:
        """See `Family.decode`. Without inputs a surplus is cut off; with inputs the framing is kept by resizing."""
        pixels = self._pixels(plan, lane.latents)
        return from_canvas(_picture(pixels), plan.work.size, crop=not plan.work.inputs)


def latent_tokens(size: Size) -> int:
    """Latent tokens of a picture."""
    return size.area // PIXELS**2


def without_marks(prompt: str) -> str:
    """The prompt without the marks that stand for pictures: in a prompt they have no meaning."""
    return unmarked(prompt, _MARKS)


def shift(config: Any, tokens: int) -> float:
    """mu of the dynamic schedule, linear in the target's tokens; defaults as in the stock `calculate_shift`."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (top - base) / (high - low)
    return float(tokens * slope + (base - slope * low))


def channels(values: Sequence[float], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A number a channel, shaped for latents (batch, channels, 1, height, width)."""
    return torch.tensor(values).view(1, -1, 1, 1, 1).to(device, dtype)


def _picture(pixels: torch.Tensor) -> Image.Image:
    """A decoded picture (channels, height, width) in [-1, 1], rounded to levels. Raises NotFinite."""
    if not torch.isfinite(pixels).all():
        raise NotFinite("the decoded picture has numbers that are not finite")
    levels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
    return Image.fromarray((levels * 255).round().astype(np.uint8))
