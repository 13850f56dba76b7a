"""What a preview costs the engine, how soon the first one is seen, and how much of the picture it shows.

    python -m bench.previews

Cost: the bundled miniature at 256², no inputs; the engine thread's processor time for a preview (the clean latents of
the step just taken, the map, the copy) over that of a step, medians of alternating pairs. At most four a second are
made, and none unless somebody watches, so the share of an engine's time is smaller still. First preview: a real
server that draws at 256² too, an asynchronous call that waits behind others, and a listener of its events; counted
are the denoising steps that were done when the first preview was heard, by the events of the same stream. Fidelity:
previews of finished latents against the decoded picture, reduced to their size. The last line is JSON.
"""

from __future__ import annotations

import json
import math
import statistics
import time
import urllib.request
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.alone import PROMPT, checkpoint_folder
from bench.server import Served, serving
from danqing.core.events import Work
from danqing.core.raster import Raster, Size
from danqing.engine.families.contract import Plan, plan
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.viewfinder import EVERY, Sight, Viewfinder
from danqing.judge.scenes import draw_case
from danqing.profiles.loader import Native, Preset

SYNTHESIS = "/api/v1/services/aigc/text2image/image-synthesis"
SIDE = 256
PROFILE = """
text = "The miniature, drawing larger than it was taught: what it draws does not matter here."
[checkpoints.miniature]
source = "{folder}"
relation = "miniature"
licence = "Apache-2.0"
rewriter = "grammar"
[checkpoints.miniature.native]
canvas = "bucket"
buckets = [[{side}, {side}]]
[models."*"]
checkpoint = "miniature"
steps = 10
"""
PAIRS = 25
CALLS = 5
SCENES = 24


class Eager(Viewfinder):
    """Every preview is due."""

    def look(self, checkpoint: str, plan: Plan, sights: Any) -> Any:
        """See `Viewfinder.look`."""
        self.forget(plan.work.token)
        return super().look(checkpoint, plan, sights)


def fitted(family: QwenImage21) -> Eager:
    """A viewfinder whose map is there."""
    finder = Eager({"one": family}, None, time.monotonic)
    while finder.prepare():
        pass
    finder.watch("t", on=True)
    return finder


def cost(family: QwenImage21, finder: Eager) -> float:
    """A preview's share of a step."""
    work = Work("t", "any", PROMPT, None, (), 1, Size(SIDE, SIDE), 1)
    made = plan(work, Preset("one", PAIRS + 3), Native())
    prefix = family.prefill(made, family.encode(made))
    lane = family.begin(made, prefix, 0)
    steps, previews = [], []
    for turn in range(PAIRS + 3):
        began = time.thread_time()
        family.step(made, [lane])
        stepped = time.thread_time()
        if finder.look("one", made, [Sight(0, lane, turn + 1)]) is None:
            raise SystemExit("no preview came")
        if turn >= 3:
            steps.append(stepped - began)
            previews.append(time.thread_time() - stepped)
    step, preview = statistics.median(steps), statistics.median(previews)
    print(
        f"a step at {SIDE}² {step * 1e3:.2f} ms, a preview {preview * 1e3:.3f} ms, at most one in {EVERY} s"
    )
    return preview / step


@torch.inference_mode()
def fidelity(family: QwenImage21, finder: Eager, side: int = 128) -> tuple[float, float]:
    """PSNR in dB and R² of previews of finished latents, over scenes that the map has not seen."""
    known = finder.map("one")
    assert known is not None
    made = plan(Work("t", "any", "", None, (), 1, Size(side, side), 1), Preset("one", 1), Native())
    errors, spread, count = 0.0, 0.0, 0
    for seed in range(SCENES):
        truth = Image.fromarray(draw_case("text_to_image", seed, "en", size=(side, side)).truth).convert(
            "RGBA"
        )
        latents = family.latents(truth)
        small = known.raster(latents, Size(side, side))
        right = reduced(family, made, latents, small)
        shown = np.frombuffer(small.data, np.uint8).reshape(right.shape).astype(float)
        errors += float(((shown - right) ** 2).sum())
        spread += float(((right - right.mean((0, 1))) ** 2).sum())
        count += right.size
    return 10 * math.log10(255**2 / (errors / count)), 1 - errors / spread


def reduced(family: QwenImage21, made: Plan, latents: torch.Tensor, small: Raster) -> Any:
    """The decoded picture on white, at the preview's size."""
    pixels = ((family._pixels(made, latents) * 0.5 + 0.5).clamp(0, 1) * 255).permute(1, 2, 0).numpy()  # noqa: SLF001
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture.getchannel("A"))
    return np.asarray(white.resize((small.size.width, small.size.height), Image.Resampling.BOX), float)


def submit(server: Served) -> str:
    """An asynchronous call; its task."""
    body = {
        "model": "wan2.2-t2i-flash",
        "input": {"prompt": "a red star on a beach"},
        "parameters": {"n": 1, "size": "512*512", "seed": 1},
    }
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    headers["X-DashScope-Async"] = "enable"
    request = urllib.request.Request(server.url + SYNTHESIS, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["output"]["task_id"])


def first_preview(server: Served) -> int:
    """Steps that were done when the first preview of a job was heard. It comes after others of its kind: one larger
    than it would be passed by, and its steps begin before anybody listens."""
    for _ in range(3):
        submit(server)
    headers = {"Authorization": f"Bearer {server.key}"}
    request = urllib.request.Request(f"{server.url}/danqing/v1/jobs/{submit(server)}/events", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        name, done, first = "", 0, 0
        for line in answer:
            field, _, value = line.decode().strip().partition(":")
            name = value if field == "event" else name
            if field == "data" and name == "step" and not first:
                done = json.loads(value)["step"]
            if field == "data" and name == "preview" and not first:
                first = max(done, json.loads(value)["step"])
    if not first:
        raise SystemExit("no preview was heard")
    return first


def measure() -> dict[str, float]:
    """The figures; sets torch to one thread."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as spare:
        folder, kind = checkpoint_folder(None, Path(spare))
        family = QwenImage21(folder, torch.device("cpu"), torch.float32)
        finder = fitted(family)
        share = cost(family, finder)
        noise, explained = fidelity(family, finder)
    print(f"{kind}: previews of finished latents, {noise:.1f} dB, R² {explained:.3f}")
    with TemporaryDirectory() as spare:
        drawn = Path(spare) / "larger.toml"
        drawn.write_text(PROFILE.format(folder=checkpoint_folder(None, Path(spare))[0], side=SIDE), "utf-8")
        with serving(threads=1, settings={"DANQING_PROFILE": str(drawn)}) as server:
            firsts = [first_preview(server) for _ in range(CALLS)]
    print(f"steps done when the first preview was heard: {firsts}")
    return {
        "preview_first_step": max(firsts),
        "preview_cost": round(share, 4),
        "preview_psnr": round(noise, 1),
        "preview_r2": round(explained, 3),
    }


def main() -> None:
    """Print the figures."""
    ArgumentParser(description=__doc__).parse_args()
    print(json.dumps(measure()))


if __name__ == "__main__":
    main()
