"""What one GPU does with the Qwen-Image checkpoints at their true size, and whether it is what was foretold.

    python -m bench.gpu [--small] [--out FOLDER] [--only NAME …]

Random weights of true size (`bench.true_size`): 1.x Edit with one and three inputs, 2.1 with none to three, bf16,
1024². A JSON file for each experiment goes to --out; the table of predictions and one JSON line end the output. Without
a GPU, and with --small, the same script runs on tiny shapes in fp32 on the CPU, in processor time, which shows that it
runs and nothing else: then no prediction is judged.

Random numbers take the same kernels as real ones. What they cannot tell is anything about pictures, and a device's
clock may differ by a few per cent, as noise switches more bits."""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from PIL import Image

from bench.true_size import Made, make
from danqing.core.events import Work
from danqing.core.raster import Raster, Size
from danqing.engine import flat
from danqing.engine.cache import Budget
from danqing.engine.families.contract import Plan, plan
from danqing.profiles.loader import Native, Preset
from danqing.schedule.cost import Costs, Stage

PROMPT = "把左边的红色圆形换成蓝色正方形 (replace the red circle on the left with a blue square)"
PEAKS = {"H100": 989e12, "H200": 989e12}
"""Dense bf16 operations a second, as the vendor says."""
NAMES = ("1.x", "2.1")


@dataclass(frozen=True, slots=True)
class Terms:
    """Where and how large: the device, the sides of a picture of a megapixel and of a quarter, the steps that are
    timed, and the widths of batches."""

    device: torch.device
    dtype: torch.dtype
    small: bool
    side: int = 1024
    half: int = 512
    steps: int = 8
    widths: tuple[int, ...] = (1, 2, 4, 8)

    @property
    def peak(self) -> float | None:
        """Operations a second that the device has at most; None for one we do not know."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        return next((peak for known, peak in PEAKS.items() if known in name), None)

    def now(self) -> float:
        """Seconds, once the device has done what it was told; on a CPU those of this process."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


def terms(*, small: bool) -> Terms:
    """Those of this machine."""
    if small or not torch.cuda.is_available():
        return Terms(
            torch.device("cpu"), torch.float32, small=True, side=128, half=64, steps=3, widths=(1, 2)
        )
    return Terms(torch.device("cuda"), torch.bfloat16, small=False)


def picture(place: int, side: int) -> Image.Image:
    levels = torch.randint(
        0, 256, (side, side, 3), generator=torch.Generator().manual_seed(place), dtype=torch.uint8
    )
    return Image.fromarray(levels.numpy())


def work(made: Made, on: Terms, inputs: int, *, side: int = 0, steps: int = 40, prompt: str = PROMPT) -> Plan:
    """A request as the family sees it."""
    given = tuple(picture(place, on.side) for place in range(inputs))
    rasters = tuple(Raster(Size(on.side, on.side), 3, one.tobytes()) for one in given)
    size = Size(side or on.side, side or on.side)
    asked = Work("t", "any", prompt, None, rasters, 1, size, 1)
    native = Native(multiple=16, input_area=on.side**2) if made.name == "1.x" else Native()
    return plan(asked, Preset("one", steps), native)


def seconds(on: Terms, run: Callable[[], Any]) -> float:
    began = on.now()
    run()
    return on.now() - began


@dataclass(slots=True)
class Timed:
    """The stages of one request, in seconds, and the lanes for more."""

    plan: Plan
    encode: float
    prefill: float
    steps: list[float]
    prefix: Any
    lanes: list[Any] = field(default_factory=list)

    @property
    def step(self) -> float:
        return statistics.median(self.steps[1:] or self.steps)


def timed(made: Made, on: Terms, asked: Plan, *, lanes: int = 1, forget: bool = True) -> Timed:
    """Encode, prefill, and steps of so many pictures at once; `forget` makes the inputs new ones."""
    family = made.family
    if forget:
        family.forget()
    held: dict[str, Any] = {}
    encode = seconds(on, lambda: held.update(conditions=family.encode(asked)))
    prefill = seconds(on, lambda: held.update(prefix=family.prefill(asked, held["conditions"])))
    begun = [family.begin(asked, held["prefix"], index) for index in range(lanes)]
    steps = [seconds(on, lambda: family.step(asked, begun)) for _ in range(on.steps)]
    return Timed(asked, encode, prefill, steps, held["prefix"], begun)


def stock_step(made: Made, on: Terms, inputs: int, **more: Any) -> float:
    """Seconds of a step of the stock pipeline, the median without the first."""
    stamps: list[float] = []

    def stamp(_pipeline: Any, _step: int, _time: Any, given: dict[str, Any]) -> dict[str, Any]:
        stamps.append(on.now())
        return given

    asked: dict[str, Any] = {"height": on.side, "width": on.side, "num_inference_steps": on.steps + 1, **more}
    if inputs:
        asked["image"] = [picture(place, on.side) for place in range(inputs)]
    if made.name == "2.1":
        asked["output_resolution"] = on.side
    else:
        asked["true_cfg_scale"] = 1.0
    with made.stocked() as pipeline:
        pipeline(
            prompt=PROMPT, generator=torch.Generator().manual_seed(1), callback_on_step_end=stamp, **asked
        )
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    return statistics.median(gaps)


# -- the experiments: each answers figures by name


def steps(made: Made, on: Terms) -> dict[str, float]:
    """Step time against the stock pipeline, share of peak, and how much steps differ."""
    found: dict[str, float] = {}
    for inputs in (1, 3) if made.name == "1.x" else (0, 1, 2, 3):
        asked = work(made, on, inputs)
        timed(made, on, asked)  # a first run pays for what later ones find
        ours = timed(made, on, asked)
        theirs = stock_step(made, on, inputs)
        flops = made.family.bill(asked, Stage.STEP).flops
        found[f"{inputs}_step"], found[f"{inputs}_stock_step"] = ours.step, theirs
        found[f"{inputs}_ratio"] = theirs / ours.step
        found[f"{inputs}_tflops"] = flops / ours.step / 1e12
        later = ours.steps[1:]
        found[f"{inputs}_variation"] = statistics.pstdev(later) / statistics.mean(later)
        if on.peak is not None:
            found[f"{inputs}_of_peak"] = flops / ours.step / on.peak
        if made.name == "2.1" and inputs:
            found[f"{inputs}_uncached_step"] = stock_step(made, on, inputs, use_kv_cache=False)
            found[f"{inputs}_prefix_gain"] = found[f"{inputs}_uncached_step"] / ours.step
    return found


def batches(made: Made, on: Terms) -> dict[str, float]:
    """Throughput of so many pictures at once over one at a time, text to image, at both sizes."""
    found: dict[str, float] = {}
    for side in (on.half, on.side):
        one = None
        for width in on.widths:
            step = timed(made, on, work(made, on, 0, side=side), lanes=width).step
            one = one or step
            found[f"{side}_{width}_step"], found[f"{side}_{width}_gain"] = step, one * width / step
    return found


def pauses(made: Made, on: Terms) -> dict[str, float]:
    """What it costs to step two requests in turns, over one after the other: seconds a change."""
    plans = [work(made, on, 1, prompt=PROMPT + str(place)) for place in range(2)]
    held = [timed(made, on, asked, forget=place == 0) for place, asked in enumerate(plans)]
    family = made.family

    def run(order: Sequence[int]) -> float:
        lanes = [family.begin(one.plan, one.prefix, 0) for one in held]
        return seconds(on, lambda: [family.step(plans[place], [lanes[place]]) for place in order])

    count = max(2, on.steps)
    pairs = [(run([0] * count + [1] * count), run([0, 1] * count)) for _ in range(3)]
    return {"change": statistics.median(turns - row for row, turns in pairs) / (2 * count)}


def prefixes(made: Made, on: Terms) -> dict[str, float]:
    """The same inputs with another prompt: the whole request over one with new inputs, at 4 and 40 steps."""
    found: dict[str, float] = {}
    for inputs in (1, 3):
        timed(made, on, work(made, on, inputs))
        cold = timed(made, on, work(made, on, inputs))
        warm = timed(made, on, work(made, on, inputs, prompt=PROMPT + "?"), forget=False)
        found[f"{inputs}_cold_before"], found[f"{inputs}_warm_before"] = (
            cold.encode + cold.prefill,
            warm.encode + warm.prefill,
        )
        for count in (4, 40):
            whole = [one.encode + one.prefill + count * cold.step for one in (cold, warm)]
            found[f"{inputs}_gain_{count}"] = whole[0] / whole[1]
    return found


def memory(made: Made, on: Terms) -> dict[str, float]:
    """Bytes: what the modules take, what a request adds at its peak, and what the model of memory says it adds. On a
    CPU nothing is measured."""
    if on.device.type != "cuda":
        return {}
    found: dict[str, float] = {}
    for inputs in (1, 3):
        asked = work(made, on, inputs)
        made.family.forget()
        gc.collect()
        torch.cuda.empty_cache()
        found["resident"] = float(torch.cuda.memory_allocated(on.device))
        bills = [made.family.bill(asked, stage) for stage in (Stage.ENCODE, Stage.PREFILL)]
        said = sum(bill.keeps for bill in bills) + made.family.passing(asked)
        torch.cuda.reset_peak_memory_stats(on.device)
        run = timed(made, on, asked)
        made.family.decode(asked, run.lanes[0])
        peak = torch.cuda.max_memory_allocated(on.device) - found["resident"]
        found[f"{inputs}_peak"], found[f"{inputs}_said"] = peak, float(said)
        found[f"{inputs}_peak_over_said"] = peak / said
    return found


def promises(made: Made, on: Terms) -> dict[str, float]:
    """How wrong a step's predicted time is for shapes that were never measured: after learning from others, and by one
    constant from the request with one input."""
    family, costs = made.family, Costs()
    rate = 0.0
    for side in (on.half, on.side):
        asked = work(made, on, 1, side=side)
        timed(made, on, asked)
        step, bill = timed(made, on, asked).step, family.bill(asked, Stage.STEP)
        costs.learn(bill, step)
        rate = bill.flops / step
    missed, constant = [], []
    for inputs, side in ((0, on.side), (2, on.side), (3, on.side), (1, (on.side + on.half) // 32 * 16)):
        asked = work(made, on, inputs, side=side)
        step, bill = timed(made, on, asked).step, family.bill(asked, Stage.STEP)
        missed.append(abs((costs.seconds(bill) or 0.0) - step) / step)
        constant.append(abs(bill.flops / rate - step) / step)
    return {"eta_error": max(missed), "constant_error": max(constant)}


def autoencoder(made: Made, on: Terms) -> dict[str, float]:
    """The autoencoder of 1.x as a network of pictures against diffusers' own, reading and drawing a picture."""
    if made.name != "1.x":
        return {}
    pixels = torch.rand(1, 3, 1, on.side, on.side, device=on.device, dtype=on.dtype) * 2 - 1
    mine, theirs = made.family.vae, made.vae
    found: dict[str, float] = {}
    with torch.inference_mode():
        latents = flat.read(mine, pixels)
        pairs = {
            "read": (lambda: theirs.encode(pixels), lambda: flat.read(mine, pixels)),
            "draw": (lambda: theirs.decode(latents), lambda: flat.draw(mine, latents)),
        }
        for name, (stock, ours) in pairs.items():
            stock(), ours()
            both = [(seconds(on, stock), seconds(on, ours)) for _ in range(3 if on.small else 7)]
            found[f"{name}_stock"] = statistics.median(one for one, _ in both)
            found[f"{name}_ours"] = statistics.median(other for _, other in both)
            found[f"{name}_gain"] = found[f"{name}_stock"] / found[f"{name}_ours"]
    return found


EXPERIMENTS: dict[str, Callable[[Made, Terms], dict[str, float]]] = {
    "steps": steps,
    "batches": batches,
    "pauses": pauses,
    "prefixes": prefixes,
    "memory": memory,
    "promises": promises,
    "autoencoder": autoencoder,
}

# -- what was foretold

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A figure, by checkpoint, experiment and name, and between what it was said to be."""

    said: str
    where: tuple[str, str]
    low: float
    high: float

    def verdict(self, figures: Figures, *, small: bool) -> tuple[str, str]:
        """The figure, and whether it was foretold rightly."""
        value = figures.get(self.where[0], {}).get(self.where[1])
        if value is None:
            return "–", "not measured"
        if small:
            return f"{value:.4g}", "not judged: small version"
        return f"{value:.4g}", "confirmed" if self.low <= value <= self.high else "REFUTED"


ANY = float("inf")
PREDICTIONS = (
    Prediction("stock, 1.x, one input: 0.45 to 0.50 s a forward", ("1.x steps", "1_stock_step"), 0.45, 0.50),
    Prediction("at least 45 % of the bf16 peak, 1.x, one input", ("1.x steps", "1_of_peak"), 0.45, 1.0),
    Prediction("never slower than stock, 1.x, one input", ("1.x steps", "1_ratio"), 0.98, ANY),
    Prediction("never slower than stock, 2.1, one input", ("2.1 steps", "1_ratio"), 0.98, ANY),
    Prediction("steps differ by less than 1 %, 1.x", ("1.x steps", "1_variation"), 0.0, 0.01),
    Prediction("two at once at 1024²: at most 1.05 ×", ("1.x batches", "1024_2_gain"), 0.0, 1.05),
    Prediction("eight at once at 512²: about 3 ×", ("1.x batches", "512_8_gain"), 2.5, 3.5),
    Prediction("a change between requests: less than 1 ms, 1.x", ("1.x pauses", "change"), -ANY, 1e-3),
    Prediction("2.1 prefix kept, one input: 1.7 to 1.9 ×", ("2.1 steps", "1_prefix_gain"), 1.7, 1.9),
    Prediction("2.1 prefix kept, two inputs: 2.3 to 2.7 ×", ("2.1 steps", "2_prefix_gain"), 2.3, 2.7),
    Prediction(
        "one constant foretells other shapes within 8 %", ("1.x promises", "constant_error"), 0.0, 0.08
    ),
    Prediction("ETA within 3 %, 1.x", ("1.x promises", "eta_error"), 0.0, 0.03),
    Prediction("1.x modules resident: 58 to 60 GB", ("1.x memory", "resident"), 57.5e9, 60.5e9),
    Prediction(
        "memory within 10 % of the model, 1.x, one input", ("1.x memory", "1_peak_over_said"), 0.9, 1.1
    ),
    Prediction(
        "memory within 10 % of the model, 2.1, one input", ("2.1 memory", "1_peak_over_said"), 0.9, 1.1
    ),
)


def table(figures: Figures, *, small: bool) -> list[str]:
    """A row a prediction."""
    rows = ["| foretold | measured | |", "|---|---|---|"]
    for prediction in PREDICTIONS:
        value, verdict = prediction.verdict(figures, small=small)
        rows.append(f"| {prediction.said} | {value} | {verdict} |")
    return rows


def measure(on: Terms, *, out: Path | None = None, only: Sequence[str] = ()) -> Figures:
    """Every experiment on both checkpoints, one after the other; a JSON file each."""
    figures: Figures = {}
    look = {"VAE_IMAGE_SIZE": on.side**2, "CONDITION_IMAGE_SIZE": int(on.side**2 * (384 / 1024) ** 2)}
    keep = Budget(near=1 << 33, far=1 << 33)
    for name in NAMES:
        with (
            tempfile.TemporaryDirectory() as spare,
            mock.patch.multiple(pipeline_qwenimage_edit_plus, **look),
        ):
            made = make(name, Path(spare), small=on.small, device=on.device, dtype=on.dtype, keep=keep)
            for title, experiment in EXPERIMENTS.items():
                if only and title not in only:
                    continue
                found = experiment(made, on)
                figures[f"{name} {title}"] = found
                print(f"{name} {title}: " + " ".join(f"{key}={value:.4g}" for key, value in found.items()))
                if out is not None:
                    out.mkdir(parents=True, exist_ok=True)
                    told = {"checkpoint": name, "experiment": title, "small": on.small, "figures": found}
                    (out / f"{name}-{title}.json".replace(" ", "-")).write_text(json.dumps(told, indent=1))
        del made
        gc.collect()
        if on.device.type == "cuda":
            torch.cuda.empty_cache()
    return figures


def main() -> None:
    """The command."""
    read = argparse.ArgumentParser()
    read.add_argument("--small", action="store_true", help="tiny shapes on the CPU")
    read.add_argument("--out", type=Path, help="folder for a JSON file of each experiment")
    read.add_argument(
        "--only", nargs="*", default=(), choices=tuple(EXPERIMENTS), help="some experiments alone"
    )
    asked = read.parse_args()
    on = terms(small=asked.small)
    if on.small:
        torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if on.device.type == "cuda" else "CPU, small version"
    print(f"{device}, torch {torch.__version__}, load average {os.getloadavg()[0]:.2f}")
    figures = measure(on, out=asked.out, only=asked.only)
    print("\n".join(table(figures, small=on.small)))
    print(json.dumps({"small": on.small, "device": device, "figures": figures}))


if __name__ == "__main__":
    main()
