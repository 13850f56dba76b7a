"""Wrong answers on purpose, to test the judge with: each looks right to a judge that is careless in one way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from danqing.judge.backdrops import SHOWS, Pixels
from danqing.judge.draw import render
from danqing.judge.scenes import Case
from danqing.judge.styles import blur
from danqing.judge.world import COLOURS, HAIR, SHAPES, Figure, Garment, Goods, Scene, Sign, Skeleton, Thing

Rng = np.random.Generator


def wrong_answers(case: Case) -> Iterator[tuple[str, Pixels]]:
    """Names and pictures of the truth's size."""
    rng, after, size = np.random.default_rng([case.seed, 5]), case.plan.after, case.size
    first = case.inputs[0] if case.inputs else None
    if first is not None and first.shape == case.truth.shape and not _alike(first, case.truth):
        yield "unedited", first
        yield "half edited", ((first.astype(np.float32) + case.truth) / 2).astype(np.uint8)
    yield "another edit", render(_other(after, rng), *size)
    if case.plan.wrongs:
        yield "named wrong", render(case.plan.wrongs[int(rng.integers(len(case.plan.wrongs)))], *size)
    if (elsewhere := _on_another(case, rng)) is not None:
        yield "on another thing", render(elsewhere, *size)
    for thing in after.things[:1]:
        yield "one thing less", render(after.without(thing), *size)
        if after.style == "flat":
            yield "another size", render(after.swap(thing, _other_size(thing)), *size)
    if after.things or after.piece:
        radius = max(1, round(5 * min(size) / 128))
        soft = blur(blur(case.truth.astype(np.float32), radius), radius)
        if after.style == "flat":
            yield "blurred truth", (soft + 0.5).astype(np.uint8)


def _on_another(case: Case, rng: Rng) -> Scene | None:
    """What was asked of one thing, done to another one of the scene; None where nothing of that kind was asked."""
    before, after = next(iter(case.plan.befores), None), case.plan.after
    if before is None or (before.background, before.style) != (after.background, after.style):
        return None
    gone = [it for it in before.things if it not in after.things]
    came = [it for it in after.things if it not in before.things]
    others = [it for it in before.things if it in after.things]
    if len(gone) != 1 or len(came) > 1 or not others:
        return None
    other = others[int(rng.integers(len(others)))]
    if not came:
        return before.without(other)
    what = {name: getattr(came[0], name) for name in ("shape", "colour", "place")}
    changed = {name: value for name, value in what.items() if value != getattr(gone[0], name)}
    done = replace(other, **changed)
    return before.swap(other, done) if done != other else None


def _alike(one: Pixels, other: Pixels) -> bool:
    return bool(np.abs(one.astype(np.int16) - other).max(-1).mean() < 0.5)


def _pick(rng: Rng, choices: list[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _other_size(thing: Thing) -> Thing:
    nearest = {"tiny": "small", "small": "medium", "medium": "large", "large": "medium"}
    return replace(thing, size=nearest[thing.size])


def _other(scene: Scene, rng: Rng) -> Scene:
    """The scene with one thing about it changed."""
    if scene.things:
        it = scene.things[int(rng.integers(len(scene.things)))]
        if scene.style != "flat":  # lines have no colours, blocks hardly a shape
            return scene.without(it)
        if rng.random() < 0.5:
            colours = sorted(SHOWS[scene.background] - {it.colour})
            return scene.swap(it, replace(it, colour=_pick(rng, colours)))
        return scene.swap(it, replace(it, shape=_pick(rng, [s for s in SHAPES if s != it.shape])))
    match scene.piece:
        case Figure() as girl if rng.random() < 0.3:
            return replace(scene, piece=replace(girl, hair=_pick(rng, [h for h in HAIR if h != girl.hair])))
        case Figure() | Garment() | Sign() as piece:
            colours = [colour for colour in COLOURS if colour != piece.colour]
            return replace(scene, piece=replace(piece, colour=_pick(rng, colours)))
        case Goods() as piece if piece.print:
            return replace(scene, piece=replace(piece, print=None))
        case Skeleton():
            return replace(scene, piece=Skeleton("sit"))
    return replace(scene, background="grass" if scene.background != "grass" else "room")
