"""What the server adds to a call, how fast it starts, what it weighs, how long an edit takes.

`python -m bench.serving` starts a real server with torch on one thread. Overhead of a synchronous call = the client's
wall time less what the worker took from the claim to the last stored byte of PNG.
"""

from __future__ import annotations

import base64
import statistics
from argparse import ArgumentParser
from typing import Any

import psutil

from bench.figures import percentile, show
from bench.server import Served, serving
from danqing.core.raster import Raster, Size
from danqing.judge.scenes import draw_case
from danqing.pixels.png import encode

TEXT_CALLS = 200
EDIT_CALLS = 50


def text_body(seed: int) -> dict[str, Any]:
    """A text-to-image call at 512²."""
    return _body("qwen-image-2.0", [{"text": "a red circle on a white background"}], seed)


def edit_body(seed: int, picture: str, instruction: str) -> dict[str, Any]:
    """A one-input edit at 512²."""
    return _body("qwen-image-edit-plus", [{"image": picture}, {"text": instruction}], seed)


def _body(model: str, content: list[dict[str, str]], seed: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": model, "input": {"messages": messages}, "parameters": {"size": "512*512", "seed": seed}}


def input_picture() -> tuple[str, str]:
    """A 512² scene as a data URI, and what to change in it."""
    case = draw_case("recolour", 7, "en", size=(512, 512))
    pixels = case.inputs[0]
    height, width = pixels.shape[:2]
    png = encode(Raster(Size(width, height), 3, pixels.tobytes()))
    return "data:image/png;base64," + base64.b64encode(png).decode(), case.instruction


def overheads(server: Served, bodies: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Milliseconds of overhead and seconds of wall time of each call, one after the other."""
    extra, walls = [], []
    for body in bodies:
        _, wall, work = server.call(body)
        extra.append((wall - work) * 1000)
        walls.append(wall)
    return extra, walls


def resident(pid: int) -> float:
    """MB resident in the server and all its children. Shared pages count in each: an upper bound."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in family) / 1e6


def measure() -> dict[str, float]:
    """All figures of one server's life."""
    picture, instruction = input_picture()
    with serving(threads=1) as server:
        edits = [edit_body(seed, picture, instruction) for seed in range(EDIT_CALLS)]
        overheads(server, edits[:10])
        memory = resident(server.pid)
        text, _ = overheads(server, [text_body(seed) for seed in range(TEXT_CALLS)])
        edit, walls = overheads(server, edits)
        return {
            "overhead_ms_p50": round(statistics.median(text), 1),
            "overhead_ms_p99": round(percentile(text, 0.99), 1),
            "overhead_edit_ms_p50": round(statistics.median(edit), 1),
            "ready_s": round(server.ready_seconds, 2),
            "rss_mb": round(memory),
            "edit_512_s": round(statistics.median(walls), 2),
        }


def main() -> None:
    """Print the figures."""
    ArgumentParser(description=__doc__).parse_args()
    show(measure())


if __name__ == "__main__":
    main()
