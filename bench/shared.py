"""What does shared work save: pictures of one request, requests side by side, the same inputs under another prompt?

    python -m bench.shared [--checkpoint FOLDER] [--pairs 5]

Against the stock pipeline on the same checkpoint, its K/V cache on, as `bench.alone` compares: one thread, fp32, the
two in turns, medians of processor time.

* n = 6 with three inputs and 8 steps, the whole request, against `num_images_per_prompt=6`; and the ratio over the one
  that the engine's own cost model predicts, if all that is saved is five of the stock pipeline's six prefixes.
* Eight requests at once: two of 40 steps with three inputs, two of 8 with one, four of 4 with none. The stock pipeline
  takes them in order of arrival. Pictures a second, and the mean time from the start to each one's end.
* Three inputs that were seen before, with a prompt that differs from its first token on: of the tokens that both
  requests begin with, the share that neither the encoder nor the transformer computes again. Counted at the modules.

The last line is JSON."""

from __future__ import annotations

import argparse
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

from bench.alone import (
    PROMPT,
    SIDE,
    bench_engine,
    checkpoint_folder,
    compare,
    engine_run,
    make_work,
    stock_run,
)
from danqing.core.events import Event, Finished
from danqing.engine.build import order_for
from danqing.engine.cache import Budget
from danqing.engine.families.contract import plan
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Room
from danqing.engine.processor import build_processor
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from danqing.schedule.cost import Stage

LANES, STEPS = 6, 8
MIXED = ((40, 3), (4, 0), (8, 1), (4, 0), (40, 3), (4, 0), (8, 1), (4, 0))
"""Steps and inputs of the eight requests, in their order of arrival."""
CPU = torch.device("cpu")


def stock_of(folder: Path) -> Any:
    """The stock pipeline."""
    pipeline = DiffusionPipeline.from_pretrained(
        folder, processor=build_processor(folder), dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pictures_of_one(folder: Path, pipeline: Any, pairs: int) -> dict[str, float]:
    """Six pictures of one request."""
    family = QwenImage21(folder, CPU, torch.float32)
    engine = bench_engine(folder, family, steps=STEPS)
    heard: list[Event] = []
    engine.listen(heard.append)
    work = make_work(3, LANES)
    ours = engine_run(engine, heard, work)
    one, other = compare(stock_run(pipeline, 3, LANES, STEPS), ours, pairs)
    predicted = _predicted(engine, family)
    print(
        f"{'n = 6, 3 inputs':<22}{one * 1e3:>10.1f}{other * 1e3:>11.1f}{one / other:>8.2f}  ({predicted:.2f} predicted)"
    )
    return {"n6_ratio": one / other, "n6_of_predicted": one / other / predicted}


def _predicted(engine: StepEngine, family: QwenImage21) -> float:
    """By the operations of six prefixes instead of one, and what the engine has learned in those runs of its units'
    time. Prefixes are priced as steps of six are: the stock pipeline's six go through the same blocks as full."""
    made = plan(make_work(3, LANES), Preset("one", STEPS), Native())

    def seconds(stage: Stage, lanes: int = 1) -> float:
        return engine.costs.seconds(family.bill(made, stage, lanes)) or 0.0

    step = family.bill(made, Stage.STEP, LANES)
    prefix = family.bill(made, Stage.PREFILL).flops / step.flops * seconds(Stage.STEP, LANES)
    rest = seconds(Stage.ENCODE) + STEPS * seconds(Stage.STEP, LANES) + LANES * seconds(Stage.DECODE)
    return (rest + LANES * prefix) / (rest + prefix)


def side_by_side(folder: Path, pipeline: Any, pairs: int) -> dict[str, float]:
    """Eight requests at once."""
    family = QwenImage21(folder, CPU, torch.float32, Budget(1 << 28))
    kept = Checkpoint("one", str(folder), Native(), Relation.MINIATURE, "")
    presets = {f"{steps}": Preset("one", steps) for steps in (4, 8, 40)}
    profile = Profile("bench", "", {"one": kept}, presets)
    engine = StepEngine(profile, {"one": family}, policy=order_for("cpu"), room=Room(1 << 40))
    ends: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, Finished):
            ends.append(time.process_time())

    engine.listen(note)

    def ours() -> tuple[float, float]:
        ends.clear()
        # Nothing is known of these inputs from the round before: the stock pipeline remembers nothing either.
        family.forget()
        began = time.process_time()
        for place, (steps, inputs) in enumerate(MIXED):
            work = replace(make_work(inputs, 1), model=f"{steps}", prompt=f"{place} {PROMPT}", seed=place)
            engine.put(replace(work, token=f"{began}-{place}"))
        while engine.tick():
            pass
        return _spans(began, ends)

    runs = [stock_run(pipeline, inputs, 1, steps) for steps, inputs in MIXED]

    def stock() -> tuple[float, float]:
        began = time.process_time()
        return _spans(began, [run() and time.process_time() for run in runs])  # type: ignore[misc]

    stock(), ours()
    rounds = [(stock(), ours()) for _ in range(pairs)]
    print(f"{'eight at once':<22}{'stock':>10}{'engine':>11}")
    whole = [statistics.median(side[0] for side in sides) for sides in zip(*rounds, strict=True)]
    mean = [statistics.median(side[1] for side in sides) for sides in zip(*rounds, strict=True)]
    print(
        f"{'  until the last, ms':<22}{whole[0] * 1e3:>10.0f}{whole[1] * 1e3:>11.0f}{whole[0] / whole[1]:>8.2f}"
    )
    print(f"{'  mean, ms':<22}{mean[0] * 1e3:>10.0f}{mean[1] * 1e3:>11.0f}{mean[1] / mean[0]:>8.2f}")
    return {"mixed8_ratio": whole[0] / whole[1], "mixed8_mean_time": mean[1] / mean[0]}


def _spans(began: float, ends: list[float]) -> tuple[float, float]:
    """Until the last end, and the mean."""
    if len(ends) != len(MIXED):
        raise SystemExit(f"{len(ends)} of {len(MIXED)} requests were done")
    return max(ends) - began, statistics.fmean(end - began for end in ends)


class Counter:
    """Tokens that go into a module."""

    def __init__(self, module: Any) -> None:
        """Counts from now on."""
        self.tokens = 0
        module.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _module: Any, args: Any, given: Any) -> None:
        self.tokens += (args[0] if args else given["hidden_states"]).shape[1]

    def during(self, run: Callable[[], object]) -> int:
        """What went in meanwhile."""
        before = self.tokens
        run()
        return self.tokens - before


def saved(folder: Path) -> float:
    """The share of the common beginning's tokens that is not computed again, the smaller of encoder and transformer."""
    family = QwenImage21(folder, CPU, torch.float32, Budget(1 << 28))
    made = plan(make_work(3, 1), Preset("one", STEPS), Native())
    counters = (
        Counter(family.encoder.model.language_model.layers[0]),
        Counter(family.transformer.transformer_blocks[0]),
    )
    shares = []
    told: list[tuple[int, ...]] = []
    for prompt in (f"a {PROMPT}", f"b {PROMPT}"):
        asked = replace(made, work=replace(made.work, prompt=prompt))
        conditions: list[Any] = []
        read = counters[0].during(lambda: conditions.append(family.encode(asked)))  # noqa: B023  # called at once
        filled = counters[1].during(lambda: family.prefill(asked, conditions[0]))  # noqa: B023
        told.append((read, filled))
    rest = len(family.processor.tokenizer(f"a {PROMPT}<|im_end|>\n<|im_start|>assistant\n").input_ids)
    for cold, warm in zip(*told, strict=True):
        shares.append((cold - warm) / (cold - rest))
        print(f"{'common beginning':<22}{cold - rest:>10}{warm - rest:>11}  tokens, of which computed again")
    return min(shares)


def measure(checkpoint: str | None = None, *, pairs: int = 5) -> dict[str, Any]:
    """The figures as a dictionary; tables on the way. Sets torch to one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as spare:
        folder, kind = checkpoint_folder(checkpoint, Path(spare))
        pipeline = stock_of(folder)
        print(f"{kind}, {SIDE}², one thread{'':<3}{'stock ms':>10}{'engine ms':>11}")
        figures = pictures_of_one(folder, pipeline, pairs) | side_by_side(folder, pipeline, pairs)
        figures["prefix_saved"] = saved(folder)
    return {"load": [round(load, 2) for load in os.getloadavg()]} | {
        name: round(value, 3) for name, value in figures.items()
    }


def main() -> None:
    """The command."""
    read = argparse.ArgumentParser()
    read.add_argument("--checkpoint")
    read.add_argument("--pairs", type=int, default=5)
    asked = read.parse_args()
    print(json.dumps(measure(asked.checkpoint, pairs=asked.pairs)))


if __name__ == "__main__":
    main()
