"""`danqing simulate`: how many of a traffic's requests would be done on time, by which policy, on how many devices."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from danqing.cli.options import JsonOption
from danqing.cli.tables import show

MIX = "60x1/4,30x20/40,10x55/40"
TOKEN = 16
"""Pixels of a side that make one token, in Qwen-Image 1.x and 2.1 alike."""


def simulate(
    *,
    mix: Annotated[
        str,
        typer.Option(
            help="kinds of requests, each as SHARExSECONDS/STEPS, seconds of one alone; with @SIDE (pixels) those of "
            "one size may step together"
        ),
    ] = MIX,
    load: Annotated[float, typer.Option(min=0.01, help="share of the devices' time that is asked for")] = 0.7,
    devices: Annotated[int, typer.Option(min=1, max=4096, help="how many devices (GPUs)")] = 1,
    device: Annotated[
        str, typer.Option(help="their kind, which says what stepping together saves: cuda, cpu or mps")
    ] = "cuda",
    requests: Annotated[int, typer.Option(min=1, max=1_000_000, help="how many requests")] = 2000,
    tenants: Annotated[int, typer.Option(min=1, help="who sends them")] = 1,
    policy: Annotated[str, typer.Option(help="one policy, or all side by side")] = "all",
    goal: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="also: the fewest devices for that share on time")
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same traffic")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Play a traffic through the engine's own policies on paper: share on time (within 3 times its own time), waits."""
    from danqing.schedule.cost import SATURATION
    from danqing.schedule.policy import POLICIES, InOrder
    from danqing.schedule.simulate import traffic

    if device not in SATURATION:
        raise typer.BadParameter(f"not one of {', '.join(SATURATION)}", param_hint="--device")
    if policy != "all" and policy not in POLICIES:
        raise typer.BadParameter(f"not one of all, {', '.join(POLICIES)}", param_hint="--policy")
    kinds = _kinds(mix)
    asked = traffic(kinds, load=load, devices=devices, count=requests, seed=seed, tenants=tenants)
    orders = {
        name: InOrder(POLICIES[name], SATURATION[device]) for name in POLICIES if policy in ("all", name)
    }
    rows = [{"policy": name, **_row(order, asked, devices)} for name, order in orders.items()]
    if goal is not None:
        rate = load * devices / (sum(k.share * k.seconds for k in kinds) / sum(k.share for k in kinds))
        for row in rows:
            order = orders[row["policy"]]
            row["devices"] = _needed(kinds, order, rate=rate, goal=goal, count=requests, seed=seed)
    if as_json:
        typer.echo(json.dumps({"policies": rows}))
        return
    heads = ["policy", "on time", "wait p50 s", "p95 s", "p99 s", "worst stretch"]
    table = Table(*heads, *(["devices for goal"] if goal is not None else []), box=None, pad_edge=False)
    for row in rows:
        waits = [f"{row[name]:.1f}" for name in ("wait_p50", "wait_p95", "wait_p99")]
        more = [str(row["devices"] or "more than 1024")] if goal is not None else []
        table.add_row(row["policy"], f"{row['on_time']:.1%}", *waits, f"{row['worst']:.1f}", *more)
    show(table)


def _kinds(mix: str) -> list[Any]:
    """The kinds that a mix names. Raises BadParameter."""
    from danqing.schedule.simulate import Kind

    kinds = []
    for part in mix.split(","):
        share, x, rest = part.strip().partition("x")
        rest, at, side = rest.partition("@")
        seconds, _, units = rest.partition("/")
        try:
            kind = Kind(float(share), float(seconds), int(units or 8), (int(side) // TOKEN) ** 2 if at else 0)
        except ValueError:
            kind = Kind(0, 0, 0)
        if not x or min(kind.share, kind.seconds, kind.units) <= 0 or (at and not kind.tokens):
            said = f"{part!r} is not SHARExSECONDS/STEPS[@SIDE], as in 60x1/4 or 60x1/4@512"
            raise typer.BadParameter(said, param_hint="--mix")
        kinds.append(kind)
    return kinds


def _row(order: Any, asked: list[Any], devices: int) -> dict[str, Any]:
    from danqing.schedule.simulate import simulate as play

    report = play(asked, order, devices=devices)
    waits = report.waits(0.5, 0.95, 0.99)
    return {
        "on_time": report.on_time(),
        **dict(zip(("wait_p50", "wait_p95", "wait_p99"), waits, strict=True)),
        "worst": max(one.stretch for one in report.outcomes),
    }


def _needed(kinds: list[Any], order: Any, **asked: Any) -> int | None:
    from danqing.schedule.simulate import needed

    return needed(kinds, order, **asked)
