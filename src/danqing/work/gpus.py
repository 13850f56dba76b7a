"""Which GPUs this machine has, asked of the driver's own tool, so that a server need not load a tensor library for it.

A worker is started for each and sees that one alone. Knows no engine.
"""

from __future__ import annotations

import subprocess
from importlib import metadata

_ASK = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")
_SECONDS = 10.0


def listed_gpus(visible: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Their ids, as `CUDA_VISIBLE_DEVICES` takes them: the `visible` ones, if somebody has said which. Empty where
    there is no such tool, or where the tensor library was built without CUDA."""
    if _plain_torch():
        return ()
    if visible is not None:
        return visible
    try:
        told = subprocess.run(_ASK, capture_output=True, text=True, timeout=_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in told.stdout.splitlines() if line.strip())


def _plain_torch() -> bool:
    try:
        return "+cpu" in metadata.version("torch")
    except metadata.PackageNotFoundError:
        return False
