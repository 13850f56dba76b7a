"""What a work takes of a device's memory, and so what could ever be made there. Knows no thread, and no family by
name."""

from __future__ import annotations

from collections.abc import Mapping

from danqing.core.events import Work
from danqing.core.raster import Raster, Size
from danqing.core.reach import Reach, Span
from danqing.engine.families.contract import Family, Plan, plan
from danqing.engine.memory import Need, Room
from danqing.profiles.loader import Native, Preset, Profile
from danqing.schedule.cost import Stage

STEP = 32
"""What is tried are squares whose sides are multiples of this: every family draws and reads those as they are."""
MOST = 8192 // STEP
_ROUNDED = 1 / 16
"""By so much more or less than those of a square an oblong picture and its inputs may come to, sides being rounded."""
_DOT = Raster(Size(1, 1), 3, bytes(3))


def need(family: Family, made: Plan) -> Need:
    """What a work takes of a device's memory."""
    keeps = sum(family.bill(made, stage).keeps for stage in (Stage.ENCODE, Stage.PREFILL))
    if family.device.type == "cpu":  # where the pictures themselves lie in the memory that the model works in
        mask = () if made.work.mask is None else (made.work.mask,)
        keeps += sum(len(raster.data) for raster in (*made.work.inputs, *mask))
    return Need(keeps, family.passing(made))


def reach_of(profile: Profile, families: Mapping[str, Family], room: Room) -> Reach:
    """What could ever be made by each API name of a profile; see `core.reach`."""
    known: dict[tuple[Preset, int], Span] = {}
    reach: dict[str, tuple[Span, ...]] = {}
    for name in profile.models:
        spans = []
        for inputs in range(_most_inputs(profile, families, name) + 1):
            preset = profile.preset(name, editing=inputs > 0)
            if preset is None:
                break
            at = preset, inputs
            if at not in known:
                native = profile.checkpoints[preset.checkpoint].native
                known[at] = _span(families[preset.checkpoint], preset, native, inputs, room)
            spans.append(known[at])
        reach[name] = tuple(spans)
    return reach


def _most_inputs(profile: Profile, families: Mapping[str, Family], name: str) -> int:
    checkpoint = profile.checkpoint(name, editing=True)
    return 0 if checkpoint is None else families[checkpoint.name].most_inputs


def _span(family: Family, preset: Preset, native: Native, inputs: int, room: Room) -> Span:
    """By the shortest prompt that there is: whoever says more needs more. Inputs that are read at an area of their own
    weigh the same whatever is drawn: what rounding does to them is no part of the drawn area, but of the need."""
    rounded = _ROUNDED if inputs and native.input_area else 0.0

    def largest(share: float) -> int:
        """The largest square, in steps, of whose need that share fits."""
        low, high = 0, MOST + 1
        while high - low > 1:
            tried = (low + high) // 2
            work = Work("", "", "", None, (_DOT,) * inputs, 1, Size(tried * STEP, tried * STEP), 0)
            wanted = need(family, plan(work, preset, native))
            part = Need(int(share * wanted.lasting), int(share * wanted.passing))
            low, high = (tried, high) if room.ever(part) else (low, tried)
        return low

    fits, never = largest(1 + rounded), largest(1 - rounded) + 1
    return int((fits * STEP) ** 2 * (1 - _ROUNDED)), int((never * STEP) ** 2 * (1 + _ROUNDED))
