"""How good is it by now? Has a checkpoint folder judged by `bench.eval` in a process of its own, as a user would.

Knows a command and the line of JSON that it ends with; the engine stays out of the process that trains.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def evaluate(folder: Path, count: int, *, sheet: Path, times: bool = False) -> dict[str, Any]:
    """Accuracy on `count` held-out questions a row and language, with `times` the seconds of an edit besides: the names
    are those of `bench.eval`. Right and wrong answers are drawn into `sheet`. Raises RuntimeError with what it said
    where it fails."""
    command = [sys.executable, "-m", "bench.eval", "--model", str(folder), "--count", str(count)]
    command += ["--sheet", str(sheet)]
    asked = subprocess.run(
        [*command, *([] if times else ["--no-times"])], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise RuntimeError(f"the evaluation failed: {asked.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(asked.stdout.splitlines()[-1])
    return figures
