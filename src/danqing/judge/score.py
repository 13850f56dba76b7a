"""Decides whether a picture shows the right answer: thing by thing, never as a mean over the picture.

Each thing of the true scene must stand at its place in its colour and with its own outline, and everything between
the things must be the true background; so a thing that should be gone, or should not have come, is found there.
Refuses to know who drew the picture and how.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from danqing.judge.draw import Pixels, backdrop, placement, silhouette
from danqing.judge.scenes import Case
from danqing.judge.world import BACKGROUNDS, COLOURS, SHAPES, Scene, Thing

Mask = NDArray[np.bool_]
Reals = NDArray[np.float32]

SIDE = 128  # the shorter side pictures are judged at
COLOUR_LIMIT = 22.0  # distance in CIELAB from the named colour, over the inside of a thing
BACKGROUND_LIMIT = 10.0  # mean distance of the background
STRANGE = 24.0  # a pixel this far from the background does not belong to it
OVERLAP = 0.7
CLEARLY = 0.6  # what is meant must be this much nearer than whatever comes next
EDGE = 4.4  # pixels from one colour to the other
OFFSET = 0.5  # of a radius
AREA = (0.6, 1.6)

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


@dataclass(frozen=True, slots=True)
class Verdict:
    """Right, or wrong and why."""

    right: bool
    reasons: tuple[str, ...] = ()


def lab(pixels: NDArray[np.generic]) -> Reals:
    """sRGB 0..255 to CIELAB."""
    unit = np.asarray(pixels, dtype=np.float32) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (_TO_XYZ.T / _WHITE)
    bent = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    light = 116 * bent[..., 1] - 16
    return np.stack(
        [light, 500 * (bent[..., 0] - bent[..., 1]), 200 * (bent[..., 1] - bent[..., 2])], axis=-1
    ).astype(np.float32)


_NAMES = tuple(COLOURS)
_PALETTE = lab(np.array(list(COLOURS.values())))


@lru_cache(maxsize=64)
def _behind(name: str, width: int, height: int) -> Reals:
    """A background in CIELAB. The array is shared: do not write into it."""
    shared = lab(backdrop(name, width, height))
    shared.setflags(write=False)
    return shared


def apart(a: Reals, b: Reals) -> Reals:
    """Distance in CIELAB."""
    return np.asarray(np.linalg.norm(a - b, axis=-1), dtype=np.float32)


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
    return judge_scene(
        case.truth_scene, resample(picture[..., :3], round(width * zoom), round(height * zoom))
    )


def judge_scene(scene: Scene, picture: Pixels) -> Verdict:
    """The same for a scene and a picture already at the size of judging."""
    seen = lab(picture)
    height, width = picture.shape[:2]
    behind = _behind(scene.background, width, height)
    outlines = {thing: silhouette(thing, width, height) for thing in scene.things}
    reasons = _background_faults(scene, seen, behind, outlines)
    for thing in scene.things:
        rest = np.zeros((height, width), dtype=np.bool_)
        for other, outline in outlines.items():
            if other != thing:
                rest |= grown(outline, 3)
        reasons += _thing_faults(thing, seen, behind, (outlines[thing], rest))
    return Verdict(not reasons, tuple(reasons))


def _background_faults(scene: Scene, seen: Reals, behind: Reals, outlines: dict[Thing, Mask]) -> list[str]:
    height, width = seen.shape[:2]
    between = np.ones((height, width), dtype=np.bool_)
    for outline in outlines.values():
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
    inside = grown(body, -3) if grown(body, -3).any() else body
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
    plain = silhouette(template, width, height)
    scale = (body.sum() / plain.sum()) ** 0.5
    rows, columns = np.nonzero(body)
    fresh = silhouette(Thing(shape, "black", "centre", scale=float(scale)), width, height)
    fresh_rows, fresh_columns = np.nonzero(fresh)
    down = round(float(rows.mean() - fresh_rows.mean()))
    across = round(float(columns.mean() - fresh_columns.mean()))
    moved = np.zeros_like(body)
    fits = (fresh_rows + down >= 0) & (fresh_rows + down < height)
    fits &= (fresh_columns + across >= 0) & (fresh_columns + across < width)
    moved[fresh_rows[fits] + down, fresh_columns[fits] + across] = True
    return float((moved & body).sum() / (moved | body).sum())
