"""Trains the 16x RGBA autoencoder on drawn scenes and pictures of every kind. Knows no words and no denoiser."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage21
from torch import Tensor
from torch.nn import functional

from danqing.judge.draw import render
from danqing.judge.scenes import FIRST_TRAINING_SEED, TASKS, draw_case
from danqing.judge.world import BACKGROUNDS, COLOURS, PLACES, SHAPES, Scene, Thing
from danqing.judge.world import SIZES as SIZES_OF_THINGS
from training.files import add_line, replace_folder, save_state
from training.muon import Muon
from training.pictures import any_picture
from training.together import Alone, Together, worked

ALONE = Alone()
Z_DIM = 32
PEAK = 1.5e-3
SMALL_FIRST = (0.4, 0.3, 0.2, 0.1)  # the smaller a thing, the harder its outline
BATCH = 8  # pictures a step and process
SIZES = ((128, 128), (160, 96), (96, 160), (128, 96), (96, 128))


def build_vae() -> Any:
    """Patch 4 and two down-samplings: 16x in space at a quarter of the usual cost."""
    return AutoencoderKLQwenImage21(
        base_dim=48,
        decoder_base_dim=64,
        z_dim=Z_DIM,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[False, False],
        latents_mean=[0.0] * Z_DIM,
        latents_std=[1.0] * Z_DIM,
        in_channels=64,
        out_channels=64,
        patch_size=4,
        scale_factor_spatial=16,
    )


def to_tensor(pictures: list[np.ndarray]) -> Tensor:
    """uint8 RGB pictures of one size to the (B, 4, 1, H, W) in [-1, 1] that the VAE takes; alpha is full."""
    stack = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([stack, torch.ones_like(stack[:, :1])], dim=1).unsqueeze(2)


def random_picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Pictures of every task, pictures that are nobody's scene, and scenes with more disorder than any task has."""
    kind = rng.random()
    if kind < 0.2:
        return any_picture(rng, size)
    if kind < 0.6:
        # Squares of the pixel style are what an autoencoder likes least.
        task = "style" if rng.random() < 0.1 else str(rng.choice(list(TASKS)))
        case = draw_case(task, FIRST_TRAINING_SEED + int(rng.integers(1 << 40)), "en", size=size)
        pictures = (case.truth, *case.inputs)
        return pictures[int(rng.integers(len(pictures)))]
    places = [str(p) for p in rng.permutation(list(PLACES))[: int(rng.integers(0, 7))]]
    things = [
        Thing(
            str(rng.choice(SHAPES)),
            str(rng.choice(list(COLOURS))),
            place,
            str(rng.choice(list(SIZES_OF_THINGS), p=SMALL_FIRST)),
            (float(rng.uniform(-0.4, 0.4)), float(rng.uniform(-0.4, 0.4))),
            float(rng.uniform(0.8, 1.2)),
        )
        for place in places
    ]
    return render(Scene(str(rng.choice(BACKGROUNDS)), tuple(things)), *size)


def _loss(vae: Any, pictures: Tensor) -> tuple[Tensor, Tensor]:
    posterior = vae.encode(pictures).latent_dist
    latents = posterior.sample()
    # The decoder will be given a denoiser's work, not the encoder's: let it meet small errors.
    spread = latents.detach().std()
    latents = latents + 0.08 * spread * torch.randn_like(latents) * torch.rand(latents.shape[0], 1, 1, 1, 1)
    drawn = _decode_unclamped(vae, latents)
    error = (drawn - pictures)[:, :3]
    heed = _outlines(pictures)
    alpha = (drawn - pictures)[:, 3:].abs().mean()
    told_apart = (heed * error.abs()).mean() + 2 * (heed * error.square()).mean()
    loss = told_apart + 0.1 * alpha + 5e-4 * posterior.kl().mean() / latents[0].numel()
    return loss, error.detach().square().mean()


def _outlines(pictures: Tensor) -> Tensor:
    """More weight near every edge, however faint: a pink star on a pink wall must stay a star."""
    flat = pictures[:, :3, 0]
    steps = functional.pad((flat[..., 1:] - flat[..., :-1]).abs(), (0, 1)) + functional.pad(
        (flat[..., 1:, :] - flat[..., :-1, :]).abs(), (0, 0, 0, 1)
    )
    near = functional.max_pool2d((steps.amax(1, keepdim=True) > 0.04).float(), 5, stride=1, padding=2)
    return (1 + 5 * near)[:, :, None]


def _decode_unclamped(vae: Any, latents: Tensor) -> Tensor:
    """The stock decode clamps to [-1, 1], where gradients die."""
    hidden = vae.decoder(vae.post_quant_conv(latents), first_chunk=True)
    batch, _, frames, height, width = hidden.shape
    hidden = hidden.view(batch, 4, 4, 4, frames, height, width).permute(0, 1, 4, 5, 3, 6, 2)
    return hidden.reshape(batch, 4, frames, height * 4, width * 4)


def measure_latents(vae: Any, rng: np.random.Generator) -> tuple[list[float], list[float]]:
    """Mean and deviation of every latent channel over drawn pictures."""
    with torch.no_grad():
        batches = [
            vae.encode(to_tensor([random_picture(rng, size) for _ in range(48)])).latent_dist.mode()
            for size in SIZES[:3]
        ]
    flat = torch.cat([b.permute(1, 0, 2, 3, 4).reshape(Z_DIM, -1) for b in batches], dim=1)
    return flat.mean(1).tolist(), flat.std(1).tolist()


@dataclass(slots=True)
class VaeRun:
    """Everything of the autoencoder's training that must survive a stop."""

    vae: Any
    muon: Muon
    adam: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def start(cls, vae: Any) -> VaeRun:
        """Fresh optimisers."""
        vae = vae.train().to(memory_format=torch.channels_last)
        kernels = [p for p in vae.parameters() if p.ndim == 4]
        others = [p for p in vae.parameters() if p.ndim != 4]
        adam = torch.optim.AdamW(others, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.0)
        return cls(vae, Muon(kernels, lr=PEAK), adam)

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, weights_only=True)
        self.vae.load_state_dict(state["vae"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step, self.seconds = state["counts"]

    def save(self, folder: Path, rng: np.random.Generator) -> None:
        """The state beside `folder`, then the folder in the diffusers layout: a folder without a state is taken for one
        that came from elsewhere, so there must be none while it is learned."""
        state = {
            "vae": self.vae.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "counts": (self.step, self.seconds),
        }
        save_state(state, state_of(folder))
        _save(self.vae, folder, rng)

    def advance(self, loss: Tensor, rate: float, others: Alone | Together) -> None:
        """One step of both optimisers; sets the clock to that of the first process."""
        self.vae.zero_grad(set_to_none=True)
        loss.backward()
        self.seconds = others.average(self.vae.parameters(), self.seconds)
        self.muon.others = others
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        for optimiser in (self.muon, self.adam):
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self.step += 1


def state_of(folder: Path) -> Path:
    """Where the state of the training that fills `folder` is kept."""
    return folder.with_name(folder.name + ".pt")


def learned(folder: Path, minutes: float) -> bool:
    """Whether the folder's autoencoder has had its time, or came from elsewhere."""
    state = state_of(folder)
    if not (folder / "config.json").is_file():
        return False
    if not state.is_file():
        return True
    spent: float = torch.load(state, weights_only=True, mmap=True)["counts"][1]
    return spent >= 60 * minutes


def train_vae(folder: Path, minutes: float, seed: int = 7, *, others: Alone | Together = ALONE) -> None:
    """Until each thread has spent `minutes` of processor time over all runs. Leaves `folder` in the diffusers layout of
    a VAE, with the measured latent statistics in its config. Only the first of several processes writes."""
    torch.manual_seed(seed)
    run = VaeRun.start(build_vae())
    if state_of(folder).is_file():
        run.load(state_of(folder))
    torch.manual_seed(seed + run.step + 7919 * others.rank)
    rng = np.random.default_rng([seed, 1, run.step, others.rank])
    shared = np.random.default_rng([seed, 4, run.step])
    start, before, saved = worked(), run.seconds, time.monotonic()
    while (done := run.seconds / (60 * minutes)) < 1:
        size = SIZES[0] if shared.random() < 0.6 else SIZES[int(shared.integers(1, len(SIZES)))]
        loss, error = _loss(run.vae, to_tensor([random_picture(rng, size) for _ in range(BATCH)]))
        run.seconds = before + worked() - start
        run.advance(loss, rate_at(done, run.step), others)
        if others.rank:
            continue
        if run.step % 50 == 0:
            _log(folder, run, float(loss.detach()), float(error))
        if time.monotonic() - saved > 240:
            run.save(folder, rng)
            saved = time.monotonic()
    if not others.rank:
        run.save(folder, rng)


def rate_at(done: float, step: int) -> float:
    """Warm up, then fall along a cosine to a fiftieth."""
    return PEAK * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def _save(vae: Any, folder: Path, rng: np.random.Generator) -> None:
    mean, std = measure_latents(vae, rng)
    vae.register_to_config(latents_mean=mean, latents_std=std)
    with replace_folder(folder) as fresh:
        vae.save_pretrained(fresh)


def _log(folder: Path, run: VaeRun, loss: float, error: float) -> None:
    line = {
        "stage": "vae",
        "step": run.step,
        "loss": round(loss, 4),
        "psnr": round(10 * math.log10(4 / error), 2),
        "seconds": round(run.seconds),
    }
    add_line(folder.parent, line)
