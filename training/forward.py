"""The velocity the stock pipeline would ask for, computed for training: one prefix, several noisy targets.

Runs on the stock modules' weights and must agree with the pipeline's first step (a test holds it to 1e-5).
What is skipped is only what cannot matter: the prefix of the last layer, and every pass over a prefix but one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb

from training.tokenizer import SYSTEM_PROMPT

Grid = tuple[int, int]  # height, width in latent tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests of one layout: the same number of inputs of the same sizes; texts of any length, padded right."""

    ids: Tensor  # (B, L), system part included
    lengths: Tensor  # (B,), system part included
    dropped: int
    image_token: int
    inputs: Tensor  # (B, tokens of all inputs, C)
    input_grids: tuple[Grid, ...]
    target_grid: Grid


def prompt_text(instruction: str, images: int) -> str:
    """Word for word the stock pipeline's templates."""
    marks = " ".join(f"<image{i}><|vision_start|><|image_pad|><|vision_end|>" for i in range(1, images + 1))
    return (
        f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n"
        f"<|im_start|>user\n{marks}{instruction or ' '}<|im_end|>\n<|im_start|>assistant\n"
    )


def tokenise(tokenizer: Any, instructions: list[str], input_grids: tuple[Grid, ...]) -> tuple[Tensor, Tensor]:
    """Ids with every image slot present, padded right, and their lengths."""
    pad, slot = tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids("<|image_pad|>")
    rows = []
    for instruction in instructions:
        grids = iter(input_grids)
        row: list[int] = []
        for token in tokenizer.encode(prompt_text(instruction, len(input_grids))):
            height, width = next(grids) if token == slot else (2, 2)
            row += [token] * (height * width // 4)
        rows.append(row)
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([len(row) for row in rows])


def system_length(tokenizer: Any) -> int:
    """How many leading tokens the pipeline drops."""
    return len(tokenizer.encode(f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n"))


def encode_text(encoder: Any, batch: Batch) -> Tensor:
    """The last decoder layer's output before the final norm; image slots carry nothing."""
    model = encoder.model
    slots = batch.ids[:1] == batch.image_token
    grids = torch.tensor([(1, h, w) for h, w in batch.input_grids]) if batch.input_grids else None
    positions, _ = model.get_rope_index(batch.ids[:1], slots.int(), image_grid_thw=grids)
    text = model.language_model
    hidden = text.embed_tokens(batch.ids) * (~slots)[..., None]
    rotary = text.rotary_emb(hidden, positions)
    bias = _bias(slots.new_ones(2 * batch.ids.shape[1:]).tril())
    for layer in text.layers:
        hidden = _read(layer, hidden, rotary, bias)
    return hidden[:, batch.dropped :]


def _read(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
    """One decoder layer of the encoder."""
    attn, normed = layer.self_attn, layer.input_layernorm(hidden)
    query, key, value = (
        part(normed).unflatten(-1, (-1, attn.head_dim)) for part in (attn.q_proj, attn.k_proj, attn.v_proj)
    )
    query, key = attn.q_norm(query).transpose(1, 2), attn.k_norm(key).transpose(1, 2)
    query, key = apply_rotary_pos_emb(query, key, *rotary)
    attended = _attend(query, key, value.transpose(1, 2), bias)
    hidden = hidden + attn.o_proj(attended.transpose(1, 2).flatten(2))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _bias(mask: Tensor) -> Tensor:
    """What is added to the scores: nothing where a key may be seen, a lot where not."""
    return torch.where(mask, 0.0, -1e9)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Written out: at these sizes the fused kernel's backward takes twice the time. Scores stay in float32."""
    with torch.autocast("cpu", enabled=False):
        scores = (query.float() * query.shape[-1] ** -0.5) @ key.float().mT + bias
    return scores.softmax(-1).to(value.dtype) @ value


def _rotate(x: Tensor, freqs: Tensor) -> Tensor:
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * freqs
    return torch.view_as_real(turned).flatten(-2)


def _heads(attn: Any, x: Tensor, freqs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key, value as (..., heads, tokens, dim); `freqs` is (..., tokens, dim / 2)."""
    size = attn.inner_dim // attn.heads
    query, key, value = (part(x).unflatten(-1, (-1, size)) for part in (attn.to_q, attn.to_k, attn.to_v))
    query, key = (
        _rotate(functional.rms_norm(x.float(), (size,), norm.weight, norm.eps), freqs.unsqueeze(-2))
        for x, norm in ((query, attn.norm_q), (key, attn.norm_k))
    )
    query, key = query.to(value.dtype), key.to(value.dtype)
    return query.transpose(-3, -2), key.transpose(-3, -2), value.transpose(-3, -2)


def _close(block: Any, x: Tensor, attended: Tensor, mods: tuple[Tensor, ...]) -> Tensor:
    """The rest of a block after attention. `mods` are scale and gate of both halves."""
    x = x + mods[1].tanh() * block.attn.to_out[0](attended.transpose(-3, -2).flatten(-2))
    return x + mods[3].tanh() * block.img_mlp(block.img_norm2(x) * (1 + mods[2]))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Positions and masks, all known before the first layer."""

    prefix_freqs: Tensor  # (P, dim / 2)
    prefix_mask: Tensor  # (P, P)
    target_freqs: Tensor  # (B, T, dim / 2)
    valid: Tensor  # (B, P)
    image_rows: Tensor  # (P,)
    repeats: Tensor


def _lay_out(transformer: Any, batch: Batch) -> _Layout:
    slots = batch.ids[0, batch.dropped :] == batch.image_token
    repeats = torch.where(slots, 4, 1)
    image_rows = torch.repeat_interleave(slots, repeats)
    height, width = batch.target_grid
    shapes = [(1, h, w) for h, w in (*batch.input_grids, batch.target_grid)]
    target = height * width
    whole = torch.cat([image_rows, image_rows.new_ones(target)])
    rope = transformer.pos_embed
    freqs = rope(shapes, whole, device=whole.device)
    prefix = image_rows.shape[0]
    padded = batch.ids.shape[1] - batch.lengths  # (B,)
    frame = (~image_rows).sum() + sum(max(grid) for grid in batch.input_grids) - padded
    first = rope.freqs[0][frame][:, None].expand(-1, target, -1)
    rest = freqs[prefix:, first.shape[-1] :].expand(len(frame), -1, -1)
    ids, _ = transformer.build_token_metadata(whole, shapes)
    ids = ids[:prefix]
    order = torch.arange(prefix)
    mask = (order[:, None] >= order[None]) | ((ids[:, None] == ids[None]) & (ids[:, None] >= 0))
    valid = order[None] < (prefix - padded)[:, None]
    return _Layout(freqs[:prefix], mask, torch.cat([first, rest], dim=-1), valid, image_rows, repeats)


def velocity(
    transformer: Any,
    text: Tensor,
    batch: Batch,
    noisy: Tensor,
    times: Tensor,
    *,
    hidden: list[Tensor] | None = None,
) -> Tensor:
    """`noisy` is (B, K, T, C), `times` (B, K) in [0, 1]: K targets share each prefix. Returns (B, K, T, C), and
    the targets' states after every block in `hidden`."""
    at = _lay_out(transformer, batch)
    prefix = transformer.txt_in(text).repeat_interleave(at.repeats, dim=1)
    if batch.input_grids:
        pictures = transformer.img_in(batch.inputs).to(prefix.dtype)
        prefix = torch.index_copy(prefix, 1, at.image_rows.nonzero()[:, 0], pictures)
    target = transformer.img_in(noisy)
    samples, count = times.shape
    flat = torch.cat([times.flatten(), times.new_zeros(1)])
    embedded = transformer.time_text_embed(flat, target)
    rows = transformer.modulation(embedded).chunk(4, dim=-1)
    moving = tuple(row[:-1].view(samples, count, 1, -1) for row in rows)
    still = tuple(row[-1] for row in rows)
    freqs = at.target_freqs[:, None]
    see = torch.cat([at.valid, at.valid.new_ones(samples, target.shape[2])], dim=1)
    see = see[:, None].expand(-1, count, -1).reshape(samples * count, 1, 1, -1)
    prefix_bias, bias = _bias(at.prefix_mask), _bias(see)
    last = len(transformer.transformer_blocks) - 1
    for number, block in enumerate(transformer.transformer_blocks):
        held = _heads(block.attn, block.img_norm1(prefix) * (1 + still[0]), at.prefix_freqs)
        query, key, value = _heads(block.attn, block.img_norm1(target) * (1 + moving[0]), freqs)
        keys, values = (
            torch.cat([old[:, None].expand(-1, count, -1, -1, -1), new], dim=-2).flatten(0, 1)
            for old, new in zip(held[1:], (key, value), strict=True)
        )
        seen = _attend(query.flatten(0, 1), keys, values, bias)
        target = _close(block, target, seen.unflatten(0, (samples, count)), moving)
        if hidden is not None:
            hidden.append(target)
        if number != last:
            read = _attend(*held, prefix_bias)
            prefix = _close(block, prefix, read, still)
    scale = transformer.norm_out.linear(functional.silu(embedded[:-1]).to(target.dtype)).view(
        samples, count, 1, -1
    )
    return transformer.proj_out(transformer.norm_out.norm(target) * (1 + scale))
