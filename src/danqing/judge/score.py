"""Decides whether a picture shows the right answer: thing by thing, never as a mean over the picture.

Each thing of the true scene must stand at its place in its size and colour and with its own outline, and everything
between the things must be the true background; so a thing that should be gone, or should not have come, is found
there. What has parts (a girl, a sign) or another style is laid beside the right answer and beside every wrong one that
comes near, and must be clearly nearer to the right one wherever the two differ.
Refuses to know who drew the picture and how.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from danqing.judge.backdrops import Pixels, backdrop
from danqing.judge.colour import Reals, apart, lab
from danqing.judge.draw import placement, render, scene_layers, silhouette
from danqing.judge.glyphs import WORDS_EN, WORDS_ZH
from danqing.judge.scenes import Case
from danqing.judge.signs import sign_layers
from danqing.judge.world import BACKGROUNDS, COLOURS, SHAPES, Scene, Sign, Thing

Mask = NDArray[np.bool_]

SIDE = 128  # the shorter side pictures are judged at
COLOUR_LIMIT = 22.0  # distance in CIELAB from the named colour, over the inside of a thing
BACKGROUND_LIMIT = 10.0  # mean distance of the background
STRANGE = 24.0  # a pixel this far from the background does not belong to it
OVERLAP = 0.7
CLEARLY = 0.6  # what is meant must be this much nearer than whatever comes next
EDGE = 4.4  # pixels from one colour to the other
OFFSET = 0.5  # of a radius
AREA = (0.78, 1.28)  # of the true area; the next size has at least 1.5 times as much
PART_LIMIT = 20.0  # distance in CIELAB of any part of a centrepiece, or of a thing in another style
LEGIBLE = 0.6  # overlap of the letters with those of the true word
MENDED = 0.4  # of the damage may be left
MENDED_ROWS = ("old", "small")
SHARP = 0.5  # of the true contrast along the true edges
EDGES = 12.0  # in CIELAB from one pixel to the next
DIFFERS = 8.0  # two answers differ at a pixel whose colours are this far apart


@dataclass(frozen=True, slots=True)
class Verdict:
    """Right, or wrong and why."""

    right: bool
    reasons: tuple[str, ...] = ()


_NAMES = tuple(COLOURS)
_PALETTE = lab(np.array(list(COLOURS.values()), np.uint8))


@lru_cache(maxsize=64)
def _behind(name: str, width: int, height: int) -> Reals:
    """A background in CIELAB. The array is shared: do not write into it."""
    shared = lab(backdrop(name, width, height))
    shared.setflags(write=False)
    return shared


def resample(picture: Pixels, width: int, height: int) -> Pixels:
    """Means over areas, exact for any pair of sizes."""
    if picture.shape[:2] == (height, width):
        return picture
    rows, columns = _spread(picture.shape[0], height), _spread(picture.shape[1], width)
    mixed = np.einsum("ij,jkc->ikc", rows, picture.astype(np.float32))
    mixed = np.einsum("ij,kjc->kic", columns, mixed)
    return np.asarray(mixed + 0.5, dtype=np.uint8)


def _spread(old: int, new: int) -> Reals:
    """Row i holds the share of each old pixel in new pixel i; neighbours are mixed when the picture grows."""
    edges = np.arange(new + 1) * (old / new)
    if new > old:
        centre = (edges[:-1] + edges[1:]) / 2
        lower, upper = np.asarray(centre - 0.5), np.asarray(centre + 0.5)
    else:
        lower, upper = np.asarray(edges[:-1]), np.asarray(edges[1:])
    pixel = np.arange(old)
    share = np.minimum(upper[:, None], pixel[None] + 1) - np.maximum(lower[:, None], pixel[None])
    share = np.clip(share, 0, None)
    return np.asarray(share / share.sum(1, keepdims=True), dtype=np.float32)


def grown(mask: Mask, by: int) -> Mask:
    """Dilated by a square; a negative number erodes."""
    if by < 0:
        return ~grown(~mask, -by)
    for axis in (0, 1):
        wider = mask.copy()
        for step in range(1, by + 1):
            forward, backward = np.zeros_like(mask), np.zeros_like(mask)
            if axis == 0:
                forward[step:], backward[:-step] = mask[:-step], mask[step:]
            else:
                forward[:, step:], backward[:, :-step] = mask[:, :-step], mask[:, step:]
            wider |= forward | backward
        mask = wider
    return mask


def judge(case: Case, picture: Pixels) -> Verdict:
    """Whether the picture, of any size and near the truth's aspect, is a right answer to the case."""
    width, height = case.size
    if abs(np.log((picture.shape[1] / picture.shape[0]) / (width / height))) > 0.15:
        return Verdict(False, ("the picture has another aspect",))
    zoom = SIDE / min(width, height)
    fitting = resample(picture[..., :3], round(width * zoom), round(height * zoom))
    scene = case.plan.after
    if scene.style == "flat" and scene.piece is None:
        verdict = judge_scene(scene, fitting)
        unmended = _spoilt_faults(case, fitting) if case.plan.spoilt in MENDED_ROWS else []
        return Verdict(verdict.right and not unmended, (*verdict.reasons, *unmended))
    return _judge_parts(scene, _wrongs(case), fitting)


def judge_scene(scene: Scene, picture: Pixels) -> Verdict:
    """The same for a scene of things and a picture already at the size of judging."""
    seen = lab(picture)
    height, width = picture.shape[:2]
    behind = _behind(scene.background, width, height)
    outlines = {thing: silhouette(thing, width, height) for thing in scene.things}
    reasons = _background_faults(scene, seen, list(outlines.values()))
    for thing in scene.things:
        rest = np.zeros((height, width), dtype=np.bool_)
        for other, outline in outlines.items():
            if other != thing:
                rest |= grown(outline, 3)
        reasons += _thing_faults(thing, seen, behind, (outlines[thing], rest))
    return Verdict(not reasons, tuple(reasons))


def _spoilt_faults(case: Case, picture: Pixels) -> list[str]:
    """What was spoilt must come nearer to the clean picture wherever it had been changed."""
    height, width = picture.shape[:2]
    clean, given = lab(render(case.plan.after, width, height)), lab(resample(case.inputs[0], width, height))
    spoilt = apart(given, clean)
    where = spoilt > DIFFERS
    left = float(apart(lab(picture), clean)[where].mean())
    return ["the damage is still there"] if left > MENDED * float(spoilt[where].mean()) else []


def _wrongs(case: Case) -> Iterator[tuple[str, Scene]]:
    """What the picture must not be taken for."""
    plan = case.plan
    if plan.befores and plan.spoilt is None and plan.befores[0] != plan.after:
        yield "the picture as it was", plan.befores[0]
    for wrong in plan.wrongs:
        yield "another answer", wrong
    for thing in plan.after.things:
        yield f"one without the {thing.colour} {thing.shape}", plan.after.without(thing)


def _judge_parts(scene: Scene, wrongs: Iterator[tuple[str, Scene]], picture: Pixels) -> Verdict:
    """For a centrepiece or another style: every part in its colour, and nearer to this than to any wrong answer."""
    height, width = picture.shape[:2]
    seen, truth = lab(picture), lab(render(scene, width, height))
    reasons, free = [], np.ones((height, width), dtype=np.bool_)
    above = np.zeros((height, width), dtype=np.bool_)
    for layer in reversed(scene_layers(scene, width, height)):
        visible = grown((layer.cover > 0.5) & ~above, -1)
        above |= layer.cover > 0.5
        free &= ~grown(layer.cover > 0.02, 5)
        if int(visible.sum()) < 24:
            continue
        distance = float(apart(seen[visible].mean(0), truth[visible].mean(0)))
        if distance > PART_LIMIT or float(apart(seen, truth)[visible].mean()) > 1.6 * PART_LIMIT:
            reasons.append(f"the {layer.name} is not as it should be")
    if isinstance(scene.piece, Sign):
        reasons += _word_faults(scene.piece, scene, seen)
    far = apart(seen, truth)
    if float(far[free].mean()) > BACKGROUND_LIMIT:
        reasons.append(f"the background is not {scene.background}")
    if int(grown(grown((far > STRANGE) & free, -3), 3).sum()) > 40:
        reasons.append("something is there that should not be")
    true_edges = _steps(truth)
    edges = true_edges > EDGES
    if float(_steps(seen)[edges].mean()) < SHARP * float(true_edges[edges].mean()):
        reasons.append("it is blurred")
    for name, wrong in wrongs:
        other = lab(render(wrong, width, height))
        where = apart(truth, other) > DIFFERS
        if where.any() and float(far[where].mean()) > CLEARLY * float(apart(seen, other)[where].mean()):
            reasons.append(f"it looks like {name}")
            break
    return Verdict(not reasons, tuple(reasons))


def _steps(picture: Reals) -> Reals:
    """How far each pixel is from its right and its lower neighbour, the further of the two."""
    across, down = np.zeros(picture.shape[:2], np.float32), np.zeros(picture.shape[:2], np.float32)
    across[:, :-1] = apart(picture[:, 1:], picture[:, :-1])
    down[:-1] = apart(picture[1:], picture[:-1])
    return np.maximum(across, down)


@lru_cache(maxsize=4)
def _words(width: int, height: int) -> tuple[tuple[str, ...], Reals]:
    """Every word's letters as covers; words x pixels."""
    words = (*WORDS_EN, *WORDS_ZH)
    covers = [sign_layers(Sign(word, "black"), width, height)[-1].cover.ravel() for word in words]
    return words, np.stack(covers)


def _word_faults(sign: Sign, scene: Scene, seen: Reals) -> list[str]:
    """Template matching: how much of each pixel of the board is ink, laid over every word of the world."""
    height, width = seen.shape[:2]
    empty = lab(render(replace(scene, piece=replace(sign, word="")), width, height))
    line = _PALETTE[_NAMES.index(sign.colour)] - empty
    ink = np.clip(((seen - empty) * line).sum(-1) / np.maximum((line * line).sum(-1), 1), 0, 1).ravel()
    words, covers = _words(width, height)
    board = covers.any(0)
    overlaps = np.minimum(ink, covers)[:, board].sum(1) / np.maximum(ink, covers)[:, board].sum(1)
    best = int(overlaps.argmax())
    if words[best] != sign.word:
        return [f"the sign says {words[best]}, not {sign.word}"]
    return [] if float(overlaps[best]) > LEGIBLE else [f"{sign.word} is not legible"]


def _background_faults(scene: Scene, seen: Reals, outlines: list[Mask]) -> list[str]:
    height, width = seen.shape[:2]
    behind = _behind(scene.background, width, height)
    between = np.ones((height, width), dtype=np.bool_)
    for outline in outlines:
        between &= ~grown(outline, 7)
    far = apart(seen, behind)
    faults = []
    means = {name: float(apart(seen, _behind(name, width, height))[between].mean()) for name in BACKGROUNDS}
    mine = means.pop(scene.background)
    nearest = min(means, key=lambda name: means[name])
    if mine > min(BACKGROUND_LIMIT, CLEARLY * means[nearest]):
        faults.append(f"the background is not {scene.background}, it may be {nearest}")
    strange = grown(grown((far > STRANGE) & between, -3), 3)
    if int(strange.sum()) > 40:
        rows, columns = np.nonzero(strange)
        faults.append(
            f"something is at {columns.mean() / width:.2f}, {rows.mean() / height:.2f} that should not be"
        )
    return faults


def _thing_faults(thing: Thing, seen: Reals, behind: Reals, masks: tuple[Mask, Mask]) -> list[str]:
    outline, rest = masks
    height, width = seen.shape[:2]
    name = f"{thing.colour} {thing.shape} at {thing.place}"
    x, y, radius = placement(thing, width, height)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    near = (np.maximum(np.abs(columns - x), np.abs(rows - y)) < 1.55 * radius) & ~rest
    wanted = _PALETTE[_NAMES.index(thing.colour)]
    # How far along from the background to the wanted colour each pixel is, and how far off that line.
    line = wanted - behind
    along = ((seen - behind) * line).sum(-1) / np.maximum((line * line).sum(-1), 1)
    body = near & (along > 0.5) & (apart(seen, wanted) < 0.6 * apart(behind, wanted))
    area = int(body.sum())
    if not AREA[0] < area / max(1, int(outline.sum())) < AREA[1]:
        return [f"no {name}, or of a wrong size"]
    offset = np.hypot(
        columns[body].mean() - columns[outline].mean(), rows[body].mean() - rows[outline].mean()
    )
    if offset > OFFSET * radius:
        return [f"the {name} is out of place"]
    faults = _outline_faults(thing, body)
    inside = next((core for by in (3, 2, 1) if int((core := grown(body, -by)).sum()) >= 12), body)
    colour = seen[inside].mean(0)
    mine = float(apart(wanted, colour))
    distances = {other: float(apart(tint, colour)) for other, tint in zip(_NAMES, _PALETTE, strict=True)}
    nearest = min((other for other in _NAMES if other != thing.colour), key=lambda other: distances[other])
    if mine > min(COLOUR_LIMIT, CLEARLY * distances[nearest]):
        faults.append(f"the {name} looks {nearest}")
    rim = max(1, int((grown(outline, 1) & ~grown(outline, -1)).sum()) / 2)
    unsure = int((near & (along > 0.2) & (along < 0.8) & grown(outline, 8)).sum())
    if unsure / rim > EDGE:
        faults.append(f"the {name} is blurred")
    return faults


def _outline_faults(thing: Thing, body: Mask) -> list[str]:
    """Each shape is laid over what was found, with the same centre and area; the right one must fit best."""
    fits = {shape: _fit(shape, body) for shape in SHAPES}
    best = max(fits, key=lambda shape: fits[shape])
    if best != thing.shape:
        return [f"the {thing.colour} {thing.shape} at {thing.place} looks like a {best}"]
    if fits[best] < OVERLAP:
        return [f"the {thing.colour} {thing.shape} at {thing.place} has no clear outline"]
    return []


def _fit(shape: str, body: Mask) -> float:
    height, width = body.shape
    template = Thing(shape, "black", "centre")
    scale = (body.sum() / silhouette(template, width, height).sum()) ** 0.5
    rows, columns = np.nonzero(body)
    fresh = silhouette(replace(template, scale=float(scale)), width, height)
    fresh_rows, fresh_columns = np.nonzero(fresh)
    down = round(float(rows.mean() - fresh_rows.mean()))
    across = round(float(columns.mean() - fresh_columns.mean()))
    moved = np.zeros_like(body)
    fits = (fresh_rows + down >= 0) & (fresh_rows + down < height)
    fits &= (fresh_columns + across >= 0) & (fresh_columns + across < width)
    moved[fresh_rows[fits] + down, fresh_columns[fits] + across] = True
    return float((moved & body).sum() / (moved | body).sum())
