"""Previews of the works that somebody watches: when one is due, of which picture, and the maps they need.

A map is fitted once for a checkpoint's autoencoder, a few milliseconds at a time: while the engine has nothing else to
do, and between steps where somebody watches already. It is then kept in a folder, by the content it belongs to. Nobody
waits for a preview and nothing depends on one: latents are read here and never written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from danqing.core.events import Preview
from danqing.engine import preview
from danqing.engine.families.contract import Family, Plan
from danqing.engine.faults import Mishap, tried
from danqing.engine.preview import Fit, Map

EVERY = 0.25
"""Seconds between two previews of a job, at least."""
SLICE = 0.05
"""Seconds of fitting at a time; a swatch that was begun is finished."""

_log = structlog.get_logger("danqing.engine")


@dataclass(frozen=True, slots=True)
class Sight:
    """One picture of a job just after a step: its index, its family's lane, and how many steps it has taken."""

    index: int
    lane: Any
    done: int


@dataclass(slots=True)
class _Shown:
    """What was shown of a job: when last, and when of which picture."""

    last: float
    pictures: dict[int, float] = field(default_factory=dict)


class Viewfinder:
    """Over loaded families by checkpoint name. `watch` may be called from any thread, everything else belongs to the
    engine's. `now` is a monotonic clock in seconds."""

    def __init__(self, families: Mapping[str, Family], folder: Path | None, now: Callable[[], float]) -> None:
        """Nobody watches. `folder` is where maps are kept; with None they last as long as this object."""
        self._families, self._folder, self._now = families, folder, now
        self._watched: set[str] = set()
        self._shown: dict[str, _Shown] = {}
        self._maps: dict[str, Map | None] = {}
        self._fits: dict[str, tuple[str, Fit]] = {}

    def watch(self, token: str, *, on: bool) -> None:
        """See `core.ports.Engine.watch`."""
        if on:
            self._watched.add(token)
        else:
            self._watched.discard(token)

    def forget(self, token: str) -> None:
        """The job is over."""
        self._shown.pop(token, None)

    def look(self, checkpoint: str, plan: Plan, sights: Sequence[Sight]) -> Preview | None:
        """A preview of the picture among `sights` that was shown least lately, if the job is watched and one is due.
        Where there is no map yet, a little is done for it instead."""
        token = plan.work.token
        if token.partition("/")[0] not in self._watched:
            return None
        shown = self._shown.get(token)
        if shown is not None and self._now() - shown.last < EVERY:
            return None
        known = self.map(checkpoint)
        if known is None:
            self._fit(checkpoint)
            return None
        family = self._families[checkpoint]
        sight = min(sights, key=lambda one: shown.pictures.get(one.index, -1.0) if shown is not None else 0.0)
        raster = tried(lambda: known.raster(family.predicted(sight.lane), plan.drawn))
        if isinstance(raster, Mishap):  # the job goes on without
            _log.warning("no preview", checkpoint=checkpoint, trace=raster.trace)
            return None
        shown = self._shown.setdefault(token, _Shown(0.0))
        shown.last = shown.pictures[sight.index] = self._now()
        return Preview(token, sight.index, sight.done, family.steps(plan), raster)

    def prepare(self) -> bool:
        """Do a little for a map that is missing; False if none is."""
        for checkpoint in self._families:
            if checkpoint not in self._maps and self.map(checkpoint) is None:
                self._fit(checkpoint)
                return True
        return False

    def map(self, checkpoint: str) -> Map | None:
        """The checkpoint's map: known, or kept from another time; None where it is still to be fitted, or cannot."""
        if checkpoint in self._maps or checkpoint in self._fits:
            return self._maps.get(checkpoint)
        begun = tried(lambda: self._begin(checkpoint))
        if isinstance(begun, Mishap):
            self._do_without(checkpoint, begun)
        return self._maps.get(checkpoint)

    def _begin(self, checkpoint: str) -> None:
        """Use the map that was kept, or begin to fit one."""
        family = self._families[checkpoint]
        name = preview.identity(family.vae, type(family).__name__)
        kept = None if self._folder is None else preview.recalled(self._folder, name)
        if kept is None:
            self._fits[checkpoint] = name, Fit()
        else:
            self._maps[checkpoint] = kept.to(family.device)

    def _do_without(self, checkpoint: str, mishap: Mishap) -> None:
        """This checkpoint has no previews, and everything else."""
        _log.warning("no map for previews", checkpoint=checkpoint, trace=mishap.trace)
        self._maps[checkpoint] = None

    def _fit(self, checkpoint: str) -> None:
        """A slice of the fitting of that checkpoint's map, and with the last one the map."""
        if checkpoint not in self._fits:
            return
        name, fit = self._fits[checkpoint]
        found = tried(lambda: self._fitted(checkpoint, fit))
        if found is None:
            return
        del self._fits[checkpoint]
        if isinstance(found, Mishap):
            self._do_without(checkpoint, found)
            return
        _log.info("map for previews fitted", checkpoint=checkpoint, explained=round(found.fit, 3))
        self._maps[checkpoint] = found.to(self._families[checkpoint].device)
        if self._folder is not None:
            preview.keep(self._folder, name, found)

    def _fitted(self, checkpoint: str, fit: Fit) -> Map | None:
        """Go on with a fit for a moment; the map, if that was the last of it."""
        family, ends = self._families[checkpoint], self._now() + SLICE
        while not fit.enough:
            picture = fit.next()
            fit.see(picture, family.latents(picture))
            if self._now() >= ends:
                break
        return fit.solved() if fit.enough else None
