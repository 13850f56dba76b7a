"""What lies in a folder that a running server may be changing meanwhile."""

from __future__ import annotations

import os
from pathlib import Path


def files_below(root: Path) -> list[Path]:
    """Every file below `root`. Not by `Path.rglob`: that raises where a folder goes before it is entered."""
    return [Path(folder, name) for folder, _, names in os.walk(root) for name in names]
