"""What jobs cost, learned from those that ended: for who has no engine to ask. Knows no clock.

A kind of job is what sets its cost as far as a brief tells it: the model, how many pictures of what size, from how many
inputs. A kind never seen is priced by what it asks for, beside the others of its model.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from danqing.core.order import Brief

MEGAPIXEL = 1024 * 1024
MOST = 4096
"""Kinds that are remembered; the longest unused one is forgotten first."""
_NEWEST = 0.2
"""The weight of the newest job against all before."""

Kind = tuple[str, int, int, int, bool]


def weight(brief: Brief) -> float:
    """How much a job asks for, in no unit: its pictures, by their size and their inputs."""
    return brief.count * (1 + len(brief.inputs)) * max(0.25, brief.size.area / MEGAPIXEL)


class Prices:
    """Seconds of engine time by kind of job."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._kinds: OrderedDict[Kind, float] = OrderedDict()
        self._models: dict[str, float] = {}
        self._all: float | None = None
        self.lessons = 0
        """How many jobs were learned from."""

    def learn(self, brief: Brief, seconds: float) -> None:
        """A job of that brief took so long."""
        if not 0 < seconds < math.inf:
            return
        self.lessons += 1
        kind = _kind(brief)
        self._kinds[kind] = _mixed(self._kinds.get(kind), seconds)
        self._kinds.move_to_end(kind)
        while len(self._kinds) > MOST:
            self._kinds.popitem(last=False)
        self._models[brief.model] = _mixed(self._models.get(brief.model), seconds / weight(brief))
        self._all = _mixed(self._all, seconds / weight(brief))

    def weight(self, brief: Brief) -> float:
        """How much a job asks for beside the others: by what such ones cost, in the unit of `weight`."""
        seconds = self.seconds(brief)
        return weight(brief) if seconds is None or self._all is None else seconds / self._all

    def seconds(self, brief: Brief) -> float | None:
        """What such a job will take alone; None where no job of its model has ended yet."""
        known = self._kinds.get(_kind(brief))
        if known is not None:
            return known
        rate = self._models.get(brief.model)
        return None if rate is None else rate * weight(brief)

    def told(self) -> dict[str, Any]:
        """All that was learned, as JSON has it."""
        kinds = [[*kind, seconds] for kind, seconds in self._kinds.items()]
        return {"kinds": kinds, "models": dict(self._models), "all": self._all}

    def recall(self, told: Mapping[str, Any]) -> None:
        """Begin with what was learned before, as `told` said it. Raises ValueError, LookupError or TypeError, and
        changes nothing, for what it never said."""
        kinds = OrderedDict((_read_kind(kind), _read_price(seconds)) for *kind, seconds in told["kinds"])
        models = {str(model): _read_price(rate) for model, rate in dict(told["models"]).items()}
        whole = None if told["all"] is None else _read_price(told["all"])
        if len(kinds) > MOST or (whole is None) != (not kinds):
            raise ValueError("these are no prices")
        self._kinds, self._models, self._all = kinds, models, whole


def _read_kind(told: list[Any]) -> Kind:
    model, count, inputs, size, plain = told
    return str(model), int(count), int(inputs), int(size), bool(plain)


def _read_price(told: Any) -> float:
    if not 0 < (seconds := float(told)) < math.inf:
        raise ValueError(f"{told!r} is no price")
    return seconds


def _kind(brief: Brief) -> Kind:
    size = round(4 * math.log2(brief.size.area))
    return brief.model, brief.count, len(brief.inputs), size, brief.negative_prompt is None


def _mixed(known: float | None, newest: float) -> float:
    return newest if known is None else known + _NEWEST * (newest - known)
