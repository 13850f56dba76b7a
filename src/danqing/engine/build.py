"""Puts an engine together: profile, device, modules, policy. The one file here that names concrete parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from danqing.engine.calibration import keep, recalled
from danqing.engine.heap import keep_few_kernels
from danqing.engine.load import BadCheckpoint, Device, load_family, residence_of, spare_of
from danqing.engine.loop import StepEngine
from danqing.engine.memory import find_device, make_room
from danqing.engine.stay import Stay
from danqing.profiles.loader import Profile
from danqing.profiles.weights import Weights
from danqing.schedule.cost import SATURATION, SLOWEST, Costs
from danqing.schedule.policy import POLICIES, InOrder, Policy


def open_engine(
    profile: Profile,
    device: str = "auto",
    threads: int | None = None,
    *,
    policy: str = "promise",
    calibration: Path | None = None,
    lost: Callable[[str], None] | None = None,
    weights: Weights | None = None,
    remember: int | None = None,
) -> StepEngine:
    """Load every checkpoint of the profile and return an idle engine. `threads` are torch's on a CPU (a setting of
    the whole process: call this in a process of the engine's own); `calibration` is the file where what is learned of
    the device's speed is kept, `weights` the folder of pulled ones; each checkpoint may keep `remember` bytes of
    inputs and prompts, which works then have less, None for what suits the device; `lost` is called when only a new
    process helps. Raises BadCheckpoint, or ValueError for an unknown device or policy."""
    keep_few_kernels()
    if threads is not None:
        torch.set_num_threads(threads)
    found = find_device(device)
    order = order_for(found.kind, policy)
    moving = residence_of(profile, found, weights)
    spare, many = spare_of(profile, found, weights, moving), len(profile.checkpoints)
    budget = replace(found, free=spare // many).keep(remember)
    if remember is not None and many * budget.near >= spare:
        raise BadCheckpoint(
            f"{many} × {remember:,} bytes remembered would leave nothing of the device to works"
        )
    families = {
        name: load_family(one, found, weights, keep=budget, residence=moving.get(name))
        for name, one in profile.checkpoints.items()
    }
    coming = max((one.most for one in moving.values()), default=0)
    room = make_room(found.kind, promised=coming + many * budget.near)
    about = f"{found.name}, {torch.get_num_threads()} threads, {profile.name}"
    costs = Costs() if calibration is None else recalled(calibration, about)
    costs.slowest = SLOWEST[found.kind]
    engine = StepEngine(
        profile,
        families,
        policy=order,
        room=room,
        costs=costs,
        keep=None if calibration is None else lambda costs: keep(calibration, about, costs.rates()),
        lost=lost,
    )
    engine.stay = Stay(moving, time.monotonic)
    return engine


def order_for(kind: str, policy: str = "promise") -> Policy:
    """The policy of that name for a kind of device. Raises ValueError for an unknown name."""
    if policy not in POLICIES:
        raise ValueError(f"there is no policy {policy!r}; there are: {', '.join(POLICIES)}")
    return InOrder(POLICIES[policy], SATURATION[kind])


__all__ = ["Device", "find_device", "open_engine", "order_for"]
