"""Qwen-Image-2.1: one block-causal transformer for text to image and editing. Drives the checkpoint's modules
itself.

The sequence is system text, input pictures, prompt, target. Text is causal, each picture bidirectional
inside, and all but the target is modulated at t = 0, so keys and values of that prefix never change: they are
computed once a work and shared by its pictures. The stock pipeline of diffusers (`pipelines/qwenimage21`) is
the reference that tests compare with; what is done here and not there: text and input projections, rotary
tables and token layout once a work instead of once a step, no logits of the encoder, vision features once for
both guidance branches, and no keys of the prefix recomputed for further pictures."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage21, FlowMatchEulerDiscreteScheduler, QwenImage21Transformer2DModel
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration

from danqing.core.raster import Raster, Size
from danqing.engine.canvas import from_canvas, on_white, to_canvas
from danqing.engine.families.contract import NotFinite, Plan
from danqing.engine.processor import build_processor
from danqing.schedule.cost import Bill, BlockCausal, Stage

SYSTEM = "Comprehend and analyze the provided prompt."
_SLOT = "<|vision_start|><|image_pad|><|vision_end|>"
_RESERVED = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_PIXELS = 16
"""Pixels to a side of one latent token."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One prompt as the encoder read it: `states` (1, slots, width) before the encoder's final norm, without
    the system text; `pictures` (slots,) marks the slots of input pictures, each standing for 2×2 latent
    tokens."""

    states: torch.Tensor
    pictures: torch.Tensor


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a work's prompts and pictures say: the readings of both guidance branches, and the input pictures'
    latents (1, tokens, channels) in order, None without inputs."""

    positive: Reading
    negative: Reading | None
    latents: torch.Tensor | None


class LayerPrefix:
    """Keys and values (1, tokens, heads, width) of one layer, handed to the transformer's own attention as
    its cache: stored once, then read for any number of lanes."""

    def __init__(self) -> None:
        self.lanes = 1
        self._k: torch.Tensor | None = None
        self._v: torch.Tensor | None = None

    def store(self, k: torch.Tensor, v: torch.Tensor) -> None:
        """Keep the prefix's keys and values."""
        self._k, self._v = k, v

    def get(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same keys and values for each lane of the batch, without copying them."""
        if self._k is None or self._v is None:
            raise RuntimeError("the prefix was not filled")
        return self._k.expand(self.lanes, -1, -1, -1), self._v.expand(self.lanes, -1, -1, -1)


@dataclass(frozen=True, slots=True)
class Branch:
    """A filled prefix of one guidance branch, and the rotary table of the target that follows it."""

    layers: tuple[LayerPrefix, ...]
    target_rope: torch.Tensor


@dataclass(frozen=True, slots=True)
class Prefix:
    """What all steps of a work's pictures share."""

    positive: Branch
    negative: Branch | None


@dataclass(slots=True)
class LanePicture:
    """One picture in progress: latents (1, tokens, channels), its own scheduler, and how many steps are
    done."""

    latents: torch.Tensor
    scheduler: Any
    prefix: Prefix
    done: int = 0


class QwenImage21:
    """The stages of one loaded checkpoint."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Load the modules of a diffusers folder; safetensors only, no code of the folder is run."""
        how = {"use_safetensors": True, "local_files_only": True, "dtype": dtype}
        self.device, self.dtype = device, dtype
        self.processor: Any = build_processor(folder)
        self.encoder = Qwen3VLForConditionalGeneration.from_pretrained(folder / "text_encoder", **how)
        self.transformer = QwenImage21Transformer2DModel.from_pretrained(folder / "transformer", **how)
        self.vae = AutoencoderKLQwenImage21.from_pretrained(folder / "vae", **how)
        for module in (self.encoder, self.transformer, self.vae):
            module.to(device).eval().requires_grad_(False)
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        self._sigmas: list[float] | None = json.loads((folder / "model_index.json").read_text()).get(
            "sample_sigmas"
        )
        self._cut = self._system_tokens()
        self._picture_token = self.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._mean = _channels(self.vae.config.latents_mean, device, dtype)
        self._std = _channels(self.vae.config.latents_std, device, dtype)
        self._costs = _Costs(self)

    def _system_tokens(self) -> int:
        message = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}]
        return len(self.processor.apply_chat_template(message, tokenize=True, return_dict=False)[0])

    # -- what it costs

    def steps(self, plan: Plan) -> int:
        """See `Family.steps`. A distilled checkpoint brings its own sigmas, and their number is the
        steps'."""
        return len(self._sigmas) if self._sigmas else plan.steps

    def tokens(self, plan: Plan) -> int:
        """See `Family.tokens`."""
        return _tokens(plan.drawn)

    def bill(self, plan: Plan, stage: Stage, lanes: int = 1) -> Bill:
        """See `Family.bill`."""
        return self._costs.bill(plan, stage, lanes)

    def passing(self, plan: Plan) -> int:
        """See `Family.passing`."""
        return self._costs.passing(plan)

    # -- encode

    @torch.inference_mode()
    def encode(self, plan: Plan) -> Conditions:
        """See `Family.encode`."""
        pictures = [
            to_canvas(raster, size) for raster, size in zip(plan.work.inputs, plan.inputs, strict=True)
        ]
        seen = self._see([on_white(picture) for picture in pictures])
        positive = self._read(plan.work.prompt, seen)
        negative = None if plan.negative is None else self._read(plan.negative, seen)
        latents = [self._latents(picture) for picture in pictures]
        return Conditions(positive, negative, torch.cat(latents, dim=1) if latents else None)

    def _see(self, pictures: list[Image.Image]) -> dict[str, Any]:
        """The vision tower's features of the input pictures, as the encoder takes them; empty without
        inputs."""
        if not pictures:
            return {}
        seen = self.processor.image_processor(images=pictures, return_tensors="pt").to(self.device)
        features = self.encoder.model.get_image_features(
            seen.pixel_values, seen.image_grid_thw, return_dict=True
        )
        return {"image_grid_thw": seen.image_grid_thw, "mm_encoder_outputs": {"image": features}}

    def _read(self, prompt: str, seen: dict[str, Any]) -> Reading:
        """The encoder's last states of the templated prompt (`_get_qwen_prompt_embeds` of the stock
        pipeline)."""
        grids = seen.get("image_grid_thw", ())
        counts = [int(grid.prod()) // self.processor.image_processor.merge_size**2 for grid in grids]
        tokens = self.processor.tokenizer(_template(prompt, counts), return_tensors="pt").to(self.device)
        pictures = tokens.input_ids == self._picture_token
        extra = {**seen, "mm_token_type_ids": pictures.int()} if seen else {}
        text_model = self.encoder.model.language_model
        # The transformer was trained on the states before the final norm: its output is replaced by its input.
        handle = text_model.norm.register_forward_hook(lambda _module, args, _output: args[0])
        try:
            states = self.encoder.model(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, use_cache=False, **extra
            ).last_hidden_state
        finally:
            handle.remove()
        return Reading(states[:, self._cut :], pictures[0, self._cut :])

    def _latents(self, picture: Image.Image) -> torch.Tensor:
        """An RGBA canvas as normalised latents (1, tokens, channels)."""
        pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0).permute(2, 0, 1)
        pixels = (2.0 * pixels - 1.0)[None, :, None].to(self.device, self.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode()
        return ((latents - self._mean) / self._std).flatten(2).transpose(1, 2)

    # -- prefill

    @torch.inference_mode()
    def prefill(self, plan: Plan, conditions: Conditions) -> Prefix:
        """See `Family.prefill`."""
        positive = self._fill(plan, conditions.positive, conditions.latents)
        negative = None
        if conditions.negative is not None:
            negative = self._fill(plan, conditions.negative, conditions.latents)
        return Prefix(positive, negative)

    def _fill(self, plan: Plan, reading: Reading, latents: torch.Tensor | None) -> Branch:
        layout = _Layout(reading.pictures.tolist(), plan)
        hidden = self.transformer.txt_in(reading.states)
        hidden = hidden.repeat_interleave(torch.tensor(layout.repeats, device=self.device), dim=1)
        if latents is not None:
            hidden[:, layout.prefix_mask.to(self.device)] = self.transformer.img_in(latents)
        rope = self.transformer.pos_embed(
            layout.shapes, layout.joint_mask.to(self.device), device=self.device
        )
        still = self.transformer.time_text_embed(hidden.new_zeros(1), hidden)
        modulation = self.transformer.modulation(still)
        layers = tuple(LayerPrefix() for _ in self.transformer.transformer_blocks)
        for block, layer in zip(self.transformer.transformer_blocks, layers, strict=True):
            hidden = block(
                hidden_states=hidden,
                modulation=modulation,
                rotary_emb=rope[: layout.length],
                layer_cache=layer,
                kv_cache_mode="extract",
                cache_write_slice=slice(0, layout.length),
                segments=layout.segments,
            )
        return Branch(layers, rope[layout.length :])

    # -- steps

    @torch.inference_mode()
    def begin(self, plan: Plan, prefix: Prefix, index: int) -> LanePicture:
        """See `Family.begin`. Noise comes from a CPU generator, so it is the same on every device."""
        generator = torch.Generator("cpu").manual_seed(plan.work.seed + index)
        rows, columns = plan.drawn.height // _PIXELS, plan.drawn.width // _PIXELS
        channels = self.transformer.config.in_channels
        noise = torch.randn((1, 1, channels, rows, columns), generator=generator, dtype=self.dtype)
        latents = noise.to(self.device).view(1, channels, rows * columns).transpose(1, 2)
        scheduler = copy.deepcopy(self.scheduler)
        steps = self.steps(plan)
        sigmas = self._sigmas or np.linspace(1.0, 1 / steps, steps)
        scheduler.set_timesteps(
            sigmas=sigmas, device=self.device, mu=_shift(scheduler.config, rows * columns)
        )
        scheduler.set_begin_index(0)
        return LanePicture(latents, scheduler, prefix)

    @torch.inference_mode()
    def step(self, plan: Plan, lanes: Sequence[LanePicture]) -> None:
        """See `Family.step`. All lanes belong to one work and stand at one step."""
        prefix = lanes[0].prefix
        latents = lanes[0].latents if len(lanes) == 1 else torch.cat([lane.latents for lane in lanes])
        times = [lane.scheduler.timesteps[lane.done] for lane in lanes]
        # In the order of the stock loop: rounded to the latents' format before the division.
        t = torch.stack(times).to(latents.dtype) / 1000
        velocity = self._velocity(latents, t, prefix.positive)
        if prefix.negative is not None:
            away = self._velocity(latents, t, prefix.negative)
            velocity = away + plan.guidance * (velocity - away)
        for place, (lane, time) in enumerate(zip(lanes, times, strict=True)):
            part = velocity[place : place + 1]
            lane.latents = lane.scheduler.step(part, time, lane.latents, return_dict=False)[0]
            lane.done += 1
            if not torch.isfinite(lane.latents).all():
                raise NotFinite("the latents are no longer finite numbers")

    def _velocity(self, latents: torch.Tensor, t: torch.Tensor, branch: Branch) -> torch.Tensor:
        """The transformer over the targets alone, which see the stored prefix and themselves."""
        model = self.transformer
        hidden = model.img_in(latents)
        embedded = model.time_text_embed(t, hidden)
        modulation = model.modulation(embedded)
        for block, layer in zip(model.transformer_blocks, branch.layers, strict=True):
            layer.lanes = latents.shape[0]
            hidden = block(
                hidden_states=hidden,
                modulation=modulation,
                rotary_emb=branch.target_rope,
                layer_cache=layer,
                kv_cache_mode="cached",
            )
        return model.proj_out(model.norm_out(hidden, embedded))

    # -- decode

    @torch.inference_mode()
    def decode(self, plan: Plan, lane: LanePicture) -> Raster:
        """See `Family.decode`. Without inputs a surplus is cut off; with inputs the framing is kept by
        resizing."""
        rows, columns = plan.drawn.height // _PIXELS, plan.drawn.width // _PIXELS
        latents = lane.latents.transpose(1, 2).reshape(1, -1, 1, rows, columns).to(self.vae.dtype)
        pixels = self.vae.decode(latents * self._std + self._mean, return_dict=False)[0][0, :, 0]
        if not torch.isfinite(pixels).all():
            raise NotFinite("the decoded picture has numbers that are not finite")
        levels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
        picture = Image.fromarray((levels * 255).round().astype(np.uint8))
        return from_canvas(picture, plan.work.size, crop=not plan.work.inputs)


class _Layout:
    """Where text, input pictures and the target stand in the joint token sequence of one branch."""

    def __init__(self, slots: list[bool], plan: Plan) -> None:
        shapes = [(1, size.height // _PIXELS, size.width // _PIXELS) for size in (*plan.inputs, plan.drawn)]
        self.shapes: list[tuple[int, int, int]] = shapes
        self.repeats = [4 if slot else 1 for slot in slots]
        prefix = list(itertools.chain.from_iterable([slot] * (4 if slot else 1) for slot in slots))
        self.length = len(prefix)
        self.prefix_mask = torch.tensor(prefix)
        self.joint_mask = torch.tensor(prefix + [True] * math.prod(shapes[-1]))
        self.segments = list(_segments(prefix, [math.prod(shape) for shape in shapes[:-1]]))


def _segments(pictures: list[bool], blocks: list[int]) -> Iterator[tuple[int, int, bool]]:
    """Runs (start, end, is text) of the prefix; neighbouring pictures are separate runs, so `blocks` gives
    the tokens of each."""
    start, lengths = 0, iter(blocks)
    while start < len(pictures):
        if pictures[start]:
            end = start + next(lengths)
        else:
            end = next((at for at in range(start, len(pictures)) if pictures[at]), len(pictures))
        yield start, end, not pictures[start]
        start = end


def _template(prompt: str, counts: Sequence[int]) -> str:
    """The checkpoint's own template around a prompt; `counts` are the vision slots of each input picture.
    Marks that stand for pictures have no meaning inside a prompt and are taken out of it."""
    for mark in _RESERVED:
        prompt = prompt.replace(mark, "")
    slots = [
        f"<image{place}>" + _SLOT.replace("<|image_pad|>", "<|image_pad|>" * count)
        for place, count in enumerate(counts, start=1)
    ]
    user = " ".join(slots) + (prompt or " ")
    return (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    )


def _shift(config: Any, tokens: int) -> float:
    """mu of the dynamic schedule, linear in the target's tokens; defaults as in the stock
    `calculate_shift`."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (top - base) / (high - low)
    return float(tokens * slope + (base - slope * low))


def _channels(values: Sequence[float], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1, 1).to(device, dtype)


def _tokens(size: Size) -> int:
    return size.area // _PIXELS**2


class _Costs:
    """The bills of this checkpoint's stages, from its modules' own numbers."""

    def __init__(self, family: QwenImage21) -> None:
        config = family.transformer.config
        width = config.num_attention_heads * config.attention_head_dim
        item = family.dtype.itemsize
        self._block = BlockCausal(config.num_layers, width, config.mlp_ratio, item)
        self._text = sum(p.numel() for p in family.encoder.model.language_model.layers.parameters())
        self._vision = sum(p.numel() for p in family.encoder.model.visual.parameters())
        self._read_pixel = _flops_per_pixel(family.vae.encoder.down_blocks, family.vae.config.patch_size)
        self._draw_pixel = _flops_per_pixel(
            reversed(family.vae.decoder.up_blocks), family.vae.config.patch_size
        )
        self._base = 4 * item * family.vae.config.base_dim

    def bill(self, plan: Plan, stage: Stage, lanes: int) -> Bill:
        """See `Family.bill`. Prompt tokens are estimated from its bytes: they are known only after
        encoding."""
        branches = 1 if plan.negative is None else 2
        prefix, target = self._prefix(plan), _tokens(plan.drawn)
        area = sum(size.area for size in plan.inputs)
        if stage is Stage.ENCODE:
            reading = 2.0 * self._text * prefix * branches + 2.0 * self._vision * area / _PIXELS**2
            return Bill(stage, reading + self._read_pixel * area)
        if stage is Stage.PREFILL:
            kept = self._block.prefix_bytes(prefix) * branches
            return Bill(stage, self._block.forward(prefix, prefix) * branches, keeps=kept)
        if stage is Stage.STEP:
            return Bill(stage, self._block.forward(target, prefix + target) * branches * lanes)
        return Bill(stage, self._draw_pixel * plan.drawn.area)

    def passing(self, plan: Plan) -> int:
        """Activations of the largest pass: a dozen widths a token in the transformer, four full-size maps in
        the autoencoder."""
        tokens = self._prefix(plan) + _tokens(plan.drawn)
        largest = max(size.area for size in (*plan.inputs, plan.drawn))
        return max(12 * tokens * self._block.width * self._block.item, self._base * largest)

    @staticmethod
    def _prefix(plan: Plan) -> int:
        words = max(len(plan.work.prompt.encode()), len((plan.negative or "").encode()))
        return 16 + words // 2 + sum(_tokens(size) + 4 for size in plan.inputs)


def _flops_per_pixel(levels: Any, patch: int | None) -> float:
    """Convolution work per canvas pixel of levels that start at full size and halve."""
    total, share = 0.0, 1.0 / (patch or 1) ** 2
    for level in levels:
        total += share * 2 * sum(p.numel() for p in level.parameters())
        share /= 4
    return total
