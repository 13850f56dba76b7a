"""What an engine counts of itself, for whoever operates it: units of work, their seconds, what went wrong, what was
dropped. Knows no job and no clock.

Written by the engine's thread, read by any: every name is there from the start, so a reader copies a whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from danqing.schedule.cost import Stage


class Figures:
    """Numbers by name; all of them only grow."""

    def __init__(self, kinds: Iterable[str]) -> None:
        """Nothing has happened. `kinds` are the ways in which a unit of work can go wrong."""
        names = [f"{what}_{stage.value}" for what in ("units", "seconds", "lanes") for stage in Stage]
        names += [f"failed_{kind}" for kind in kinds]
        names += ["again", "cancelled", "cancelled_units", "cancelled_seconds"]
        self._counts = dict.fromkeys(names, 0.0)

    def unit(self, stage: Stage, lanes: int, seconds: float) -> None:
        """A unit of work of that stage, for so many pictures at once, was done or went wrong after so long."""
        self._counts[f"units_{stage.value}"] += 1
        self._counts[f"lanes_{stage.value}"] += lanes
        self._counts[f"seconds_{stage.value}"] += seconds

    def failed(self, kind: str) -> None:
        """A unit of work went wrong so."""
        self._counts[f"failed_{kind}"] += 1

    def again(self) -> None:
        """A work is made anew from its beginning."""
        self._counts["again"] += 1

    def cancelled(self, units: int, seconds: float) -> None:
        """A work was dropped: so long after it was asked for, and so many of its units later."""
        self._counts["cancelled"] += 1
        self._counts["cancelled_units"] += units
        self._counts["cancelled_seconds"] += seconds

    def show(self) -> Mapping[str, float]:
        """All numbers as of now."""
        return dict(self._counts)


def total(tables: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Tables added up, name by name."""
    sums: dict[str, float] = {}
    for table in tables:
        for name, number in table.items():
            sums[name] = sums.get(name, 0.0) + number
    return sums
