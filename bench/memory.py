"""Does the memory model keep its word? Random requests through the real engine, the process watched from outside torch.

    python -m bench.memory [--requests 500]

Half on a tiny checkpoint of the 2.1 layout, half on one of 1.x (Edit-Plus), with autoencoders wide enough that pictures
weigh something: sides from 64 to 512, no to three inputs of other sizes, one to six pictures, the small and the few
more often than the large and the many, so that 500 of them take minutes. What a request may take is what the process
has at rest and what the model says of it; more than that by a tenth and 200 MB is too much. Every other four requests
come together, into a room for little more than the largest of them, so that some wait; then the room is what is
predicted.

The process is this one, which has an engine as a worker has: the most that it ever had resident meanwhile, by the
kernel's own count. Whatever failed, for want of memory or not, counts as out of memory. The last line is JSON."""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from danqing.core.events import Event, Failed, Finished, Work
from danqing.core.raster import Raster, Size
from danqing.engine.build import order_for
from danqing.engine.families.contract import Family, plan
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.heap import keep_few_kernels, resident
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Need, Room
from danqing.engine.reach import need
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from tests.support.tiny import Shape, tiny_checkpoint
from tests.support.tiny_1x import Shape1x, tiny_1x

MB = 1 << 20
SLACK = 200 * MB
LEAST, MOST = 64, 512
"""Sides."""
COUNTS = {count: 1 / count for count in range(1, 7)}
"""Pictures of a request, and how often."""
AT_ONCE = 4
STEPS = 2
INPUT_AREA = 256 * 256


def set_back() -> None:
    """The most that is resident (VmHWM) is counted from now on."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def drawn_works(count: int, seed: int) -> list[Work]:
    draw = random.Random(seed)

    def side() -> int:
        return round(LEAST * (MOST / LEAST) ** (draw.random() ** 1.5))

    def picture() -> Raster:
        size = Size(side(), side())
        return Raster(size, 3, draw.randbytes(size.area * 3))

    works = []
    for place in range(count):
        inputs = tuple(picture() for _ in range(draw.randrange(4)))
        number, negative = draw.choices([*COUNTS], [*COUNTS.values()])[0], draw.choice([None, "grey"])
        size = Size(side(), side())
        works.append(
            Work(
                f"{seed} {place}",
                "any",
                "a cat " * draw.randint(1, 40),
                negative,
                inputs,
                number,
                size,
                place,
            )
        )
    return works


def run(family: Family, works: list[Work]) -> tuple[int, float]:
    """How many failed, and by how many bytes the process went beyond the model, at most."""
    native = Native(input_area=INPUT_AREA)
    preset = Preset("one", STEPS, 1.0, 3.0)
    profile = Profile(
        "bench", "", {"one": Checkpoint("one", "", native, Relation.MINIATURE, "")}, {"*": preset}
    )
    room = Room(1 << 40)
    engine = StepEngine(profile, {"one": family}, policy=order_for("cpu"), room=room)
    ended: Counter[type[Event]] = Counter()
    engine.listen(lambda event: ended.update([type(event)]))

    def play(asked: list[Work], limit: int) -> None:
        room.limit = limit
        for work in asked:
            engine.put(work)
        while engine.tick():
            pass

    play([replace(works[0], token="first", size=Size(64, 64), inputs=(), count=1)], room.limit)
    ended.clear()
    rest, beyond = resident("VmRSS"), -math.inf
    for first in range(0, len(works), AT_ONCE):
        four = works[first : first + AT_ONCE]
        needs: list[Need] = [need(family, plan(work, preset, native)) for work in four]
        sums = [one.lasting + one.passing for one in needs]
        alone = [([work], limit) for work, limit in zip(four, sums, strict=True)]
        together = [(four, int(1.2 * max(sums)))] if first // AT_ONCE % 2 else alone
        for asked, limit in together:
            set_back()
            play(asked, limit)
            beyond = max(beyond, resident("VmHWM") - 1.1 * (rest + limit) - SLACK)
    if ended[Failed] + ended[Finished] != len(works):
        raise SystemExit(f"{ended} of {len(works)} requests")
    return ended[Failed], beyond


def measure(requests: int = 500) -> dict[str, float]:
    """The figures by name; a table on the way. Sets torch to one thread."""
    keep_few_kernels()
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as spare:
        shape = Shape(vae={**Shape().vae, "base_dim": 16, "decoder_base_dim": 16})
        families: dict[str, Family] = {
            "2.1": QwenImage21(tiny_checkpoint(Path(spare) / "a", shape), cpu, torch.float32),
            "1.x": QwenImage1(tiny_1x(Path(spare) / "b", "edit_plus", Shape1x(vae=16)), cpu, torch.float32),
        }
    oom, beyond = 0, -math.inf
    for place, (name, family) in enumerate(families.items()):
        works, began = drawn_works(requests // 2, place), time.process_time()
        failed, most = run(family, works)
        print(
            f"{name}: {len(works)} requests for {sum(work.count for work in works)} pictures, {failed} failed, "
            f"at most {most / MB:.0f} MB beyond the model; {time.process_time() - began:.0f} s of processor time"
        )
        oom, beyond = oom + failed, max(beyond, most)
    return {"oom": oom, "rss_over_model_mb": round(beyond / MB, 1)}


def main() -> None:
    read = argparse.ArgumentParser()
    read.add_argument("--requests", type=int, default=500)
    print(json.dumps(measure(read.parse_args().requests)))


if __name__ == "__main__":
    main()
