"""Are promises kept? The engine under replayed loads: who is done on time, whose foretold end holds, and the shares.

    python -m bench.promises [--requests 300] [--foretold 200]

The real engine on a tiny checkpoint, torch on one thread; costs are calibrated by what runs before. The clock is the
processor's, put right for the pace that the machine has at the moment (`Watch`); while nobody has work it is set
forward to the next arrival. Kinds of requests differ in their numbers of steps, so that they take 1, 20 and 55 times
what the shortest takes. Ends foretold of requests over a second, and shares over 60 seconds, are measured on a paced
clock (`Paced`), which needs no such time to pass. The last line is JSON."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bench.figures import percentile
from danqing.core.events import Event, Finished, Foretold, ImageReady, Started, Stepped, Work
from danqing.core.raster import Raster, Size
from danqing.engine.build import order_for
from danqing.engine.families.contract import Plan, plan
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Room
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from danqing.schedule.cost import SATURATION, Costs, Stage
from danqing.schedule.policy import PROMISE
from danqing.schedule.simulate import Request, simulate
from tests.support.tiny import tiny_checkpoint

SIZE = {"timed": Size(192, 192), "paced": Size(64, 64)}
"""Of pictures. Larger on a clock that runs: in the shortest steps, choosing among a dozen jobs weighs a tenth."""
LOAD = 0.70
SEED = 20261121
UNITS = {"short": (0.6, 1.0, 0), "middle": (0.3, 20.0, 0), "long": (0.1, 55.0, 3)}
"""A kind's share of the traffic, its length in the shortest one's, and its inputs."""
SHORT_STEPS = 4
LOOK_EVERY = 0.01
"""Seconds from one look at the machine's pace to the next."""
_TOKENS, _MATRIX = torch.ones(48, 64), torch.full((64, 64), 0.125)
STEP_SECONDS = 0.3
"""Of the paced clock: the shortest request takes over a second."""


class Watch:
    """Processor seconds of this thread, as long as they were when the watch began, and what was skipped.

    A host of several machines gives a thread a core of its own at one moment and half of one at the next, and then its
    processor seconds are worth half as much, for seconds on end. So a small fixed piece of work is timed again every
    `LOOK_EVERY` seconds, off the watch, and what follows counts by how long that took."""

    def __init__(self) -> None:
        self._skipped = self._told = 0.0
        self._looks = deque((_stint() for _ in range(200)), maxlen=5)
        self._usual, self._pace = statistics.median(self._looks), 1.0
        self._since = time.thread_time()

    def __call__(self) -> float:
        gone = time.thread_time() - self._since
        if gone > LOOK_EVERY:
            self._told += gone * self._pace
            self._looks.append(_stint())
            self._pace = self._usual / statistics.median(self._looks)
            gone, self._since = 0.0, time.thread_time()
        return self._told + gone * self._pace + self._skipped

    def until(self, moment: float) -> None:
        self._skipped += max(0.0, moment - self())


def _stint() -> float:
    """Processor seconds of a piece of work of the engine's kind: small operations of torch, and Python between."""
    began = time.thread_time()
    with torch.inference_mode():
        tokens = _TOKENS
        for _ in range(12):
            tokens = torch.nn.functional.layer_norm(tokens @ _MATRIX, (64,))
    return time.thread_time() - began


class Paced(Watch):
    """Stands still but for what is put on it: the time of a device whose units take what they should."""

    def __call__(self) -> float:
        return self._skipped

    def put(self, seconds: float) -> None:
        self._skipped += seconds


class PacedFamily(QwenImage21):
    """The tiny checkpoint, each unit of which takes its operations over a throughput, give or take a hundredth: as
    much as steps vary on a GPU. A step without inputs takes `STEP_SECONDS`, operations of other stages a 25th of a
    step's: in a checkpoint this small, encoder and autoencoder would weigh most. Steps of several lanes at once save
    what the policy's own table says of this device: a clock on which they save nothing would be another device."""

    def __init__(self, folder: Path, watch: Paced) -> None:
        super().__init__(folder, torch.device("cpu"), torch.float32)
        self._watch, self._dice = watch, random.Random(SEED)
        self._plans: dict[int, Plan] = {}

    def _pace(self, stage: Stage, *plans: Plan) -> None:
        step = self.bill(_bare(plans[0]), Stage.STEP).flops
        whole = sum(self.bill(plan, stage).flops for plan in plans) / step
        seconds = whole * (STEP_SECONDS if stage is Stage.STEP else STEP_SECONDS / 25)
        if len(plans) > 1:
            seconds *= SATURATION["cpu"].together(self.tokens(plans[0]), len(plans))
        self._watch.put(seconds * self._dice.gauss(1.0, 0.01))

    def encode(self, plan: Plan) -> Any:
        self._pace(Stage.ENCODE, plan)
        return super().encode(plan)

    def prefill(self, plan: Plan, conditions: Any) -> Any:
        self._pace(Stage.PREFILL, plan)
        return super().prefill(plan, conditions)

    def begin(self, plan: Plan, prefix: Any, index: int) -> Any:
        lane = super().begin(plan, prefix, index)
        self._plans[id(lane)] = plan
        return lane

    def step(self, plan: Plan, lanes: Sequence[Any]) -> None:
        self._pace(Stage.STEP, *(self._plans[id(lane)] for lane in lanes))
        super().step(plan, lanes)

    def decode(self, plan: Plan, lane: Any) -> Raster:
        self._pace(Stage.DECODE, plan)
        return super().decode(plan, lane)


def _bare(plan: Plan) -> Plan:
    return replace(plan, work=replace(plan.work, inputs=()), inputs=(), digests=())


@dataclass(slots=True)
class Sent:
    """A request of a trace: when it came, of what kind and whose; then what it was told and when it was done."""

    at: float
    kind: str
    tenant: str = ""
    foretold: float | None = None
    began: float | None = None
    left: float | None = None
    done: float = 0.0


@dataclass(slots=True)
class Place:
    """An engine on a family, with the kinds of requests that it knows, and a watch."""

    family: QwenImage21
    steps: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)
    watch: Watch = field(default_factory=Watch)
    size: Size = SIZE["timed"]

    def picture(self, place: int) -> Raster:
        return Raster(self.size, 3, random.Random(place).randbytes(self.size.width * self.size.height * 3))

    def engine(self, policy: str) -> StepEngine:
        kept = Checkpoint("one", "", Native(), Relation.MINIATURE, "")
        presets = {kind: Preset("one", steps) for kind, steps in self.steps.items()}
        profile = Profile("bench", "", {"one": kept}, presets)
        room = Room(1 << 40)
        return StepEngine(
            profile,
            {"one": self.family},
            policy=order_for("cpu", policy),
            room=room,
            now=self.watch,
            costs=self.costs,
        )

    def work(self, token: str, kind: str, tenant: str = "") -> Work:
        given = tuple(self.picture(place) for place in range(self.inputs[kind]))
        return Work(token, kind, f"a red cat {token}", None, given, 1, self.size, 1, tenant=tenant)

    def play(self, policy: str, asked: Sequence[Sent]) -> list[Sent]:
        """Send them as they come; answers them with what became of them."""
        engine, heard = self.engine(policy), dict[str, Sent]()
        begin = self.watch()
        made = [replace(one, at=begin + one.at) for one in asked]

        def hear(event: Event) -> None:
            sent, now = heard[event.token], self.watch()
            match event:
                case Foretold(left=left) if sent.foretold is None:
                    sent.foretold = now + left - sent.at
                case Stepped(left=left) if sent.began is None and left is not None:
                    sent.began, sent.left = now, left
                case Finished():
                    sent.done = now
                case Started() | Stepped() | Foretold() | ImageReady():
                    pass
                case _:
                    raise SystemExit(f"the engine said {event}")

        engine.listen(hear)
        works = [self.work(str(place), one.kind, one.tenant) for place, one in enumerate(made)]
        coming = iter(zip(made, works, strict=True))
        following = next(coming, None)
        while True:
            while following is not None and following[0].at <= self.watch():
                heard[following[1].token] = following[0]
                engine.put(following[1])
                following = next(coming, None)
            if not engine.tick():
                if following is None:
                    return made
                self.watch.until(following[0].at)

    def alone(self, kind: str, times: int = 9) -> float:
        """Seconds of a request that has the engine to itself: the median."""
        took = []
        for place in range(times):
            (sent,) = self.play("promise", [Sent(0.0, kind, tenant=f"alone {place}")])
            took.append(sent.done - sent.at)
        return statistics.median(took)


def poisson(count: int, kinds: dict[str, float], mean: float, seed: int = SEED) -> list[Sent]:
    """`count` requests of kinds by share, that ask for `LOAD` of the engine's time."""
    draw, now, made = random.Random(seed), 0.0, []
    for _ in range(count):
        now += draw.expovariate(LOAD / mean)
        made.append(Sent(now, draw.choices([*kinds], [*kinds.values()])[0]))
    return made


def mean_of(kinds: dict[str, float], solo: dict[str, float]) -> float:
    return sum(share * solo[kind] for kind, share in kinds.items()) / sum(kinds.values())


def on_time(asked: Iterable[Sent], solo: dict[str, float]) -> float:
    return statistics.mean(one.done - one.at <= PROMISE * solo[one.kind] for one in asked)


def missed(asked: Iterable[Sent]) -> tuple[float, float]:
    """95th percentiles of abs(promised - actual) / actual, from the first step and from the coming."""
    start = [
        abs(one.left - (one.done - one.began)) / (one.done - one.began)
        for one in asked
        if one.began is not None and one.left is not None
    ]
    admission = [
        abs(one.foretold - (one.done - one.at)) / (one.done - one.at)
        for one in asked
        if one.foretold is not None
    ]
    return percentile(start), percentile(admission)


def mixed(place: Place, count: int) -> dict[str, float]:
    """The mixed load, by promise and in order of arrival, in the engine and on paper."""
    solo, trace = asked(place, count)
    figures: dict[str, float] = {}
    errors = []
    print(f"{'policy':<10}{'on time':>9}{'on paper':>10}   of {count}; alone:", end=" ")
    print(", ".join(f"{kind} {1e3 * seconds:.0f} ms" for kind, seconds in solo.items()))
    for policy in ("promise", "arrival"):
        played = place.play(policy, trace)
        real = on_time(played, solo)
        foreseen = simulate(on_paper(place, trace, solo), order_for("cpu", policy)).on_time()
        errors.append(abs(real - foreseen))
        print(f"{policy:<10}{real:>9.1%}{foreseen:>10.1%}")
        figures["on_time" if policy == "promise" else "on_time_fifo"] = round(real, 4)
        if policy == "promise":
            start, admission = missed(played)
            print(
                f"ends foretold in this load: off by {start:.1%} at the start, {admission:.1%} at the coming, p95"
            )
            figures |= {
                "eta_mixed_start_p95": round(start, 4),
                "eta_mixed_admission_p95": round(admission, 4),
            }
    return figures | {"sim_error": round(100 * max(errors), 2)}


def on_paper(place: Place, trace: Sequence[Sent], solo: dict[str, float]) -> list[Request]:
    """The load for the simulator: encoding and prefilling come before the steps, drawing counts as one more."""
    tokens = place.family.tokens(plan(place.work("paper", "short"), Preset("one", SHORT_STEPS), Native()))
    return [
        Request(one.at, solo[one.kind], place.steps[one.kind] + 3, tokens=tokens, before=2) for one in trace
    ]


def foretold(place: Place, count: int) -> dict[str, float]:
    """The same mix, every request of which takes over a second of a paced clock: does what was said hold?"""
    solo, trace = asked(place, count)
    played = place.play("promise", trace)
    start, admission = missed(played)
    print(
        f"ends foretold of {count} requests of {min(solo.values()):.2f} to {max(solo.values()):.2f} s alone:",
        end=" ",
    )
    print(
        f"off by {start:.1%} at the start, {admission:.1%} at the coming, p95; on time {on_time(played, solo):.1%}"
    )
    return {"eta_start_p95": round(start, 4), "eta_admission_p95": round(admission, 4)}


def asked(place: Place, count: int) -> tuple[dict[str, float], list[Sent]]:
    """What each kind takes alone, and the mixed load."""
    solo = {kind: place.alone(kind) for kind in UNITS}
    kinds = {kind: share for kind, (share, _, _) in UNITS.items()}
    return solo, poisson(count, kinds, mean_of(kinds, solo))


def fair(place: Place, window: float) -> dict[str, float]:
    """Two tenants that both have work waiting, of unlike kinds; then one that sends singly beside one with 20."""
    return {"fair_share": shared(place, window), "fair_single": single(place)}


def shared(place: Place, window: float) -> float:
    """The share of predicted cost of either tenant that is farthest from half, over any `window` seconds."""
    place = replace(place, inputs=dict.fromkeys(place.inputs, 0))  # to read three inputs is one long unit
    engine = place.engine("promise")
    engine.listen(lambda _: None)
    for number in range(24):  # enough that neither runs out within the three windows
        engine.put(place.work(f"ann {number}", "middle", "ann"))
        engine.put(place.work(f"bob {number}", "long", "bob"))
    booked: list[tuple[float, str, float]] = []
    charge = engine.shares.charge

    def book(tenant: str, seconds: float) -> None:
        booked.append((place.watch(), tenant, seconds))
        charge(tenant, seconds)

    engine.shares.charge = book  # type: ignore[method-assign]
    end = place.watch() + 3 * window
    while place.watch() < end:
        engine.tick()
    worst = 0.5
    for first, (at, _, _) in enumerate(booked):
        if at + window > booked[-1][0]:
            break
        within = [(who, seconds) for when, who, seconds in booked[first:] if when < at + window]
        share = sum(s for who, s in within if who == "ann") / sum(s for _, s in within)
        worst = max((worst, share, 1 - share), key=lambda part: abs(part - 0.5))
    print(f"two tenants with work waiting: {worst:.1%} and {1 - worst:.1%} over the worst {window:.1f} s")
    return round(worst, 4)


def single(place: Place, times: int = 5) -> float:
    """How many times its own time one takes that sends singly, at most, while another keeps 20 waiting."""
    solo = place.alone("middle")
    engine, done, numbers = place.engine("promise"), list[str](), iter(range(1_000_000))
    engine.listen(lambda event: done.append(event.token) if isinstance(event, Finished) else None)
    waiting, stretches = 0, []
    for turn in range(times):
        mine = f"mine {turn}"
        began = place.watch()
        engine.put(place.work(mine, "middle", "single"))
        while mine not in done:
            while waiting < 20:
                engine.put(place.work(f"flood {next(numbers)}", "middle", "flood"))
                waiting += 1
            done.clear()
            engine.tick()
            waiting -= sum(token.startswith("flood") for token in done)
        stretches.append((place.watch() - began) / solo)
    print(
        f"one beside 20 of another: {statistics.median(stretches):.2f} of its own time, at most {max(stretches):.2f}"
    )
    return round(max(stretches), 3)


def fitted(place: Place) -> Place:
    """With numbers of steps that take 1, 20 and 55 times as long, as measured here and now."""
    place.steps |= {"short": SHORT_STEPS, "middle": 40, "long": 40}
    place.inputs |= {kind: given for kind, (_, _, given) in UNITS.items()}
    for kind in (*place.steps, *place.steps):
        place.alone(kind, 1)
    short = place.alone("short", 25)
    for kind in ("middle", "long"):
        few = place.alone(kind)
        place.steps[kind] = 80
        many = place.alone(kind)
        step = (many - few) / 40
        wanted = UNITS[kind][1] * short
        place.steps[kind] = max(2, round(40 + (wanted - few) / step))  # a schedule needs two steps
    return place


def measure(*, requests: int = 300, told: int = 200) -> dict[str, float]:
    """The figures by name; tables on the way. Sets torch to one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as spare:
        folder, watch = tiny_checkpoint(Path(spare)), Paced()
        place = Place(QwenImage21(folder, torch.device("cpu"), torch.float32))
        slow = Place(PacedFamily(folder, watch), watch=watch, size=SIZE["paced"])
    figures = mixed(fitted(place), requests)
    print("on a clock on which every unit takes what it should, give or take a hundredth:")
    return figures | foretold(fitted(slow), told) | fair(slow, 60.0)


def main() -> None:
    read = argparse.ArgumentParser()
    read.add_argument("--requests", type=int, default=300)
    read.add_argument("--foretold", type=int, default=200)
    given = read.parse_args()
    print(json.dumps(measure(requests=given.requests, told=given.foretold)))


if __name__ == "__main__":
    main()
