"""How fast is one request alone, against the stock pipeline of diffusers on the same checkpoint?

    python -m bench.alone [--checkpoint FOLDER] [--pairs 15] [--steps 10] [--batch]

Same request, same modules' weights, same number format (fp32), same number of threads (1), the stock
pipeline's K/V cache on. Stock and engine take turns; each figure is the median of processor time, which on
one thread is the time on a quiet machine whatever else runs. The stock pipeline delivers PIL pictures, the
engine rasters of the drawn size, so that no resizing is counted on either side. `--batch` instead measures
what stepping lanes together saves, the source of `Saturation.half` in engine/build.py.

Without --checkpoint: the bundled miniature, else one of its architecture with random weights. The last line
is JSON."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from danqing.core.events import Event, Finished, Stepped, Work
from danqing.core.raster import Raster, Size
from danqing.engine.build import order_for
from danqing.engine.cache import Budget
from danqing.engine.families.contract import Family, plan
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Room
from danqing.engine.processor import build_processor
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation, load_profile
from tests.support.tiny import MINIATURE_SHAPE, tiny_checkpoint

SIDE = 128
PROMPT = "把左边的红色圆形换成蓝色正方形 (replace the red circle on the left with a blue square)"
CASES = {"text to image": (0, 1), "one input": (1, 1), "three inputs, n = 2": (3, 2)}


def checkpoint_folder(named: str | None, spare: Path) -> tuple[Path, str]:
    if named:
        return Path(named), "named"
    bundled = load_profile("miniature").checkpoints["miniature"].folder
    if bundled is not None and (bundled / "model_index.json").is_file():
        return bundled, "miniature"
    return tiny_checkpoint(spare, MINIATURE_SHAPE), "random weights in the miniature's shape"


@functools.cache
def pictures(count: int) -> list[Image.Image]:
    """Noise drawn once: the same call answers the same pictures."""
    return [Image.effect_noise((SIDE, SIDE), 40 + place).convert("RGB") for place in range(count)]


def make_work(inputs: int, count: int) -> Work:
    given = tuple(Raster(Size(SIDE, SIDE), 3, picture.tobytes()) for picture in pictures(inputs))
    return Work("t", "any", PROMPT, None, given, count, Size(SIDE, SIDE), 1)


def stock_run(pipeline: Any, inputs: int, count: int, steps: int) -> Callable[[], object]:
    given = pictures(inputs) or None

    def run() -> object:
        return pipeline(
            PROMPT,
            image=given,
            height=SIDE,
            width=SIDE,
            output_resolution=SIDE,
            num_inference_steps=steps,
            num_images_per_prompt=count,
            generator=[torch.Generator().manual_seed(1 + place) for place in range(count)],
        ).images

    return run


def engine_run(engine: StepEngine, heard: list[Event], work: Work) -> Callable[[], object]:
    def run() -> object:
        heard.clear()
        engine.put(work)
        while engine.tick():
            pass
        if not any(isinstance(event, Finished) for event in heard):
            raise SystemExit(f"the engine did not finish: {heard}")
        return heard

    return run


def timed(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def compare(stock: Callable[[], object], ours: Callable[[], object], pairs: int) -> tuple[float, float]:
    stock(), ours(), stock(), ours()
    times = [(timed(stock), timed(ours)) for _ in range(pairs)]
    return statistics.median(one for one, _ in times), statistics.median(other for _, other in times)


def bench_engine(folder: Path, family: Family, *, steps: int, native: Native | None = None) -> StepEngine:
    kept = Checkpoint("one", str(folder), native or Native(), Relation.MINIATURE, "")
    profile = Profile("bench", "", {"one": kept}, {"*": Preset("one", steps)})
    return StepEngine(profile, {"one": family}, policy=order_for("cpu"), room=Room(1 << 40))


def alone(folder: Path, pairs: int, steps: int) -> dict[str, float]:
    pipeline = DiffusionPipeline.from_pretrained(
        folder, processor=build_processor(folder), dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    family = QwenImage21(folder, torch.device("cpu"), torch.float32)
    engine = bench_engine(folder, family, steps=steps)
    heard: list[Event] = []
    engine.listen(heard.append)
    ratios = {}
    print(f"{'case':<22}{'stock ms':>10}{'engine ms':>11}{'ratio':>8}")
    for name, (inputs, count) in CASES.items():
        ours = engine_run(engine, heard, make_work(inputs, count))
        one, other = compare(stock_run(pipeline, inputs, count, steps), ours, pairs)
        ratios[name] = one / other
        print(f"{name:<22}{one * 1e3:>10.1f}{other * 1e3:>11.1f}{one / other:>8.2f}")
    return ratios


def first_step(folder: Path, pairs: int) -> float:
    """Time to the first step with three inputs that were seen before with another prompt, over that of new
    ones."""
    family = QwenImage21(folder, torch.device("cpu"), torch.float32, Budget(1 << 28))
    numbers = itertools.count()
    heard: list[Event] = []
    engine = bench_engine(folder, family, steps=2)
    engine.listen(heard.append)

    def run(tenant: str) -> None:
        heard.clear()
        work = make_work(3, 1)
        engine.put(replace(work, token=str(next(numbers)), tenant=tenant, prompt=f"{PROMPT} {next(numbers)}"))
        while not any(isinstance(event, Stepped) for event in heard):
            engine.tick()
        engine.cancel(heard[0].token)
        engine.tick()

    cold, warm = compare(lambda: run(f"new {next(numbers)}"), lambda: run("known"), pairs)
    print(
        f"{'first step, 3 inputs':<22}{cold * 1e3:>10.1f}{warm * 1e3:>11.1f}{warm / cold:>8.2f}  (new, known, share)"
    )
    return warm / cold


def batch(folder: Path, pairs: int) -> dict[str, float]:
    family = QwenImage21(folder, torch.device("cpu"), torch.float32)
    made = plan(make_work(1, 8), Preset("one", 1000), Native())
    prefix = family.prefill(made, family.encode(made))
    lanes = [family.begin(made, prefix, index) for index in range(8)]
    shares = {}
    print(f"{'lanes':<8}{'apart ms':>10}{'together ms':>13}{'share':>8}")
    for count in (2, 4, 8):
        chosen = lanes[:count]
        apart, together = compare(
            lambda chosen=chosen: [family.step(made, [lane]) for lane in chosen],
            lambda chosen=chosen: family.step(made, chosen),
            pairs,
        )
        shares[str(count)] = together / apart
        print(f"{count:<8}{apart * 1e3:>10.2f}{together * 1e3:>13.2f}{together / apart:>8.2f}")
    return shares


def measure(
    checkpoint: str | None = None, *, pairs: int = 15, steps: int = 10, lanes: bool = False
) -> dict[str, Any]:
    """The figures as a dictionary; tables on the way. Sets torch to one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as spare:
        folder, kind = checkpoint_folder(checkpoint, Path(spare))
        figures: dict[str, Any] = {"checkpoint": kind, "side": SIDE, "steps": steps, "threads": 1}
        figures["load"] = [round(load, 2) for load in os.getloadavg()]
        if lanes:
            return figures | {
                "batch_share": {key: round(value, 3) for key, value in batch(folder, pairs).items()}
            }
        ratios = {key: round(value, 3) for key, value in alone(folder, pairs, steps).items()}
        known = round(first_step(folder, pairs), 3)
        return figures | {
            "ratios": ratios,
            "prefix_first_step": known,
            "alone_min_ratio": min(ratios.values()),
        }


def main() -> None:
    read = argparse.ArgumentParser()
    read.add_argument("--checkpoint")
    read.add_argument("--pairs", type=int, default=15)
    read.add_argument("--steps", type=int, default=10)
    read.add_argument("--batch", action="store_true")
    asked = read.parse_args()
    figures = measure(asked.checkpoint, pairs=asked.pairs, steps=asked.steps, lanes=asked.batch)
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
