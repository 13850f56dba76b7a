"""`danqing simulate`: how many of a traffic's requests would be done on time, by which policy, on how many devices."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from danqing.cli.options import JsonOption

MIX = "60x1/4,30x20/40,10x55/40"


def simulate(
    *,
    mix: Annotated[
        str, typer.Option(help="kinds of requests, each as SHARExSECONDS/STEPS: seconds of one alone")
    ] = MIX,
    load: Annotated[float, typer.Option(min=0.01, help="share of the devices' time that is asked for")] = 0.7,
    devices: Annotated[int, typer.Option(min=1, max=4096, help="how many devices (GPUs)")] = 1,
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
    from danqing.schedule.policy import POLICIES
    from danqing.schedule.simulate import traffic

    if policy != "all" and policy not in POLICIES:
        raise typer.BadParameter(f"not one of all, {', '.join(POLICIES)}", param_hint="--policy")
    kinds = _kinds(mix)
    asked = traffic(kinds, load=load, devices=devices, count=requests, seed=seed, tenants=tenants)
    rows = [_row(name, asked, devices) for name in POLICIES if policy in ("all", name)]
    if goal is not None:
        rate = load * devices / (sum(k.share * k.seconds for k in kinds) / sum(k.share for k in kinds))
        for row in rows:
            row["devices"] = _needed(kinds, row["policy"], rate=rate, goal=goal, count=requests, seed=seed)
    if as_json:
        typer.echo(json.dumps({"policies": rows}))
        return
    heads = ["policy", "on time", "wait p50 s", "p95 s", "p99 s", "worst stretch"]
    table = Table(*heads, *(["devices for goal"] if goal is not None else []), box=None, pad_edge=False)
    for row in rows:
        waits = [f"{row[name]:.1f}" for name in ("wait_p50", "wait_p95", "wait_p99")]
        more = [str(row["devices"] or "more than 1024")] if goal is not None else []
        table.add_row(row["policy"], f"{row['on_time']:.1%}", *waits, f"{row['worst']:.1f}", *more)
    Console().print(table)


def _kinds(mix: str) -> list[Any]:
    """The kinds that a mix names. Raises BadParameter."""
    from danqing.schedule.simulate import Kind

    kinds = []
    for part in mix.split(","):
        share, x, rest = part.strip().partition("x")
        seconds, _, units = rest.partition("/")
        try:
            kind = Kind(float(share), float(seconds), int(units or 8))
        except ValueError:
            kind = Kind(0, 0, 0)
        if not x or min(kind.share, kind.seconds, kind.units) <= 0:
            raise typer.BadParameter(f"{part!r} is not SHARExSECONDS/STEPS, as in 60x1/4", param_hint="--mix")
        kinds.append(kind)
    return kinds


def _row(name: str, asked: list[Any], devices: int) -> dict[str, Any]:
    from danqing.schedule.simulate import simulate as play

    report = play(asked, _order(name), devices=devices)
    waits = report.waits(0.5, 0.95, 0.99)
    return {
        "policy": name,
        "on_time": report.on_time(),
        **dict(zip(("wait_p50", "wait_p95", "wait_p99"), waits, strict=True)),
        "worst": max(one.stretch for one in report.outcomes),
    }


def _needed(kinds: list[Any], name: str, **asked: Any) -> int | None:
    from danqing.schedule.simulate import needed

    return needed(kinds, _order(name), **asked)


def _order(name: str) -> Any:
    from danqing.schedule.cost import Saturation
    from danqing.schedule.policy import POLICIES, InOrder

    return InOrder(POLICIES[name], Saturation(half=0))
