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

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from diffusers.loaders import QwenImageLoraLoaderMixin
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from danqing.core.raster import Size
from danqing.engine import flat
from danqing.engine.adapters import Adapters
from danqing.engine.cache import Recent
from danqing.engine.canvas import of_area, on_white, to_canvas
from danqing.engine.families.contract import Plan
from danqing.engine.families.qwen import PIXELS, Painter, channels, head_key, latent_tokens, without_marks
from danqing.engine.inpaint import Kept
from danqing.engine.language import open_language
from danqing.engine.processor import build_processor
from danqing.schedule.cost import Bill, JointStreams, Stage

_LOOK_SHARE = (384 / 1024) ** 2
"""Of the pixels that the autoencoder reads of an input, the encoder sees this part: 384² of 1024² (Edit-Plus)."""
_MOST_TEXT = 1024
"""Tokens of a text-to-image prompt that are used (`tokenizer_max_length`); instructions are never cut."""


@dataclass(frozen=True, slots=True)
class Template:
    """The words around a prompt: an instruction to the encoder, of which the first `cut` tokens are dropped from its
    states, and the mark of each picture before the prompt."""

    system: str
    cut: int
    mark: str = ""

    def head(self, counts: Sequence[int]) -> str:
        """All before the prompt; `counts` are each picture's vision slots."""
        slots = (
            self.mark.format(place) + "<|vision_start|>" + "<|image_pad|>" * count + "<|vision_end|>"
            for place, count in enumerate(counts, start=1)
        )
        return f"<|im_start|>system\n{self.system}<|im_end|>\n<|im_start|>user\n" + "".join(slots)

    @staticmethod
    def rest(prompt: str) -> str:
        """The prompt and all after it. Marks that stand for pictures have no meaning in a prompt: they are cut."""
        return f"{without_marks(prompt)}<|im_end|>\n<|im_start|>assistant\n"


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

MOST_INPUTS = {"QwenImagePipeline": 0, "QwenImageEditPipeline": 1, "QwenImageEditPlusPipeline": 3}
"""How many pictures they were trained to look at together."""


@dataclass(frozen=True, slots=True)
class Head:
    """Everything before the prompt: the encoder's states (1, tokens, width) from `cut` on, its own cache, the position
    of the next token there, and the pictures' latents (1, tokens, channels)."""

    states: torch.Tensor
    memory: Any
    following: int
    latents: torch.Tensor


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

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, keep: int = 0) -> None:
        """Load the modules of a diffusers folder; safetensors only, no code of the folder is run. `keep` is how many
        bytes of heads may be remembered for later works."""
        how = {"use_safetensors": True, "local_files_only": True, "dtype": dtype}
        self.device, self.dtype = device, dtype
        kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
        self.template, self.most_inputs = TEMPLATES[kind], MOST_INPUTS[kind]
        self._small_look = kind == "QwenImageEditPlusPipeline"
        self.processor: Any = build_processor(folder)
        self.encoder, told = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder / "text_encoder", output_loading_info=True, **how
        )
        self.transformer = QwenImageTransformer2DModel.from_pretrained(folder / "transformer", **how)
        self.vae = AutoencoderKLQwenImage.from_pretrained(folder / "vae", **how)
        flat.flatten(self.vae)
        for module in (self.encoder, self.transformer, self.vae):
            module.to(device).eval().requires_grad_(False)
        self.language = open_language(self.encoder, self.processor, device, new=tuple(told["missing_keys"]))
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        self._adapters = Adapters(self.transformer, scheduler, _read_lora)
        self._heads: Recent[Head] = Recent(keep)
        self._picture_token = self.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._mean = channels(self.vae.config.latents_mean, device, dtype)
        self._std = channels(self.vae.config.latents_std, device, dtype)
        self._costs = _Costs(self)

    def adopt(self, name: str, file: Path, schedule: Mapping[str, float]) -> None:
        """See `Family.adopt`."""
        self._adapters.add(name, file, schedule)
        self.transformer.to(self.device, self.dtype).requires_grad_(False)

    # -- encode

    @torch.inference_mode()
    def encode(self, plan: Plan) -> Conditions:
        """See `Family.encode`."""
        head = None
        if plan.work.inputs:
            head = self._heads.get(head_key(plan))
            if head is None:
                head = self._look(plan)
                self._heads.put(head_key(plan), head, _weight(head))
        positive = self._read(plan.work.prompt, head)
        negative = None if plan.negative is None else self._read(plan.negative, head)
        return Conditions(positive, negative, None if head is None else head.latents, self._kept(plan))

    def _look(self, plan: Plan) -> Head:
        """The input pictures through the encoder (with its vision tower) and the autoencoder, each at its size."""
        pairs = list(zip(plan.work.inputs, plan.inputs, strict=True))
        shown = [on_white(to_canvas(raster, self._look_size(plan, raster.size))) for raster, _ in pairs]
        seen = self.processor.image_processor(images=shown, return_tensors="pt").to(self.device)
        merged = self.processor.image_processor.merge_size**2
        counts = [int(grid.prod()) // merged for grid in seen.image_grid_thw]
        ids = self._ids(self.template.head(counts))
        encoder = self.encoder.model
        # The pipelines of diffusers 0.42 leave these out, and the encoder then takes pictures for lines of text.
        kinds = (ids == self._picture_token).int()
        positions, _ = encoder.get_rope_index(ids, kinds, image_grid_thw=seen.image_grid_thw)
        read = encoder(
            input_ids=ids,
            position_ids=positions,
            pixel_values=seen.pixel_values,
            image_grid_thw=seen.image_grid_thw,
            use_cache=True,
        )
        latents = [self._latents(to_canvas(raster, size)) for raster, size in pairs]
        return Head(
            states=read.last_hidden_state,
            memory=read.past_key_values,
            following=int(positions.max()) + 1,
            latents=torch.cat(latents, dim=1),
        )

    def _look_size(self, plan: Plan, given: Size) -> Size:
        """At which size the encoder sees an input: Edit-Plus shows it a smaller one than the autoencoder reads."""
        area = plan.native.input_area or plan.drawn.area
        return of_area(area * _LOOK_SHARE if self._small_look else area, given.ratio)

    def _read(self, prompt: str, head: Head | None) -> torch.Tensor:
        """The encoder's states (1, tokens, width) of pictures and prompt, without the template's first tokens."""
        text_model = self.encoder.model.language_model
        if head is None:
            ids = self._ids(self.template.head(()) + self.template.rest(prompt))
            states = text_model(input_ids=ids[:, : _MOST_TEXT + self.template.cut], use_cache=False)
            return states.last_hidden_state[:, self.template.cut :]
        ids = self._ids(self.template.rest(prompt))
        positions = torch.arange(head.following, head.following + ids.shape[1], device=self.device)
        # A copy that shares the tensors: the encoder appends by making new ones, and the head stays as it is.
        memory = copy.copy(head.memory)
        memory.layers = [copy.copy(layer) for layer in memory.layers]
        states = text_model(
            input_ids=ids, position_ids=positions.expand(3, 1, -1), past_key_values=memory, use_cache=True
        )
        return torch.cat([head.states, states.last_hidden_state], dim=1)[:, self.template.cut :]

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
        return Prefix(positive, negative, pictures, clean, conditions.kept)

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

    def _velocity(
        self, latents: torch.Tensor, t: torch.Tensor, prefix: Prefix, branch: Branch
    ) -> torch.Tensor:
        """The transformer over targets, inputs and text; the targets' part of what comes out."""
        model, lanes = self.transformer, latents.shape[0]
        hidden = model.img_in(latents)
        if prefix.pictures is not None:
            hidden = torch.cat([hidden, prefix.pictures.expand(lanes, -1, -1)], dim=1)
        if prefix.clean is not None:
            # The inputs are clean pictures, and these checkpoints are told so: time nought for their tokens.
            embedded = model.time_text_embed(torch.cat([t, t * 0]), hidden)
        else:
            embedded = model.time_text_embed(t, hidden)
        text = branch.text.expand(lanes, -1, -1)
        clean = None if prefix.clean is None else prefix.clean.expand(lanes, -1)
        for block in model.transformer_blocks:
            text, hidden = block(
                hidden_states=hidden,
                encoder_hidden_states=text,
                encoder_hidden_states_mask=None,
                temb=embedded,
                image_rotary_emb=branch.rope,
                modulate_index=clean,
            )
        drawn = hidden[:, : latents.shape[1]]
        velocity: torch.Tensor = model.proj_out(model.norm_out(drawn, embedded[:lanes]))
        return velocity

    def _pixels(self, plan: Plan, latents: torch.Tensor) -> torch.Tensor:
        plane = _unpack(latents, plan.drawn)[:, :, None].to(self.vae.dtype)
        return flat.draw(self.vae, plane * self._std + self._mean)[0, :, 0]


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


def _weight(head: Head) -> int:
    """Bytes of a head's tensors."""
    kept = [head.states, head.latents]
    for layer in head.memory.layers:
        kept.extend((layer.keys, layer.values))
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


class _Costs:
    """The bills of this checkpoint's stages, from its modules' own numbers."""

    def __init__(self, family: QwenImage1) -> None:
        config = family.transformer.config
        self._item = family.dtype.itemsize
        self._block = JointStreams(config.num_layers, config.num_attention_heads * config.attention_head_dim)
        self._text = sum(p.numel() for p in family.encoder.model.language_model.layers.parameters())
        self._vision = sum(p.numel() for p in family.encoder.model.visual.parameters())
        self._read_pixel = 2.0 * sum(p.numel() for p in family.vae.encoder.parameters()) / 4
        self._draw_pixel = 2.0 * sum(p.numel() for p in family.vae.decoder.parameters()) / 4
        self._base = 4 * self._item * family.vae.config.base_dim

    def bill(self, plan: Plan, stage: Stage, lanes: int, *, known: bool) -> Bill:
        """See `Family.bill`. `known`: the pictures are remembered, so only the prompt is read."""
        branches = 1 if plan.negative is None else 2
        looked = sum(size.area for size in plan.inputs) * _LOOK_SHARE
        words, target = self._words(plan), latent_tokens(plan.drawn)
        inputs = sum(latent_tokens(size) for size in plan.inputs)
        if stage is Stage.ENCODE:
            area = 0 if known else sum(size.area for size in plan.inputs)
            area += plan.drawn.area if plan.work.mask is not None or plan.strength < 1.0 else 0
            pictures = looked / 28**2
            vision = 0.0 if known else 2.0 * self._vision * 4 * pictures
            reading = 2.0 * self._text * (words * branches + (0 if known else pictures))
            return Bill(stage, reading + vision + self._read_pixel * area)
        if stage is Stage.PREFILL:
            tokens = words * branches + inputs
            return Bill(stage, float(tokens), keeps=tokens * self._block.width * self._item)
        if stage is Stage.STEP:
            tokens = target + inputs + words + int(looked / 28**2)
            return Bill(stage, self._block.forward(tokens) * branches * lanes)
        return Bill(stage, self._draw_pixel * plan.drawn.area)

    def passing(self, plan: Plan) -> int:
        """Activations of the largest pass: a dozen widths a token in the transformer, four full-size maps in the
        autoencoder."""
        tokens = self._words(plan) + sum(latent_tokens(size) for size in (*plan.inputs, plan.drawn))
        largest = max(size.area for size in (*plan.inputs, plan.drawn))
        return max(12 * tokens * self._block.width * self._item, self._base * largest)

    @staticmethod
    def _words(plan: Plan) -> int:
        """Tokens of a prompt, estimated from its bytes: they are known only after encoding."""
        return 16 + max(len(plan.work.prompt.encode()), len((plan.negative or "").encode())) // 2
