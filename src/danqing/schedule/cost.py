"""What a unit of engine work costs: operations from the architecture's own numbers, seconds by online
calibration.

Knows no torch and no clock; whoever times the work tells it. Floating-point operations count a multiply-add
as two."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """The units of work that make a picture, in their order."""

    ENCODE = "encode"
    PREFILL = "prefill"
    STEP = "step"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Bill:
    """One unit of work: its operations in FLOP, and the bytes it must keep for later units."""

    stage: Stage
    flops: float
    keeps: int = 0


@dataclass(frozen=True, slots=True)
class BlockCausal:
    """A single-stream transformer with a gated feed-forward part, such as Qwen-Image-2.1's: 32 layers of
    width 4096 and ratio 3. Per token and layer its matrices are 4·d² for attention and 3·ratio·d² for the
    feed-forward."""

    layers: int
    width: int
    ratio: int
    item: int
    """Bytes of one number: 2 in bf16, 4 in fp32."""

    def forward(self, queries: int, keys: int) -> float:
        """FLOP of one pass of `queries` tokens that look at `keys` tokens, themselves among them.
        True size: 13.96 GFLOP a token and 524,288·queries·keys for attention."""
        linear = 2 * (4 + 3 * self.ratio) * self.width**2 * self.layers * queries
        return linear + 4.0 * queries * keys * self.width * self.layers

    def prefix_bytes(self, tokens: int) -> int:
        """Keys and values of that many prefix tokens in all layers; true size in bf16: 0.524 MB a token."""
        return 2 * self.layers * self.width * self.item * tokens


@dataclass(frozen=True, slots=True)
class JointStreams:
    """A transformer of two streams, text and pictures, that look at each other in every block, such as Qwen-Image
    1.x's: 60 layers of width 3072. Each stream's matrices are 4·d² for attention and 8·d² for the feed-forward part."""

    layers: int
    width: int

    def forward(self, tokens: int) -> float:
        """FLOP of one pass of `tokens` tokens of both streams. True size: 13.59 GFLOP a token and 737,280·tokens² for
        attention."""
        linear = 2 * 12 * self.width**2 * self.layers * tokens
        return linear + 4.0 * tokens * tokens * self.width * self.layers


@dataclass(frozen=True, slots=True)
class Saturation:
    """How well a device is filled by one forward: throughput grows with tokens as tokens / (tokens + half).

    `half` is the number of tokens at which half of the best throughput is reached, measured once a device
    class (`bench/alone.py --batch`) and then fixed: batches chosen by a constant make a seed's picture
    repeatable, which batches chosen by the moment's timing would not."""

    half: float
    gain: float = 0.05
    """Lanes are stepped together only if that saves this share of their time."""
    most: int = 8191
    """Tokens of one batch at most. Beyond, a device is full, or its caches are: two pictures of a megapixel (4,096
    tokens each) go one after the other everywhere, so that the first is there sooner."""

    def together(self, tokens: int, lanes: int) -> float:
        """Predicted time of one step of `lanes` lanes at once, over that of stepping them one after
        another."""
        return (tokens * lanes + self.half) / (lanes * (tokens + self.half))

    def pays(self, tokens: int, lanes: int) -> bool:
        """Whether `lanes` lanes of `tokens` tokens each should step together."""
        fits = tokens * lanes <= self.most
        return lanes > 1 and fits and self.together(tokens, lanes) <= 1.0 - self.gain


SATURATION = {"cpu": Saturation(half=36, most=512), "cuda": Saturation(half=600), "mps": Saturation(half=300)}
"""By kind of device. That of a CPU was measured, those of others are guesses until somebody has one."""


SLOWEST = {"cpu": 20e9, "mps": 1e12, "cuda": 10e12}
"""FLOP a second of the slowest device of a kind that anybody should wait for: half a core in fp32, a small card."""


_FAR = 3.0
"""A unit that took more than so many times what it should was interrupted: it is taken in as that, until three in a row
agree that this is what it takes now."""
_AGREE = 3


class Costs:
    """Throughput by stage and size, learned from what was measured. Sizes are binned by half octaves of FLOP: a
    device that is not filled by small work has another throughput there."""

    def __init__(self, memory: float = 0.2) -> None:
        """`memory` is the weight of the newest measurement against all before."""
        self._memory = memory
        self._rates: dict[tuple[Stage, int], float] = {}
        self._told: dict[Stage, dict[float, float]] = {}
        """What was predicted of a measured stage since its last measurement, by FLOP: all jobs are priced before every
        step, many of them alike."""
        self._single: set[tuple[Stage, int]] = set()
        """Where there is one measurement only."""
        self._odd: Counter[tuple[Stage, int]] = Counter()
        """How many in a row took far too long."""
        self._error: float | None = None
        self.slowest = SLOWEST["cpu"]
        """What is taken of a device before it was measured, where a guess must not be too short."""
        self.lessons = 0
        """How many measurements were taken in."""

    def learn(self, bill: Bill, seconds: float) -> None:
        """Take in that the work of `bill` took `seconds`. Empty bills and clocks that stood still teach
        nothing."""
        if bill.flops <= 0 or seconds <= 0:
            return
        self.lessons += 1
        predicted = self.known(bill)
        if predicted is not None:
            missed = abs(predicted - seconds) / seconds
            self._error = missed if self._error is None else self._error + 0.02 * (missed - self._error)
        key = (bill.stage, self._bin(bill))
        rate = bill.flops / seconds
        known = self._rates.get(key)
        if known is None:
            self._single.add(key)
        else:
            rate = self._between(key, known, rate)
        self._rates[key] = rate
        self._told[bill.stage] = {}

    def _between(self, key: tuple[Stage, int], known: float, rate: float) -> float:
        """The rate after one more measurement: averaged as times are (harmonically), so a slow one weighs as it
        delays."""
        first = key in self._single
        self._single.discard(key)
        if first and rate > _FAR * known:  # the device was cold, or something was compiled
            return rate
        self._odd[key] = self._odd[key] + 1 if rate * _FAR < known else 0
        if 0 < self._odd[key] < _AGREE:
            rate = known / _FAR
        return 1 / ((1 - self._memory) / known + self._memory / rate)

    @property
    def error(self) -> float | None:
        """By what share of the measured time predictions were wrong lately; None before the first."""
        return self._error

    def rates(self) -> tuple[tuple[Stage, int, float], ...]:
        """All that was learned: stage, bin of size, FLOP a second."""
        return tuple((stage, size, rate) for (stage, size), rate in self._rates.items())

    def recall(self, rates: Iterable[tuple[Stage, int, float]]) -> None:
        """Begin with what was learned before. Raises ValueError for a rate that is none."""
        for stage, size, rate in rates:
            if not 1e-3 < rate < math.inf:
                raise ValueError(f"no throughput: {rate}")
            self._rates[stage, size] = rate
            self._told[stage] = {}

    def seconds(self, bill: Bill) -> float | None:
        """Predicted seconds: by the nearest size of that stage, else by what is nearest in size of all; None if nothing
        was ever measured."""
        if bill.flops <= 0:
            return 0.0
        known = self.known(bill)
        return bill.flops / self._rate(bill, self._rates) if known is None and self._rates else known

    def known(self, bill: Bill) -> float | None:
        """Predicted seconds by what was measured of that stage; None before that. A guess from other stages may be far
        off: good enough to say something, and not to charge anybody."""
        if bill.flops <= 0:
            return 0.0
        told = self._told.get(bill.stage)
        if told is None:
            return None
        if bill.flops not in told:
            same = [key for key in self._rates if key[0] == bill.stage]
            told[bill.flops] = bill.flops / self._rate(bill, same)
        return told[bill.flops]

    def _rate(self, bill: Bill, among: Iterable[tuple[Stage, int]]) -> float:
        """The throughput measured nearest in size; of several, the least. Small work has little of it anywhere."""
        size = self._bin(bill)
        return min((abs(key[1] - size), self._rates[key]) for key in among)[1]

    def patience(self, bill: Bill) -> float:
        """Seconds after which a unit should have ended: as predicted from others of its stage, else at the slowest
        speed that was seen of work of its size or is taken for possible. Unlike `seconds`, always some."""
        known = self.known(bill)
        return max(bill.flops / self.slowest, self.seconds(bill) or 0.0) if known is None else known

    @staticmethod
    def _bin(bill: Bill) -> int:
        return int(2 * math.log2(bill.flops))
