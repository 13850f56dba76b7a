"""Pictures are looked at here before a worker uses them or lets them go. Knows no checker and no engine.

The engine goes on meanwhile: what is looked at is the attempt's own affair.
"""

from __future__ import annotations

from danqing.core.checking import Inspect, Role
from danqing.core.events import Work
from danqing.core.raster import Raster
from danqing.work.finish import Shelf


class Looked:
    """A shelf that takes only what may be shown."""

    def __init__(self, shelf: Shelf, inspect: Inspect, prompt: str) -> None:
        """`prompt` is the order's, for whoever looks."""
        self._shelf, self._inspect, self._prompt = shelf, inspect, prompt

    async def image(self, token: str, index: int, raster: Raster) -> None:
        """As the shelf's own. Raises OutputRefused and Unchecked before anything of the picture is sent."""
        await self._inspect(raster, Role.OUTPUT, self._prompt)
        await self._shelf.image(token, index, raster)


async def look_at_inputs(work: Work, inspect: Inspect) -> None:
    """Every input of a work, each once. Raises InputRefused, Unchecked."""
    for raster in dict.fromkeys(work.inputs):
        await inspect(raster, Role.INPUT, work.prompt)
