"""`python -m bench.big`: what the largest pictures take of memory, beside small ones in the same run.

Peak resident memory of each process (`VmHWM`, reset before every call through `clear_refs`), so Linux only. The idle
figure is that of the same process just before the call.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from bench.server import Served, serving

MIB = 1024 * 1024
PROMPT = "a red circle on a white background"


def picture(side: int) -> str:
    """A noisy photograph of a picture, as a data URI: the size of the file does not matter, its pixels do."""
    small = Image.frombytes("RGB", (64, 64), random.Random(1).randbytes(3 * 64 * 64))
    file = io.BytesIO()
    small.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def body(size: str, given: str | None = None) -> dict[str, Any]:
    """A call for one picture."""
    images = [{"image": given}] if given else []
    message = {"role": "user", "content": [*images, {"text": PROMPT}]}
    parameters = {"n": 1, "size": size, "seed": 7, "watermark": False, "thinking_mode": False}
    return {"model": "wan2.7-image-pro", "input": {"messages": [message]}, "parameters": parameters}


def processes(served: Served) -> dict[int, str]:
    """The server's processes: which is which by what they were started with."""
    root = psutil.Process(served.pid)
    names = {root.pid: "server"}
    for child in root.children(recursive=True):
        words = " ".join(child.cmdline())
        names[child.pid] = "worker" if "worker" in words else "decoder"
    return names


def resident(pid: int, field: str) -> int:
    """`VmRSS` or `VmHWM` in bytes; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


def peaks(served: Served, asked: dict[str, Any]) -> dict[str, float]:
    """MiB that each kind of process had at most during one call, and before it; several decoders count together."""
    names = processes(served)
    before = {pid: resident(pid, "VmRSS") for pid in names}
    for pid in names:
        Path(f"/proc/{pid}/clear_refs").write_text("5", "utf-8")
    told, wall, _ = served.call(asked)
    figures = {"seconds": round(wall, 2)}
    for kind in ("server", "worker", "decoder"):
        mine = [pid for pid, name in names.items() if name == kind]
        figures[f"{kind}_idle"] = round(sum(before[pid] for pid in mine) / MIB)
        figures[f"{kind}_peak"] = round(sum(resident(pid, "VmHWM") for pid in mine) / MIB)
    figures["above_idle"] = sum(
        max(0, figures[f"{kind}_peak"] - figures[f"{kind}_idle"]) for kind in ("server", "worker", "decoder")
    )
    assert told["usage"]["image_count"] == 1
    return figures


def measure() -> dict[str, dict[str, float]]:
    """Small calls to warm up, then small and large, with and without a picture."""
    asked = {
        "text_1024": body("1024*1024"),
        "text_4096": body("4096*4096"),
        "edit_1024_of_1024": body("1024*1024", picture(1024)),
        "edit_2048_of_4096": body("2048*2048", picture(4096)),
    }
    with serving(starts=1) as served:
        for name in ("text_1024", "edit_1024_of_1024"):
            served.call(asked[name])
        return {name: peaks(served, each) for name, each in asked.items()}


def main() -> None:
    """Print the figures as a table and as JSON."""
    ArgumentParser(description=__doc__).parse_args()
    print(f"load average {os.getloadavg()[0]:.2f}")
    found = measure()
    for name, figures in found.items():
        print(name, " ".join(f"{key}={value:g}" for key, value in figures.items()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
