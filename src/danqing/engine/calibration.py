"""What an engine has learned of its device's speed, kept over restarts. Knows files, and no unit of work.

Rates belong to a device and a checkpoint: those of another card would promise what this one cannot keep. A file that
cannot be read is worth a fresh start and nothing more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from danqing.schedule.cost import Costs, Stage

VERSION = 2
"""1 knew the 1.x checkpoints' prefill by tokens instead of operations."""


def recalled(file: Path, device: str) -> Costs:
    """The costs that were kept for that device; empty ones where there are none."""
    costs = Costs()
    try:
        kept = json.loads(file.read_text("utf-8"))
        if kept["version"] == VERSION and kept["device"] == device:
            costs.recall((Stage(stage), int(size), float(rate)) for stage, size, rate in kept["rates"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return Costs()
    return costs


def keep(file: Path, device: str, rates: Iterable[tuple[Stage, int, float]]) -> None:
    """Write what was learned, whole or not at all; a disk that is full is no reason to stop."""
    text = json.dumps({"version": VERSION, "device": device, "rates": [list(rate) for rate in rates]})
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, "utf-8")
        fresh.replace(file)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
