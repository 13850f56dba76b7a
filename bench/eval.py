"""How often is the checkpoint right? Held-out drawn cases by row, in English and Chinese, through the stock pipeline.

    python bench/eval.py --model src/danqing/miniature --count 10

Prints a table for people, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import QwenImage21Pipeline
from PIL import Image

from danqing.engine.processor import build_processor
from danqing.judge.draw import Pixels
from danqing.judge.exam import Answer, Paper, Tally, sit
from danqing.judge.scenes import LANGUAGES, ROWS, Case


def load(folder: Path) -> Any:
    pipe = QwenImage21Pipeline.from_pretrained(folder, processor=build_processor(folder), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def answerer(pipe: Any, *, steps: int, guidance: float) -> Answer:
    def answer(case: Case) -> Pixels:
        width, height = case.size
        drawn = pipe(
            case.instruction,
            image=[Image.fromarray(picture) for picture in case.inputs] or None,
            negative_prompt=" " if guidance > 1 else None,
            true_cfg_scale=guidance,
            num_inference_steps=steps,
            width=width,
            height=height,
            output_resolution=round(math.sqrt(width * height)),
            generator=torch.Generator("cpu").manual_seed(case.seed),
        ).images[0]
        return np.asarray(drawn.convert("RGB"))

    return answer


def print_table(tally: Tally, rows: Sequence[str]) -> None:
    print(f"{'row':20}" + "".join(f"{language:>8}" for language in LANGUAGES) + f"{'asked':>8}")
    for row in rows:
        shares = "".join(f"{tally.share(row, language):8.0%}" for language in LANGUAGES)
        print(f"{row:20}{shares}{sum(n for key, n in tally.asked.items() if key[0] == row):8}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("src/danqing/miniature"))
    parser.add_argument("--count", type=int, default=10, help="questions for each row and language")
    parser.add_argument("--first", type=int, default=0, help="first held-out seed")
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--faults", action="store_true", help="say what went wrong")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    width, height = (int(side) for side in options.size.split("x"))
    paper = Paper(tuple(options.rows), LANGUAGES, options.count, options.first, (width, height))
    pipe = load(options.model)
    began = time.monotonic()
    tally = sit(paper, answerer(pipe, steps=options.steps, guidance=options.guidance))
    seconds = time.monotonic() - began
    print_table(tally, paper.rows)
    for case, verdict in tally.faults if options.faults else ():
        print(f"  {case.row} {case.language} {case.seed}: {case.instruction} -> {'; '.join(verdict.reasons)}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    line = {
        "bench": "eval",
        "commit": commit.stdout.strip(),
        "model": str(options.model),
        "steps": options.steps,
        "guidance": options.guidance,
        "size": options.size,
        "first": options.first,
        "count": options.count,
        "seconds_each": round(seconds / max(1, sum(tally.asked.values())), 3),
        "right": {f"{row}/{language}": tally.share(row, language) for row, language in tally.asked},
    }
    print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
