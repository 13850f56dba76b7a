"""Qwen-Image-2.1: one block-causal transformer for text to image and editing. Drives the checkpoint's modules
itself.

The sequence is system text, input pictures, prompt, target. Text is causal, each picture bidirectional
inside, and all but the target is modulated at t = 0, so keys and values of what precedes the target never
change. They are computed in two parts: the head (everything up to the last input picture), shared by both
guidance branches and by later works of the tenant with the same pictures, then the rest of each branch's
prompt. Pictures of one work share the whole. Both parts take the same way whether the head was known or not,
so a work's pictures do not depend on it.

The stock pipeline of diffusers (`pipelines/qwenimage21`) is the reference that tests compare with. Not done
here and done there: text and input projections, rotary tables and token layout in each step, logits of the
encoder, the vision tower for the negative prompt, keys of the prefix for each further picture."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage21, FlowMatchEulerDiscreteScheduler, QwenImage21Transformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_qwenimage21 import (
    QwenImage21AttnProcessor,
    _qwenimage21_prepare_qkv,
)
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration

from danqing.engine.cache import Recent
from danqing.engine.canvas import on_white, to_canvas
from danqing.engine.families.contract import Plan
from danqing.engine.families.qwen import (
    PIXELS,
    Painter,
    channels,
    head_key,
    latent_tokens,
    without_marks,
)
from danqing.engine.inpaint import Kept
from danqing.engine.language import open_language
from danqing.engine.processor import build_processor
from danqing.schedule.cost import Bill, BlockCausal, Stage

SYSTEM = "Comprehend and analyze the provided prompt."
_SYSTEM = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
_USER = "<|im_start|>user\n"
_SLOT = "<|vision_start|><|image_pad|><|vision_end|>"


class LayerPrefix:
    """Keys and values (1, tokens, heads, width) of one layer, handed to the transformer's attention as its
    cache: filled once, then read for any number of lanes."""

    def __init__(self, before: LayerPrefix | None = None) -> None:
        self.lanes = 1
        self.k: torch.Tensor | None = None if before is None else before.k
        self.v: torch.Tensor | None = None if before is None else before.v

    def extend(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the keys and values of further tokens; answers all of them."""
        self.k = k if self.k is None else torch.cat([self.k, k], dim=1)
        self.v = v if self.v is None else torch.cat([self.v, v], dim=1)
        return self.k, self.v

    def store(self, k: torch.Tensor, v: torch.Tensor) -> None:
        """The stock attention's name for a first `extend`."""
        self.extend(k, v)

    def get(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same keys and values for each lane of the batch, without copying them."""
        if self.k is None or self.v is None:
            raise RuntimeError("the prefix was not filled")
        return self.k.expand(self.lanes, -1, -1, -1), self.v.expand(self.lanes, -1, -1, -1)


class ContinuingAttention(QwenImage21AttnProcessor):  # type: ignore[misc]
    """The stock attention with one mode more, "continue": further prefix tokens look at the stored ones and,
    by `attention_mask`, at themselves, and are stored in turn."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, **given: Any) -> torch.Tensor:
        """See the stock `__call__`."""
        if given.get("kv_cache_mode") != "continue":
            return super().__call__(attn, hidden_states, **given)
        query, key, value, _ = _qwenimage21_prepare_qkv(
            attn, hidden_states, given["rotary_emb"], None, None, None
        )
        key, value = given["layer_cache"].extend(key, value)
        mixed = dispatch_attention_fn(query, key, value, attn_mask=given["attention_mask"], backend=None)
        return attn.to_out[1](attn.to_out[0](mixed.flatten(2, 3).type_as(query)))


@dataclass(slots=True)
class Head:
    """Everything before the prompt as the modules read it, from the user's mark to the end of the last
    picture.

    `states` (1, slots, width) come from the encoder before its final norm, `pictures` (slots,) marks the
    slots of input pictures, each standing for 2×2 latent tokens, `latents` are theirs (1, tokens, channels).
    `memory` is the encoder's own cache, `following` the position of the next token there. `layers` is filled
    by the first prefill."""

    states: torch.Tensor
    pictures: list[bool]
    latents: torch.Tensor
    memory: Any
    following: int
    layers: tuple[LayerPrefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a work's pictures and prompts say: the head, None without inputs, and the states (1, tokens,
    width) of the prompt that follows it in both guidance branches."""

    head: Head | None
    positive: torch.Tensor
    negative: torch.Tensor | None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """A filled prefix of one guidance branch, and the rotary table of the target that follows it."""

    layers: tuple[LayerPrefix, ...]
    target_rope: torch.Tensor


@dataclass(frozen=True, slots=True)
class Prefix:
    """What all steps of a work's pictures share; `kept` is the input that they are held to, if they are."""

    positive: Branch
    negative: Branch | None
    kept: Kept | None = None


class QwenImage21(Painter[Prefix]):
    """The stages of one loaded checkpoint."""

    most_inputs = 10

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, keep: int = 0) -> None:
        """Load the modules of a diffusers folder; safetensors only, no code of the folder is run. `keep` is
        how many bytes of heads may be remembered for later works."""
        how = {"use_safetensors": True, "local_files_only": True, "dtype": dtype}
        self.device, self.dtype = device, dtype
        self.processor: Any = build_processor(folder)
        self.encoder, told = Qwen3VLForConditionalGeneration.from_pretrained(
            folder / "text_encoder", output_loading_info=True, **how
        )
        self.transformer = QwenImage21Transformer2DModel.from_pretrained(folder / "transformer", **how)
        self.vae = AutoencoderKLQwenImage21.from_pretrained(folder / "vae", **how)
        for module in (self.encoder, self.transformer, self.vae):
            module.to(device).eval().requires_grad_(False)
        self.language = open_language(self.encoder, self.processor, device, new=tuple(told["missing_keys"]))
        self.transformer.set_attn_processor(ContinuingAttention())
        self._heads: Recent[Head] = Recent(keep)
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        self._sigmas: list[float] | None = json.loads((folder / "model_index.json").read_text()).get(
            "sample_sigmas"
        )
        self._cut = self._system_tokens()
        self._picture_token = self.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._mean = channels(self.vae.config.latents_mean, device, dtype)
        self._std = channels(self.vae.config.latents_std, device, dtype)
        self._costs = _Costs(self)

    def _system_tokens(self) -> int:
        message = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}]
        return len(self.processor.apply_chat_template(message, tokenize=True, return_dict=False)[0])

    def adopt(self, name: str, file: Path, schedule: Mapping[str, float]) -> None:  # noqa: ARG002
        """See `Family.adopt`. The libraries read none for this architecture yet."""
        raise ValueError("a Qwen-Image-2.1 checkpoint takes no adapters")

    # -- encode

    @torch.inference_mode()
    def encode(self, plan: Plan) -> Conditions:
        """See `Family.encode`."""
        head = None
        if plan.work.inputs:
            head = self._heads.get(head_key(plan)) or self._look(plan)
        positive = self._read(plan.work.prompt, head)
        negative = None if plan.negative is None else self._read(plan.negative, head)
        return Conditions(head, positive, negative, self._kept(plan))

    def _look(self, plan: Plan) -> Head:
        """The input pictures through the encoder (with its vision tower) and the autoencoder."""
        pictures = [
            to_canvas(raster, size) for raster, size in zip(plan.work.inputs, plan.inputs, strict=True)
        ]
        seen = self.processor.image_processor(images=[on_white(one) for one in pictures], return_tensors="pt")
        seen = seen.to(self.device)
        counts = [
            int(grid.prod()) // self.processor.image_processor.merge_size**2 for grid in seen.image_grid_thw
        ]
        ids = self._ids(_SYSTEM + _before_prompt(counts))
        slots = ids == self._picture_token
        encoder = self.encoder.model
        positions, _ = encoder.get_rope_index(ids, slots.int(), image_grid_thw=seen.image_grid_thw)
        with _before_norm(encoder.language_model):
            read = encoder(
                input_ids=ids,
                position_ids=positions,
                pixel_values=seen.pixel_values,
                image_grid_thw=seen.image_grid_thw,
                use_cache=True,
            )
        return Head(
            states=read.last_hidden_state[:, self._cut :],
            pictures=slots[0, self._cut :].tolist(),
            latents=torch.cat([self._latents(picture) for picture in pictures], dim=1),
            memory=read.past_key_values,
            following=int(positions.max()) + 1,
        )

    def _read(self, prompt: str, head: Head | None) -> torch.Tensor:
        """The encoder's states of the rest of the template, which holds the prompt: (1, tokens, width)."""
        text_model = self.encoder.model.language_model
        rest = _from_prompt(prompt)
        if head is None:
            with _before_norm(text_model):
                states = text_model(
                    input_ids=self._ids(_SYSTEM + _USER + rest), use_cache=False
                ).last_hidden_state
            return states[:, self._cut :]
        ids = self._ids(rest)
        positions = torch.arange(head.following, head.following + ids.shape[1], device=self.device)
        # A copy that shares the tensors: the encoder appends by making new ones, and the head stays as it is.
        memory = copy.copy(head.memory)
        memory.layers = [copy.copy(layer) for layer in memory.layers]
        with _before_norm(text_model):
            return text_model(
                input_ids=ids, position_ids=positions.expand(3, 1, -1), past_key_values=memory, use_cache=True
            ).last_hidden_state

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
        head = conditions.head
        if head is not None and not head.layers:
            self._fill(plan, head)
            self._heads.put(head_key(plan), head, _weight(head))
        positive = self._continue(plan, head, conditions.positive)
        negative = None if conditions.negative is None else self._continue(plan, head, conditions.negative)
        return Prefix(positive, negative, conditions.kept)

    def _fill(self, plan: Plan, head: Head) -> None:
        """Keys and values of the head in every layer."""
        layout = _Layout(head.pictures, 0, plan)
        repeats = torch.tensor([4 if slot else 1 for slot in head.pictures], device=self.device)
        hidden = self.transformer.txt_in(head.states).repeat_interleave(repeats, dim=1)
        hidden[:, layout.mask[: layout.head].to(self.device)] = self.transformer.img_in(head.latents)
        layers = tuple(LayerPrefix() for _ in self.transformer.transformer_blocks)
        rope = self._rope(layout)[: layout.head]
        self._pass(
            hidden, layers, rope, mode="extract", segments=layout.segments, cache_write_slice=slice(None)
        )
        head.layers = layers

    def _continue(self, plan: Plan, head: Head | None, states: torch.Tensor) -> Branch:
        """The head's keys and values, followed by those of a prompt's tokens, each of which sees what is
        before it."""
        layout = _Layout([] if head is None else head.pictures, states.shape[1], plan)
        rope = self._rope(layout)
        before = (None,) * len(self.transformer.transformer_blocks) if head is None else head.layers
        layers = tuple(LayerPrefix(layer) for layer in before)
        own = torch.ones(layout.rest, layout.head + layout.rest, dtype=torch.bool, device=self.device)
        mask = own.tril(diagonal=layout.head)[None, None]
        end = layout.head + layout.rest
        hidden = self.transformer.txt_in(states)
        self._pass(hidden, layers, rope[layout.head : end], mode="continue", attention_mask=mask)
        return Branch(layers, rope[end:])

    def _rope(self, layout: _Layout) -> torch.Tensor:
        return self.transformer.pos_embed(layout.shapes, layout.mask.to(self.device), device=self.device)

    def _pass(
        self,
        hidden: torch.Tensor,
        layers: Sequence[LayerPrefix],
        rope: torch.Tensor,
        *,
        mode: str,
        **given: Any,
    ) -> None:
        """Prefix tokens through all blocks, modulated at t = 0, for the keys and values that they leave
        behind."""
        modulation = self.transformer.modulation(
            self.transformer.time_text_embed(hidden.new_zeros(1), hidden)
        )
        for block, layer in zip(self.transformer.transformer_blocks, layers, strict=True):
            hidden = block(
                hidden_states=hidden,
                modulation=modulation,
                rotary_emb=rope,
                layer_cache=layer,
                kv_cache_mode=mode,
                **given,
            )

    # -- steps

    def _scheduler(self, plan: Plan) -> Any:  # noqa: ARG002  # one for all
        return self.scheduler

    def _noise(self, plan: Plan, generator: torch.Generator) -> torch.Tensor:
        rows, columns = plan.drawn.height // PIXELS, plan.drawn.width // PIXELS
        depth = self.transformer.config.in_channels
        noise = torch.randn((1, 1, depth, rows, columns), generator=generator, dtype=self.dtype)
        return noise.view(1, depth, rows * columns).transpose(1, 2)

    def _guided(self, towards: torch.Tensor, away: torch.Tensor, guidance: float) -> torch.Tensor:
        return away + guidance * (towards - away)

    def _velocity(
        self,
        latents: torch.Tensor,
        t: torch.Tensor,
        prefix: Prefix,  # noqa: ARG002  # all is in the branch
        branch: Branch,
    ) -> torch.Tensor:
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
        velocity: torch.Tensor = model.proj_out(model.norm_out(hidden, embedded))
        return velocity

    def _pixels(self, plan: Plan, latents: torch.Tensor) -> torch.Tensor:
        rows, columns = plan.drawn.height // PIXELS, plan.drawn.width // PIXELS
        plane = latents.transpose(1, 2).reshape(1, -1, 1, rows, columns).to(self.vae.dtype)
        pixels: torch.Tensor = self.vae.decode(plane * self._std + self._mean, return_dict=False)[0]
        return pixels[0, :, 0]


class _Layout:
    """Where the head, `rest` tokens of text and the target stand in the joint token sequence of one branch.
    `head` counts the head's tokens, `mask` marks those of pictures, the target's among them."""

    def __init__(self, pictures: list[bool], rest: int, plan: Plan) -> None:
        sizes = (*(plan.inputs if pictures else ()), plan.drawn)
        self.shapes = [(1, size.height // PIXELS, size.width // PIXELS) for size in sizes]
        head = list(itertools.chain.from_iterable([slot] * (4 if slot else 1) for slot in pictures))
        self.head, self.rest = len(head), rest
        self.mask = torch.tensor(head + [False] * rest + [True] * math.prod(self.shapes[-1]))
        self.segments = list(_segments(head, [math.prod(shape) for shape in self.shapes[:-1]]))


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


def _before_prompt(counts: Sequence[int]) -> str:
    """The template from the user's mark to the end of the last picture; `counts` are each picture's vision
    slots."""
    slots = (
        f"<image{place}>" + _SLOT.replace("<|image_pad|>", "<|image_pad|>" * count)
        for place, count in enumerate(counts, start=1)
    )
    return _USER + " ".join(slots)


def _from_prompt(prompt: str) -> str:
    """The template from the prompt on. Marks that stand for pictures have no meaning in a prompt: they are
    cut."""
    return f"{without_marks(prompt) or ' '}<|im_end|>\n<|im_start|>assistant\n"


@contextmanager
def _before_norm(text_model: Any) -> Iterator[None]:
    """Inside, the encoder answers its states before the final norm, which the transformer was trained on: the
    norm's output is replaced by its input (as in `_get_qwen_prompt_embeds` of the stock pipeline)."""
    handle = text_model.norm.register_forward_hook(lambda _module, args, _output: args[0])
    try:
        yield
    finally:
        handle.remove()


def _weight(head: Head) -> int:
    """Bytes of a head's tensors."""
    own = [head.states, head.latents]
    for layer in (*head.layers, *head.memory.layers):
        own.extend(layer.get() if isinstance(layer, LayerPrefix) else (layer.keys, layer.values))
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


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

    def bill(self, plan: Plan, stage: Stage, lanes: int, *, known: bool) -> Bill:
        """See `Family.bill`. `known`: the head is remembered, so only the prompt is read. Prompt tokens are
        estimated from its bytes: they are known only after encoding."""
        branches = 1 if plan.negative is None else 2
        prefix, target = self._prefix(plan), latent_tokens(plan.drawn)
        area = 0 if known else sum(size.area for size in plan.inputs)
        head = sum(latent_tokens(size) + 4 for size in plan.inputs)
        rest = (prefix - head) * branches
        if stage is Stage.ENCODE:
            vision = 2.0 * self._vision * area / PIXELS**2
            reading = 2.0 * self._text * (rest + area / PIXELS**2 / 4)
            held = plan.drawn.area if plan.work.mask is not None or plan.strength < 1.0 else 0
            return Bill(stage, reading + vision + self._read_pixel * (area + held))
        if stage is Stage.PREFILL:
            flops = self._block.forward(rest, prefix) + (0 if known else self._block.forward(head, head))
            return Bill(stage, flops, keeps=self._block.prefix_bytes(prefix * branches + head))
        if stage is Stage.STEP:
            return Bill(stage, self._block.forward(target, prefix + target) * branches * lanes)
        return Bill(stage, self._draw_pixel * plan.drawn.area)

    def passing(self, plan: Plan) -> int:
        """Activations of the largest pass: a dozen widths a token in the transformer, four full-size maps in
        the autoencoder."""
        tokens = self._prefix(plan) + latent_tokens(plan.drawn)
        largest = max(size.area for size in (*plan.inputs, plan.drawn))
        return max(12 * tokens * self._block.width * self._block.item, self._base * largest)

    @staticmethod
    def _prefix(plan: Plan) -> int:
        words = max(len(plan.work.prompt.encode()), len((plan.negative or "").encode()))
        return 16 + words // 2 + sum(latent_tokens(size) + 4 for size in plan.inputs)


def _flops_per_pixel(levels: Any, patch: int | None) -> float:
    """Convolution work per canvas pixel of levels that start at full size and halve."""
    total, share = 0.0, 1.0 / (patch or 1) ** 2
    for level in levels:
        total += share * 2 * sum(p.numel() for p in level.parameters())
        share /= 4
    return total
