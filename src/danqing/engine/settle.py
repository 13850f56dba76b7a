"""Puts loaded modules on a device as their profile says: number format, where they lie, attention, compilation. Knows
no family's insides.

Modules come from their files into main memory; from there they are moved to the device at once, or when they are used
(`residence`). Of what changes numbers nothing is on unless a profile asks for it.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from typing import Any

import structlog
import torch

from danqing.engine.residence import Residence
from danqing.profiles.loading import Loading

_SPARE = 0.12
"""Of the free bytes of a device so many, but at least `_LEAST`, are left to works where modules come and go."""
_LEAST = 4 << 30
_COMPILERS = ("c++", "g++", "clang++")

_log = structlog.get_logger("danqing.engine")


def number_format(loading: Loading, usual: torch.dtype) -> torch.dtype:
    """The format that a checkpoint is computed in, `usual` where its profile leaves it to the device."""
    return {"auto": usual, "bf16": torch.bfloat16, "fp32": torch.float32}[loading.dtype]


def settle(
    name: str, modules: Mapping[str, Any], loading: Loading, *, device: str, residence: Residence | None
) -> None:
    """Settle a checkpoint's modules (`transformer` among them). With a residence they are brought when used. Raises
    ValueError for what cannot be had, TooLarge among them."""
    transformer = modules["transformer"]
    if loading.layerwise_fp8:
        _narrow(transformer)
    if loading.attention:
        _attend(transformer, loading.attention)
    for part, module in modules.items():
        if residence is None:
            module.to(device)
        else:
            residence.add(f"the {part} of {name}", module)
    if loading.compile == "regional":
        _compile(name, transformer, device, moving=residence is not None)


def residence_for(
    loadings: Mapping[str, Loading], sizes: Mapping[str, int], *, kind: str, free: int
) -> set[str]:
    """Which checkpoints' modules come and go on a device with so many bytes free: those that say so, and with "auto"
    those that say that, if not all of them fit. `sizes` are bytes of weights. On a CPU there is nowhere to come
    from."""
    if kind == "cpu":
        return set()
    fits = sum(sizes.values()) + _left(free) <= free
    return {
        name
        for name, loading in loadings.items()
        if loading.offload == "model" or (loading.offload == "auto" and not fits)
    }


def open_residence(device: str, free: int, settled: int) -> Residence:
    """The residence of a device with so many bytes free, of which `settled` are for modules that stay."""
    target = torch.device(device)
    return Residence(free - settled - _left(free), lambda tensor: tensor.to(target, non_blocking=True))


def weight(numbers: int, transformer: int, loading: Loading, usual: torch.dtype) -> int:
    """Bytes on the device of a checkpoint of so many numbers, `transformer` of them the transformer's."""
    narrow = transformer if loading.layerwise_fp8 else 0
    return (numbers - narrow) * number_format(loading, usual).itemsize + narrow


def _left(free: int) -> int:
    return max(_LEAST, int(free * _SPARE))


def _narrow(transformer: Any) -> None:
    """The weights of linear layers in float8, widened for each use and narrowed again, which changes nothing: what was
    narrowed once is the same number in both. Norms stay as they are, and LoRAs, which were made for the wide
    weights."""
    from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN, apply_layerwise_casting

    own = tuple(getattr(transformer, "_skip_layerwise_casting_patterns", None) or ())
    apply_layerwise_casting(
        transformer,
        storage_dtype=torch.float8_e4m3fn,
        compute_dtype=transformer.dtype,
        skip_modules_pattern=(*DEFAULT_SKIP_MODULES_PATTERN, *own, "lora_"),
    )


def _attend(transformer: Any, backend: str) -> None:
    """Raises ValueError for a backend that is unknown, not installed, or fetched when first used."""
    from diffusers.models.attention_dispatch import attention_backend

    if backend.endswith("_hub"):
        raise ValueError(f"the attention backend {backend} is code from a hub, which is not run here")
    try:
        # The library makes it the whole process's choice as well: other checkpoints', and that of masked attention,
        # which many backends refuse. The block puts that back.
        with attention_backend():
            transformer.set_attention_backend(backend)
    except (ValueError, RuntimeError, ImportError) as fault:
        raise ValueError(f"the attention backend {backend} cannot be had: {fault}") from fault


def _compile(name: str, transformer: Any, device: str, *, moving: bool) -> None:
    """The repeated blocks, compiled when first called. Without a compiler, or where modules come and go, they run as
    they are, and the log says so."""
    reason = "modules that come and go are not compiled" if moving else _no_compiler(device)
    if reason is not None:
        _log.warning("not compiled", checkpoint=name, reason=reason)
        return
    # A block that the compiler fails on runs as it is, and torch says so.
    torch._dynamo.config.suppress_errors = True  # noqa: SLF001  # its only name
    transformer.compile_repeated_blocks(dynamic=True)


def _no_compiler(device: str) -> str | None:
    """Why there is no compiler for that device; None if there is one."""
    if device == "cpu" and not any(shutil.which(name) for name in _COMPILERS):
        return f"no C++ compiler is installed ({', '.join(_COMPILERS)})"
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return None
