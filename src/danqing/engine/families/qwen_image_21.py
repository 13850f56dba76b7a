"""Qwen-Image-2.1: one block-causal transformer for text to image and editing. Drives the checkpoint's modules
itself.

The sequence is system text, input pictures, prompt, target. Text is causal, each picture bidirectional
inside, and all but the target is modulated at t = 0, so keys and values of what precedes the target never
change. They are computed part by part: the fixed words, each input picture, the rest of each branch's prompt. A part
is shared by whoever has the same beginning: the pictures of a work, both guidance branches, later works of the tenant.
Parts take the same way whether they were known or not, so a work's pictures do not depend on it.

The stock pipeline of diffusers (`pipelines/qwenimage21`) is the reference that tests compare with. Not done
here and done there: text and input projections, rotary tables and token layout in each step, logits of the
encoder, the vision tower for the negative prompt, keys of the prefix for each further picture."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage21, FlowMatchEulerDiscreteScheduler, QwenImage21Transformer2DModel
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration

from danqing.engine.cache import Budget, Key, Memory
from danqing.engine.canvas import on_white, to_canvas
from danqing.engine.families.contract import Plan
from danqing.engine.families.prefix import (
    PREFIX,
    Beside,
    Filled,
    Filling,
    Pair,
    PartedAttention,
    Rotary,
    Run,
    runs_of,
)
from danqing.engine.families.qwen import PIXELS, Known, Painter, channels, latent_tokens, without_marks
from danqing.engine.families.reading import Look, Part, Reader
from danqing.engine.inpaint import Kept
from danqing.engine.language import open_language
from danqing.engine.processor import build_processor
from danqing.schedule.cost import Bill, BlockCausal, Stage

_MAPS, _MAPS_ELSEWHERE = 20, 8
"""Full-size maps of the widest level that the autoencoder holds at once: on a CPU 14 to 20 by `bench.memory`, elsewhere
not measured yet."""

SYSTEM = "Comprehend and analyze the provided prompt."
_LINE = "\n"
_NOTHING = Budget()
_FIXED = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a work's pictures and prompts say: the parts before the prompt as the encoder reads them, and the states
    (1, tokens, width) of the prompt that follows them in both guidance branches."""

    chain: tuple[Part, ...]
    positive: torch.Tensor
    negative: torch.Tensor | None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """A filled prefix of one guidance branch: in each layer the keys and values of all parts; and the rotary table of
    the target that follows."""

    layers: tuple[tuple[Pair, ...], ...]
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

    def __init__(
        self, folder: Path, device: torch.device, dtype: torch.dtype, keep: Budget = _NOTHING
    ) -> None:
        """Load the modules of a diffusers folder into main memory; safetensors only, no code of the folder is run.
        `keep` is how many bytes may be remembered for later works."""
        how = {"use_safetensors": True, "local_files_only": True, "dtype": dtype}
        self.device, self.dtype = device, dtype
        self.processor: Any = build_processor(folder)
        self.encoder, told = Qwen3VLForConditionalGeneration.from_pretrained(
            folder / "text_encoder", output_loading_info=True, **how
        )
        self.transformer = QwenImage21Transformer2DModel.from_pretrained(folder / "transformer", **how)
        self.vae = AutoencoderKLQwenImage21.from_pretrained(folder / "vae", **how)
        for module in (self.encoder, self.transformer, self.vae):
            module.eval().requires_grad_(False)
        self.language = open_language(self.encoder, self.processor, device, new=tuple(told["missing_keys"]))
        self.transformer.set_attn_processor(PartedAttention())
        self._rotary = Rotary(self.transformer.pos_embed.freqs, device)
        self._memory = Memory(keep, device)
        norm = self.encoder.model.language_model
        self._reader = Reader(
            self.encoder,
            self.processor,
            self._memory,
            _FIXED,
            device=device,
            reading=lambda: _before_norm(norm),
        )
        self._fixed: Filled | None = None
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        self._sigmas: list[float] | None = json.loads((folder / "model_index.json").read_text()).get(
            "sample_sigmas"
        )
        self._cut = self._system_tokens()
        self._mean = channels(self.vae.config.latents_mean, device, dtype)
        self._std = channels(self.vae.config.latents_std, device, dtype)
        self._costs = _Costs(self)

    def _system_tokens(self) -> int:
        message = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}]
        return len(self.processor.apply_chat_template(message, tokenize=True, return_dict=False)[0])

    def adopt(self, name: str, file: Path, schedule: Mapping[str, float]) -> None:  # noqa: ARG002
        """See `Family.adopt`. The libraries read none for this architecture yet."""
        raise ValueError("a Qwen-Image-2.1 checkpoint takes no adapters")

    def forget(self, plan: Plan | None = None) -> None:
        """See `Family.forget`."""
        self._fixed = None
        super().forget(plan)

    # -- encode

    @torch.inference_mode()
    def encode(self, plan: Plan) -> Conditions:
        """See `Family.encode`."""
        looks, tenant = self._looks(plan), plan.work.tenant
        chain = self._reader.pictures(tenant, looks, lambda place: on_white(_canvas(plan, place)))
        positive, *away = [self._reader.prompt(tenant, looks, chain, words) for words in self._said(plan)]
        return self._done(Conditions(chain, positive, away[0] if away else None, self._kept(plan)))

    def _said(self, plan: Plan) -> tuple[str, ...]:
        return tuple(_from_prompt(prompt, self._looks(plan)) for prompt in _prompts(plan))

    def _looks(self, plan: Plan) -> tuple[Look, ...]:
        return tuple(
            Look(digest, size, f"{' ' if place else _LINE}<image{place + 1}><|vision_start|>")
            for place, (digest, size) in enumerate(zip(plan.digests, plan.inputs, strict=True))
        )

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
        looks, tenant = self._looks(plan), plan.work.tenant
        chain = [self._start(conditions.chain[0])]
        for place in range(len(looks)):
            key = (PREFIX, tenant, looks[: place + 1])
            filled = self._memory.get(key)
            if filled is None:
                filled = self._picture(plan, place, conditions.chain[place + 1], chain)
                filled = self._memory.put(key, filled)
            chain.append(filled)
        positive = self._branch(plan, chain, conditions.positive, plan.work.prompt)
        negative = None
        if conditions.negative is not None and plan.negative is not None:
            negative = self._branch(plan, chain, conditions.negative, plan.negative)
        # A part is of no use without those before it: of a chain the end has to make way first.
        self._memory.renew((PREFIX, tenant, looks[:end]) for end in range(len(looks), 0, -1))
        return self._done(Prefix(positive, negative, conditions.kept))

    def _known(self, plan: Plan, stage: Stage) -> Known:
        if stage is not Stage.PREFILL:
            return super()._known(plan, stage)
        tenant, looks = plan.work.tenant, self._looks(plan)
        filled = self._memory.first([(PREFIX, tenant, looks[: place + 1]) for place in range(len(looks))])
        prompts = sum(self._prompt_key(plan, prompt) in self._memory for prompt in _prompts(plan))
        return Known(filled, prompts)

    def _prompt_key(self, plan: Plan, prompt: str) -> Key:
        return PREFIX, plan.work.tenant, self._looks(plan), prompt

    def _start(self, part: Part) -> Filled:
        """The fixed words, of which the transformer sees those after the system's."""
        if self._fixed is None:
            self._fixed = self._memory.tight(self._words([], part.states[:, self._cut :]))
        return self._fixed

    def _words(self, chain: Sequence[Filled], states: torch.Tensor) -> Filled:
        """Text after the parts of a chain, each token of which sees what is before it."""
        position, count = chain[-1].position if chain else 0, states.shape[1]
        runs = runs_of(self.device, sum(one.tokens for one in chain), [(count, True)])
        rope = self._rotary.words(position, count)
        return self._fill(chain, self.transformer.txt_in(states), rope, runs, position + count)

    def _picture(self, plan: Plan, place: int, part: Part, chain: Sequence[Filled]) -> Filled:
        """An input picture with the words around it, after the parts of a chain. Of its slots, each of which stands
        for 2×2 latent tokens, the latents take the place."""
        size, (begin, end) = plan.inputs[place], part.slots
        rows, columns = size.height // PIXELS, size.width // PIXELS
        before, after = part.states[:, :begin], part.states[:, end:]
        latents = self.transformer.img_in(self._input(plan, place, size))
        hidden = [self.transformer.txt_in(before), latents, self.transformer.txt_in(after)]
        lengths = [(begin, True), (latents.shape[1], False), (after.shape[1], True)]
        runs = runs_of(self.device, sum(one.tokens for one in chain), lengths)
        first = chain[-1].position
        beyond = first + begin + max(rows, columns)
        rope = [
            self._rotary.words(first, begin),
            self._rotary.picture(first + begin, rows, columns),
            self._rotary.words(beyond, after.shape[1]),
        ]
        following = beyond + after.shape[1]
        return self._fill(chain, torch.cat(hidden, dim=1), torch.cat(rope), runs, following)

    def _branch(self, plan: Plan, chain: Sequence[Filled], states: torch.Tensor, prompt: str) -> Branch:
        """The parts of a chain, and the prompt after them."""
        key = self._prompt_key(plan, prompt)
        filled = self._memory.get(key)
        if filled is None:
            filled = self._memory.put(key, self._words(chain, states))
        layers = tuple(zip(*(one.layers for one in (*chain, filled)), strict=True))
        rows, columns = plan.drawn.height // PIXELS, plan.drawn.width // PIXELS
        return Branch(layers, self._rotary.picture(filled.position, rows, columns))

    def _fill(
        self,
        chain: Sequence[Filled],
        hidden: torch.Tensor,
        rope: torch.Tensor,
        runs: Sequence[Run],
        following: int,
    ) -> Filled:
        """Tokens through all blocks, modulated at t = 0, for the keys and values that they leave behind."""
        modulation = self.transformer.modulation(
            self.transformer.time_text_embed(hidden.new_zeros(1), hidden)
        )
        own: list[Pair] = []
        for place, block in enumerate(self.transformer.transformer_blocks):
            layer = Filling([one.layers[place] for one in chain], runs)
            hidden = block(hidden_states=hidden, modulation=modulation, rotary_emb=rope, layer_cache=layer)
            own.append(layer.filled())
        return Filled(tuple(own), following)

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

    def company(self, plan: Plan) -> Hashable:
        """See `Family.company`. Lanes see their own prefixes only, so of all that may differ."""
        return plan.drawn

    def _velocity(
        self,
        latents: torch.Tensor,
        t: torch.Tensor,
        prefixes: Sequence[Prefix],  # noqa: ARG002  # all is in the branches
        branches: Sequence[Branch],
    ) -> torch.Tensor:
        """The transformer over the targets alone, each of which sees its stored prefix and itself."""
        model = self.transformer
        hidden = model.img_in(latents)
        # One time a pass: what a lane is told does not depend on how many are there.
        embedded = torch.cat([model.time_text_embed(one, hidden) for one in t.split(1)])
        modulation = torch.cat([model.modulation(one) for one in embedded.split(1)])
        first = branches[0]
        rope = first.target_rope
        if any(branch is not first for branch in branches):
            rope = torch.stack([branch.target_rope for branch in branches])
        for place, block in enumerate(model.transformer_blocks):
            hidden = block(
                hidden_states=hidden,
                modulation=modulation,
                rotary_emb=rope,
                layer_cache=Beside([branch.layers[place] for branch in branches]),
            )
        velocity: torch.Tensor = model.proj_out(model.norm_out(hidden, embedded))
        return velocity

    def _pixels(self, plan: Plan, latents: torch.Tensor) -> torch.Tensor:
        rows, columns = plan.drawn.height // PIXELS, plan.drawn.width // PIXELS
        plane = latents.transpose(1, 2).reshape(1, -1, 1, rows, columns).to(self.vae.dtype)
        pixels: torch.Tensor = self.vae.decode(plane * self._std + self._mean, return_dict=False)[0]
        return pixels[0, :, 0]


def _canvas(plan: Plan, place: int) -> Image.Image:
    return to_canvas(plan.work.inputs[place], plan.inputs[place])


def _prompts(plan: Plan) -> tuple[str, ...]:
    """That of each guidance branch."""
    return (plan.work.prompt,) if plan.negative is None else (plan.work.prompt, plan.negative)


def _from_prompt(prompt: str, looks: Sequence[Look]) -> str:
    """The template from the prompt on. Marks that stand for pictures have no meaning in a prompt: they are
    cut."""
    return f"{'' if looks else _LINE}{without_marks(prompt) or ' '}<|im_end|>\n<|im_start|>assistant\n"


@contextmanager
def _before_norm(text_model: Any) -> Iterator[None]:
    """Inside, the encoder answers its states before the final norm, which the transformer was trained on: the
    norm's output is replaced by its input (as in `_get_qwen_prompt_embeds` of the stock pipeline)."""
    handle = text_model.norm.register_forward_hook(lambda _module, args, _output: args[0])
    try:
        yield
    finally:
        handle.remove()


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
        own = family.vae.config
        widest = max(own.base_dim, own.decoder_base_dim or 0) / (own.patch_size or 1) ** 2
        self._pixel = (_MAPS if family.device.type == "cpu" else _MAPS_ELSEWHERE) * item * widest

    def bill(self, plan: Plan, stage: Stage, lanes: int, known: Known) -> Bill:
        """See `Family.bill`; `known` is not done again. Prompt tokens are estimated from its bytes: they are known only
        after encoding."""
        branches = len(_prompts(plan))
        prefix, target = self._prefix(plan), latent_tokens(plan.drawn)
        area = sum(size.area for size in plan.inputs[known.inputs :])
        head = sum(latent_tokens(size) + 4 for size in plan.inputs)
        fresh = sum(latent_tokens(size) + 4 for size in plan.inputs[known.inputs :])
        words = prefix - head
        rest = words * (branches - known.prompts)
        if stage is Stage.ENCODE:
            vision = 2.0 * self._vision * area / PIXELS**2
            reading = 2.0 * self._text * (rest + area / PIXELS**2 / 4)
            held = plan.drawn.area if plan.work.mask is not None or plan.strength < 1.0 else 0
            return Bill(stage, reading + vision + self._read_pixel * (area + held))
        if stage is Stage.PREFILL:
            flops = self._block.forward(rest, prefix) + self._block.forward(fresh, head)
            return Bill(stage, flops, keeps=self._block.prefix_bytes(head + words * branches))
        if stage is Stage.STEP:
            return Bill(stage, self._block.forward(target, prefix + target) * branches * lanes)
        return Bill(stage, self._draw_pixel * plan.drawn.area)

    def passing(self, plan: Plan) -> int:
        """Activations of the largest pass: a dozen widths a token in the transformer, full-size maps in the
        autoencoder."""
        tokens = self._prefix(plan) + latent_tokens(plan.drawn)
        largest = max(size.area for size in (*plan.inputs, plan.drawn))
        return max(12 * tokens * self._block.width * self._block.item, int(self._pixel * largest))

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
