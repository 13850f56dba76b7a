"""From a checkpoint's address to a family that can run it. Safetensors only; no code of a checkpoint is ever
run.

The class named in `model_index.json` chooses the family; a further family is one more entry in `FAMILIES`.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from danqing.engine.cache import Budget
from danqing.engine.families.contract import Family, Opener
from danqing.engine.residence import Residence
from danqing.engine.settle import number_format, open_residence, residence_for, settle, weight
from danqing.profiles.loader import Adapter, Checkpoint, Profile
from danqing.profiles.weights import NotPulled, Weights

_ONE = "danqing.engine.families.qwen_image_1:QwenImage1"
FAMILIES: dict[str, str] = {
    "QwenImage21Pipeline": "danqing.engine.families.qwen_image_21:QwenImage21",
    "QwenImagePipeline": _ONE,
    "QwenImageEditPipeline": _ONE,
    "QwenImageEditPlusPipeline": _ONE,
}
"""Pipeline class of a checkpoint → where its family is; imported when first wanted, as imports cost
seconds."""

_INDEX = "model_index.json"
_LIBRARIES = frozenset({"diffusers", "transformers"})
_RUNS_CODE = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".joblib", ".npy"})


class BadCheckpoint(ValueError):
    """A checkpoint that is missing, unsafe or of a kind no family runs; a start must stop on it."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where an engine runs: "cpu", "cuda" or "mps", what it is called, and its memory in bytes (all of it,
    and what is free now)."""

    kind: str
    name: str
    memory: int
    free: int

    @property
    def dtype(self) -> torch.dtype:
        """The number format used there: bf16 on CUDA, fp32 elsewhere."""
        return torch.bfloat16 if self.kind == "cuda" else torch.float32

    def keep(self, asked: int | None = None) -> Budget:
        """What a family may remember of inputs and prompts: so many bytes as are asked for, or a twentieth of what is
        free, and on a machine that people work on no more than 256 MB. A card's main memory takes four times that;
        elsewhere there is no second memory."""
        share = self.free // 20
        near = asked if asked is not None else share if self.kind == "cuda" else min(share, 1 << 28)
        return Budget(near, 4 * near if self.kind == "cuda" else 0)


def load_family(
    checkpoint: Checkpoint,
    device: Device,
    weights: Weights | None = None,
    *,
    keep: Budget | None = None,
    residence: Residence | None = None,
) -> Family:
    """Check the checkpoint's folder, which is its own or one of `weights`, and load its modules; with a residence they
    come to the device when they are used. Nothing is fetched. `keep` is what it may remember of inputs and prompts,
    None for what suits the device. Raises BadCheckpoint with the reason in words."""
    folder = _found(checkpoint, weights)
    opener = _opener(check_folder(folder))
    _still_bars()
    try:
        numbers = number_format(checkpoint.loading, device.dtype)
        family = opener(
            folder, torch.device(device.kind), numbers, keep if keep is not None else device.keep()
        )
    except (OSError, KeyError) as error:
        raise BadCheckpoint(f"the checkpoint in {folder} cannot be loaded: {error}") from error
    for adapter in checkpoint.adapters.values():
        try:
            family.adopt(adapter.name, _adapter_file(adapter, weights), adapter.schedule)
        except (OSError, KeyError, ValueError) as error:
            raise BadCheckpoint(f"the adapter {adapter.name} cannot be loaded: {error}") from error
    try:
        settle(checkpoint.name, family.modules, checkpoint.loading, device=device.kind, residence=residence)
    except ValueError as error:
        raise BadCheckpoint(f"checkpoint {checkpoint.name}, loading: {error}") from error
    return family


def residence_of(profile: Profile, device: Device, weights: Weights | None) -> dict[str, Residence]:
    """The residence, one for all, of those checkpoints whose modules come and go; the others stay on the device. Raises
    BadCheckpoint where they do not fit."""
    named = profile.checkpoints
    loadings = {name: one.loading for name, one in named.items()}
    sizes = {name: _weight(one, device, weights) for name, one in named.items()}
    moving = residence_for(loadings, sizes, kind=device.kind, free=device.free)
    settled = sum(size for name, size in sizes.items() if name not in moving)
    if device.kind != "cpu" and settled > device.free:
        raise BadCheckpoint(
            f"the weights need {settled / 1e9:.0f} GB and the device has {device.free / 1e9:.0f} GB free: the "
            'profile\'s loading may say offload = "auto" or layerwise_fp8 = true'
        )
    if not moving:
        return {}
    return dict.fromkeys(moving, open_residence(device.kind, device.free, settled))


def spare_of(
    profile: Profile, device: Device, weights: Weights | None, moving: Mapping[str, Residence]
) -> int:
    """Bytes of the device that are left to works, and to what is remembered, once all modules are there. Raises
    BadCheckpoint."""
    here = [one for name, one in profile.checkpoints.items() if name not in moving]
    settled = sum(_weight(one, device, weights) for one in here)
    return max(0, device.free - settled - max((one.limit for one in moving.values()), default=0))


def _weight(checkpoint: Checkpoint, device: Device, weights: Weights | None) -> int:
    """Bytes that a checkpoint's weights take on the device, by what its files hold and in its format there. Raises
    BadCheckpoint."""
    folder = _found(checkpoint, weights)

    def numbers(part: Path) -> int:
        return sum(map(_numbers, part.rglob("*.safetensors")))

    return weight(numbers(folder), numbers(folder / "transformer"), checkpoint.loading, device.dtype)


def _numbers(file: Path) -> int:
    """How many numbers a safetensors file holds, by its header: eight bytes of length, then JSON. Raises
    BadCheckpoint."""
    try:
        with file.open("rb") as read:
            header = json.loads(read.read(int.from_bytes(read.read(8), "little")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadCheckpoint(f"{file} is no safetensors file") from error


def _found(wanted: Checkpoint | Adapter, weights: Weights | None) -> Path:
    """Where the weights lie on this machine. Raises BadCheckpoint."""
    if wanted.folder is not None:
        return wanted.folder
    if weights is None:
        raise BadCheckpoint(f"{wanted.source} is no folder, and there is no folder of pulled weights")
    try:
        return weights.find(wanted)
    except NotPulled as fault:
        raise BadCheckpoint(f"{fault}: `danqing models pull` brings them") from fault


def _adapter_file(adapter: Adapter, weights: Weights | None) -> Path:
    """The adapter's file on this machine. Raises BadCheckpoint."""
    if Path(adapter.file).suffix != ".safetensors":
        raise BadCheckpoint(f"only safetensors are loaded; the adapter {adapter.name} is {adapter.file}")
    found = _found(adapter, weights) / adapter.file
    if not found.is_file():
        raise BadCheckpoint(f"there is no {found}")
    return found


def check_folder(folder: Path) -> str:
    """The pipeline class of a folder that is safe to load. Raises BadCheckpoint for a folder without an
    index, with files that could run code when loaded, or with components from outside diffusers and
    transformers."""
    path = folder / _INDEX
    if not path.is_file():
        raise BadCheckpoint(f"there is no {_INDEX} in {folder}")
    unsafe = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix.lower() in _RUNS_CODE)
    if unsafe:
        raise BadCheckpoint(f"only safetensors are loaded; {folder} also holds {', '.join(unsafe[:5])}")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadCheckpoint(f"{path} is not JSON") from error
    if not isinstance(index, dict):
        raise BadCheckpoint(f"{path} is not a pipeline's index")
    for part, entry in index.items():
        if _foreign(entry):
            raise BadCheckpoint(
                f"{part} of {folder} comes from {entry[0]}, which is not one of the two libraries"
            )
    return str(index.get("_class_name"))


def _foreign(entry: Any) -> bool:
    """Whether an entry of the index is a component, a pair [library, class], of a library we do not load
    from. Pairs of numbers are settings, and a pair of nulls is a component left out."""
    if not isinstance(entry, list) or len(entry) != 2 or all(isinstance(word, int | float) for word in entry):
        return False
    return entry[0] is not None and (not isinstance(entry[0], str) or entry[0] not in _LIBRARIES)


def _opener(kind: str) -> Opener:
    if kind not in FAMILIES:
        raise BadCheckpoint(f"no family runs a {kind}; there are: {', '.join(FAMILIES)}")
    module, name = FAMILIES[kind].split(":")
    opener: Opener = getattr(importlib.import_module(module), name)
    return opener


def _still_bars() -> None:
    """The libraries' own progress bars would draw into the log of a worker."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
