"""How the scripts of this folder tell what they found: a table for people, then one line of JSON for programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], part: float = 0.95) -> float:
    """The value below which that part of the values lies."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def show(figures: Mapping[str, object]) -> None:
    """The table and the line. A figure that is None was not measured."""
    for name, value in figures.items():
        print(f"{name:28} {'not measured' if value is None else value}")
    print(json.dumps(figures))


def commit() -> str:
    """The commit that was measured; empty outside a repository."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
