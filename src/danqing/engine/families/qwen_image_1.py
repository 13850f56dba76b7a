"""Qwen-Image 1.x: text to image, Edit (one picture) and Edit-Plus (one to three). Drives the modules itself.

One transformer of two streams: text on one side, the target's and the input pictures' tokens on the other, and all
look at all in every block. So nothing of a step outlives it, and what later works can share is what comes before: the
encoder's states of the pictures, and their latents. The encoder reads from left to right, hence the pictures, which
stand before the prompt, are read once for both guidance branches and for every later prompt about them.

The stock pipelines of diffusers (`pipelines/qwenimage`) are the reference that tests compare with, given two mends: the
encoder is told which tokens are pictures (diffusers issue 14194: without, positions are wrong and nothing says so), and
each picture has a generator of its own. Not done here and done there: text and picture projections, rotary tables
and modulation indices in each step, the vision tower for the negative prompt, convolutions over frames that are not
there, the output's projection of input pictures."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from diffusers.loaders import QwenImageLoraLoaderMixin
from diffusers.models.transformers.transformer_qwenimage import QwenDoubleStreamAttnProcessor2_0
from PIL import Image
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration

from danqing.core.raster import Size
from danqing.engine import flat
from danqing.engine.adapters import Adapters
from danqing.engine.cache import Budget, Memory
from danqing.engine.canvas import of_area, on_white, to_canvas
from danqing.engine.families.contract import Plan
from danqing.engine.families.qwen import PIXELS, Known, Painter, channels, latent_tokens, without_marks
from danqing.engine.families.reading import Look, Reader
from danqing.engine.inpaint import Kept
from danqing.engine.language import open_language
from danqing.engine.processor import build_processor
from danqing.schedule.cost import Bill, JointStreams, Stage

_LOOK_SHARE = (384 / 1024) ** 2
"""Of the pixels that the autoencoder reads of an input, Edit-Plus shows the encoder this part: 384² of 1024²."""
_LINE = "\n"
_NOTHING = Budget()
_MOST_TEXT = 1024
"""Tokens of a text-to-image prompt that are used (`tokenizer_max_length`); instructions are never cut."""


@dataclass(frozen=True, slots=True)
class Template:
    """The words around a prompt: an instruction to the encoder, of which the first `cut` tokens are dropped from its
    states, and the mark of each picture before the prompt."""

    system: str
    cut: int
    mark: str = ""

    @property
    def fixed(self) -> str:
        """The words that every request begins with."""
        return f"<|im_start|>system\n{self.system}<|im_end|>\n<|im_start|>user"

    def words(self, place: int) -> str:
        """Those before the slots of picture `place`, from 0."""
        return ("" if place else _LINE) + self.mark.format(place + 1) + "<|vision_start|>"

    @staticmethod
    def rest(prompt: str, pictures: int) -> str:
        """The prompt and all after it. Marks that stand for pictures have no meaning in a prompt: they are cut."""
        return f"{'' if pictures else _LINE}{without_marks(prompt)}<|im_end|>\n<|im_start|>assistant\n"


PAINT = Template(
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background:",
    34,
)
_ALTER = (
    "Describe the key features of the input image (color, shape, size, texture, objects, background), then explain "
    "how the user's text instruction should alter or modify the image. Generate a new image that meets the user's "
    "requirements while maintaining consistency with the original input where appropriate."
)
EDIT = Template(_ALTER, 64)
EDIT_PLUS = Template(_ALTER, 64, "Picture {}: ")
TEMPLATES = {
    "QwenImagePipeline": PAINT,
    "QwenImageEditPipeline": EDIT,
    "QwenImageEditPlusPipeline": EDIT_PLUS,
}
"""The texts the checkpoints were trained with, by the pipeline class in their index; facts of those weights."""

_MAPS = 8
"""Full-size maps that the autoencoder holds at once: 6 to 7 on a CPU by `bench.memory`."""

MOST_INPUTS = {"QwenImagePipeline": 0, "QwenImageEditPipeline": 1, "QwenImageEditPlusPipeline": 3}
"""How many pictures they were trained to look at together."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The encoder's states (1, tokens, width) of each branch, the input pictures' latents, None without, and what the
    pictures are held to, if they are."""

    positive: torch.Tensor
    negative: torch.Tensor | None
    latents: torch.Tensor | None
    kept: Kept | None


@dataclass(frozen=True, slots=True)
class Branch:
    """A guidance branch as every step uses it: text tokens (1, tokens, width) as the blocks take them, and the rotary
    tables of pictures and text."""

    text: torch.Tensor
    rope: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Prefix:
    """What all steps of a work's pictures share. `pictures` (1, tokens, width) are the inputs as the blocks take them;
    `clean` (1, tokens) is 0 for the target's tokens and 1 for the inputs', for checkpoints that tell them apart by
    time; `kept` is the input that the pictures are held to, if they are."""

    positive: Branch
    negative: Branch | None
    pictures: torch.Tensor | None
    clean: torch.Tensor | None
    kept: Kept | None


class QwenImage1(Painter[Prefix]):
    """The stages of one loaded checkpoint."""

    def __init__(
        self, folder: Path, device: torch.device, dtype: torch.dtype, keep: Budget = _NOTHING
    ) -> None:
        """Load the modules of a diffusers folder into main memory; safetensors only, no code of the folder is run.
        `keep` is how many bytes may be remembered for later works."""
        how = {"use_safetensors": True, "local_files_only": True, "dtype": dtype}
        self.device, self.dtype = device, dtype
        kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
        self.template, self.most_inputs = TEMPLATES[kind], MOST_INPUTS[kind]
        self.look_share = _LOOK_SHARE if kind == "QwenImageEditPlusPipeline" else 1.0
        self.processor: Any = build_processor(folder)
        self.encoder, told = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder / "text_encoder", output_loading_info=True, **how
        )
        self.transformer = QwenImageTransformer2DModel.from_pretrained(folder / "transformer", **how)
        self.vae = AutoencoderKLQwenImage.from_pretrained(folder / "vae", **how)
        flat.flatten(self.vae)
        for block in self.transformer.transformer_blocks:
            block.attn.set_processor(MaskingAttention())
        for module in (self.encoder, self.transformer, self.vae):
            module.eval().requires_grad_(False)
        self.language = open_language(self.encoder, self.processor, device, new=tuple(told["missing_keys"]))
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        self._adapters = Adapters(self.transformer, scheduler, _read_lora)
        self._memory = Memory(keep, device)
        self._reader = Reader(self.encoder, self.processor, self._memory, self.template.fixed, device=device)
        self._mean = channels(self.vae.config.latents_mean, device, dtype)
        self._std = channels(self.vae.config.latents_std, device, dtype)
        self._costs = _Costs(self)

    def adopt(self, name: str, file: Path, schedule: Mapping[str, float]) -> None:
        """See `Family.adopt`."""
        self._adapters.add(name, file, schedule)
        self.transformer.to(self.dtype).requires_grad_(False)

    # -- encode

    @torch.inference_mode()
    def encode(self, plan: Plan) -> Conditions:
        """See `Family.encode`."""
        looks, tenant = self._looks(plan), plan.work.tenant
        chain = self._reader.pictures(
            tenant, looks, lambda place: on_white(to_canvas(plan.work.inputs[place], looks[place].size))
        )
        most = None if looks else max(0, _MOST_TEXT + self.template.cut - chain[0].states.shape[1])

        def read(words: str) -> torch.Tensor:
            """The states of pictures and prompt, without the template's first tokens."""
            said = self._reader.prompt(tenant, looks, chain, words, most)
            return torch.cat([*(part.states for part in chain), said], dim=1)[:, self.template.cut :]

        latents = [self._input(plan, place, size) for place, size in enumerate(plan.inputs)]
        positive, *away = map(read, self._said(plan))
        return self._done(
            Conditions(
                positive=positive,
                negative=away[0] if away else None,
                latents=torch.cat(latents, dim=1) if latents else None,
                kept=self._kept(plan),
            )
        )

    def _said(self, plan: Plan) -> tuple[str, ...]:
        prompts = (plan.work.prompt,) if plan.negative is None else (plan.work.prompt, plan.negative)
        return tuple(self.template.rest(prompt, len(plan.inputs)) for prompt in prompts)

    def _looks(self, plan: Plan) -> tuple[Look, ...]:
        return tuple(
            Look(digest, self._look_size(plan, raster.size), self.template.words(place))
            for place, (digest, raster) in enumerate(zip(plan.digests, plan.work.inputs, strict=True))
        )

    def _look_size(self, plan: Plan, given: Size) -> Size:
        """At which size the encoder sees an input: Edit-Plus shows it a smaller one than the autoencoder reads."""
        area = plan.native.input_area or plan.drawn.area
        return of_area(area * self.look_share, given.ratio)

    def _latents(self, picture: Image.Image) -> torch.Tensor:
        """A canvas, on white, as normalised and packed latents (1, tokens, channels)."""
        levels = np.asarray(on_white(picture), dtype=np.float32) / 255.0
        pixels = (2.0 * torch.from_numpy(levels).permute(2, 0, 1) - 1.0)[None, :, None]
        latents = flat.read(self.vae, pixels.to(self.device, self.dtype))
        return _pack(((latents - self._mean) / self._std)[:, :, 0])

    # -- prefill

    @torch.inference_mode()
    def prefill(self, plan: Plan, conditions: Conditions) -> Prefix:
        """See `Family.prefill`. No keys and values outlive a step here; projections and rotary tables do."""
        model = self.transformer
        self._dress(plan)
        sizes = (plan.drawn, *plan.inputs)
        shapes = [(1, size.height // PIXELS, size.width // PIXELS) for size in sizes]
        negative = None if conditions.negative is None else self._branch(conditions.negative, shapes)
        pictures = None if conditions.latents is None else model.img_in(conditions.latents)
        clean = None
        if model.zero_cond_t:
            inputs = 0 if pictures is None else pictures.shape[1]
            marks = torch.tensor([0, 1], dtype=torch.int, device=self.device)
            counts = torch.tensor([latent_tokens(plan.drawn), inputs], device=self.device)
            clean = marks.repeat_interleave(counts)[None]
        positive = self._branch(conditions.positive, shapes)
        return self._done(Prefix(positive, negative, pictures, clean, conditions.kept))

    def _branch(self, states: torch.Tensor, shapes: list[tuple[int, int, int]]) -> Branch:
        model = self.transformer
        rope = model.pos_embed([shapes], max_txt_seq_len=states.shape[1], device=self.device)
        return Branch(model.txt_in(model.txt_norm(states)), rope)

    # -- steps

    def _scheduler(self, plan: Plan) -> Any:
        return self._adapters.scheduler(plan.adapter)

    def _dress(self, plan: Plan) -> None:
        self._adapters.wear(plan.adapter)

    def _noise(self, plan: Plan, generator: torch.Generator) -> torch.Tensor:
        rows, columns = 2 * (plan.drawn.height // PIXELS), 2 * (plan.drawn.width // PIXELS)
        depth = self.transformer.config.in_channels // 4
        noise = torch.randn((1, 1, depth, rows, columns), generator=generator, dtype=self.dtype)
        return _pack(noise[:, 0])

    def _guided(self, towards: torch.Tensor, away: torch.Tensor, guidance: float) -> torch.Tensor:
        """Each token is brought back to the length it has without guidance (`true_cfg_scale`)."""
        mixed = away + guidance * (towards - away)
        length = torch.norm(towards, dim=-1, keepdim=True) / torch.norm(mixed, dim=-1, keepdim=True)
        mended: torch.Tensor = mixed * length
        return mended

    def tokens(self, plan: Plan) -> int:
        """See `Family.tokens`. The inputs go through every step beside the target."""
        return sum(latent_tokens(size) for size in (plan.drawn, *plan.inputs))

    def company(self, plan: Plan) -> Hashable:
        """See `Family.company`. The transformer lays out one table of places for all, and wears one adapter."""
        return plan.adapter, plan.drawn, plan.inputs

    def _velocity(
        self, latents: torch.Tensor, t: torch.Tensor, prefixes: Sequence[Prefix], branches: Sequence[Branch]
    ) -> torch.Tensor:
        """The transformer over targets, inputs and text; the targets' part of what comes out."""
        model, lanes = self.transformer, latents.shape[0]
        hidden = model.img_in(latents)
        if prefixes[0].pictures is not None:
            hidden = torch.cat([hidden, _rows([prefix.pictures for prefix in prefixes])], dim=1)
        clean = prefixes[0].clean
        if clean is not None:
            # The inputs are clean pictures, and these checkpoints are told so: time nought for their tokens.
            embedded = model.time_text_embed(torch.cat([t, t * 0]), hidden)
            clean = clean.expand(lanes, -1)
        else:
            embedded = model.time_text_embed(t, hidden)
        text, present, rope = _side_by_side(branches)
        for block in model.transformer_blocks:
            text, hidden = block(
                hidden_states=hidden,
                encoder_hidden_states=text,
                encoder_hidden_states_mask=present,
                temb=embedded,
                image_rotary_emb=rope,
                modulate_index=clean,
            )
        drawn = hidden[:, : latents.shape[1]]
        velocity: torch.Tensor = model.proj_out(model.norm_out(drawn, embedded[:lanes]))
        return velocity

    def _pixels(self, plan: Plan, latents: torch.Tensor) -> torch.Tensor:
        plane = _unpack(latents, plan.drawn)[:, :, None].to(self.vae.dtype)
        return flat.draw(self.vae, plane * self._std + self._mean)[0, :, 0]


class MaskingAttention(QwenDoubleStreamAttnProcessor2_0):  # type: ignore[misc]
    """The stock attention. Texts of unlike lengths side by side take a mask, which not every kernel that a profile may
    choose knows: then it is the default's turn."""

    _attention_backend: Any = None

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        *,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_hidden_states_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        """See the stock `__call__`; `Attention` passes on what is named here and nothing else."""
        chosen = self._attention_backend
        if encoder_hidden_states_mask is not None:
            self._attention_backend = None
        try:
            return super().__call__(
                attn,
                hidden_states,
                encoder_hidden_states,
                encoder_hidden_states_mask,
                attention_mask,
                image_rotary_emb,
            )
        finally:
            self._attention_backend = chosen


def _read_lora(file: Path, transformer: Any, name: str) -> None:
    """A LoRA as the stock pipelines read it, in any of the key styles they know. Raises ValueError."""
    loader = QwenImageLoraLoaderMixin
    state, about = loader.lora_state_dict(
        str(file.parent),
        weight_name=file.name,
        use_safetensors=True,
        local_files_only=True,
        return_lora_metadata=True,
    )
    known = {place for place, _ in transformer.named_modules()}
    strange = [key for key in state if key.removeprefix("transformer.").partition(".lora_")[0] not in known]
    if strange or not state:
        raise ValueError(f"{file.name} is not for this transformer, which has no {', '.join(strange[:3])}")
    loader.load_lora_into_transformer(state, transformer, adapter_name=name, metadata=about)


def _pack(latents: torch.Tensor) -> torch.Tensor:
    """(1, channels, rows, columns) to (1, rows · columns / 4, channels · 4): two by two latents make a token."""
    _, channels, rows, columns = latents.shape
    cells = latents.view(1, channels, rows // 2, 2, columns // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(1, rows * columns // 4, channels * 4)


def _unpack(tokens: torch.Tensor, drawn: Size) -> torch.Tensor:
    """The inverse of `_pack`, for a picture drawn at that size."""
    rows, columns = drawn.height // PIXELS, drawn.width // PIXELS
    cells = tokens.view(1, rows, columns, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(1, -1, rows * 2, columns * 2)


def _rows(tensors: Sequence[Any]) -> torch.Tensor:
    """One row a lane of tensors (1, tokens, width); lanes of one work share theirs."""
    first: torch.Tensor = tensors[0]
    if all(one is first for one in tensors):
        return first.expand(len(tensors), -1, -1)
    return torch.cat(list(tensors))


def _side_by_side(
    branches: Sequence[Branch],
) -> tuple[torch.Tensor, torch.Tensor | None, tuple[torch.Tensor, torch.Tensor]]:
    """Texts (lanes, tokens, width) as long as the longest, which of their tokens are there (None: all), and the rotary
    tables of the longest: those of a shorter text are its beginning."""
    longest = max(branches, key=lambda branch: branch.text.shape[1])
    lengths = [branch.text.shape[1] for branch in branches]
    most = longest.text.shape[1]
    if min(lengths) == most:
        return _rows([branch.text for branch in branches]), None, longest.rope
    padded = [functional.pad(branch.text, (0, 0, 0, most - branch.text.shape[1])) for branch in branches]
    device = longest.text.device
    present = torch.arange(most, device=device)[None] < torch.tensor(lengths, device=device)[:, None]
    return torch.cat(padded), present, longest.rope


class _Costs:
    """The bills of this checkpoint's stages, from its modules' own numbers."""

    def __init__(self, family: QwenImage1) -> None:
        config = family.transformer.config
        self._item = family.dtype.itemsize
        self._look_share = family.look_share
        self._image_channels, self._text_width = config.in_channels, config.joint_attention_dim
        self._block = JointStreams(config.num_layers, config.num_attention_heads * config.attention_head_dim)
        self._text = sum(p.numel() for p in family.encoder.model.language_model.layers.parameters())
        self._vision = sum(p.numel() for p in family.encoder.model.visual.parameters())
        self._read_pixel = 2.0 * sum(p.numel() for p in family.vae.encoder.parameters()) / 4
        self._draw_pixel = 2.0 * sum(p.numel() for p in family.vae.decoder.parameters()) / 4
        self._pixel = _MAPS * self._item * family.vae.config.base_dim

    def bill(self, plan: Plan, stage: Stage, lanes: int, known: Known) -> Bill:
        """See `Family.bill`; `known` is not done again."""
        branches = 1 if plan.negative is None else 2
        looked, unread = int(self._looked(plan.inputs)), plan.inputs[known.inputs :]
        words, target = self._words(plan), latent_tokens(plan.drawn)
        inputs = sum(latent_tokens(size) for size in plan.inputs)
        if stage is Stage.ENCODE:
            area = plan.drawn.area if plan.work.mask is not None or plan.strength < 1.0 else 0
            area += sum(size.area for size in unread)
            pictures = self._looked(unread)
            vision = 2.0 * self._vision * 4 * pictures
            reading = 2.0 * self._text * (words * (branches - known.prompts) + pictures)
            return Bill(stage, reading + vision + self._read_pixel * area)
        if stage is Stage.PREFILL:
            texts = (words + looked) * branches
            flops = 2.0 * self._block.width * (texts * self._text_width + inputs * self._image_channels)
            return Bill(stage, flops, keeps=(texts + inputs) * self._block.width * self._item)
        if stage is Stage.STEP:
            tokens = target + inputs + words + looked
            return Bill(stage, self._block.forward(tokens) * branches * lanes)
        return Bill(stage, self._draw_pixel * plan.drawn.area)

    def passing(self, plan: Plan) -> int:
        """Activations of the largest pass: a dozen widths a token in the transformer, full-size maps in the
        autoencoder."""
        tokens = self._words(plan) + sum(latent_tokens(size) for size in (*plan.inputs, plan.drawn))
        tokens += int(self._looked(plan.inputs))
        largest = max(size.area for size in (*plan.inputs, plan.drawn))
        return max(12 * tokens * self._block.width * self._item, self._pixel * largest)

    def _looked(self, inputs: Sequence[Size]) -> float:
        """Tokens of pictures as the encoder sees them, one for 28 x 28 pixels, from the sizes that the autoencoder
        reads."""
        return sum(size.area for size in inputs) * self._look_share / 28**2

    @staticmethod
    def _words(plan: Plan) -> int:
        """Tokens of a prompt, estimated from its bytes: they are known only after encoding."""
        return 16 + max(len(plan.work.prompt.encode()), len((plan.negative or "").encode())) // 2
