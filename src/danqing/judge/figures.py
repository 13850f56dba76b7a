"""The girl, her clothes, her bare pose, and the goods a print goes on, as flat layers. Refuses to know what is said.

"Left" and "right" in a layer's name are the picture's, not the girl's. A profile is drawn facing right; the other
is its mirror image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from danqing.judge.layers import Layer, Plane, Point, Sheet, cut, overlap, shade, union, without
from danqing.judge.world import COLOURS, HAIR, Figure, Garment, Rgb, Skeleton

SKIN: Rgb = (245, 205, 170)
INK: Rgb = (44, 32, 38)
TROUSERS: Rgb = (40, 60, 110)
SHOES: Rgb = (84, 56, 60)
STOOL: Rgb = (164, 116, 74)
CHEEKS: Rgb = (244, 164, 146)
WHITE: Rgb = (250, 250, 250)

LINE = 0.012
_SEATED = 0.06  # how much lower everything sits


def _mirror(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple((-x, y) for x, y in points)


# The picture's right arm, from the shoulder to the hand; the left is its mirror image.
_DOWN: tuple[Point, ...] = ((0.08, -0.09), (0.15, 0.02), (0.17, 0.13))
_UP: tuple[Point, ...] = ((0.08, -0.08), (0.2, -0.17), (0.265, -0.37))
_OUT: tuple[Point, ...] = ((0.08, -0.085), (0.22, -0.085), (0.37, -0.085))
_LAP: tuple[Point, ...] = ((0.08, -0.09), (0.17, 0.03), (0.1, 0.12))
_LAID: tuple[Point, ...] = ((0.08, -0.09), (0.19, 0.0), (0.24, 0.11))
_ARMS: dict[str, tuple[tuple[Point, ...], tuple[Point, ...]]] = {
    "stand": (_DOWN, _DOWN),
    "sit": (_LAP, _LAP),
    "hands_up": (_UP, _UP),
    "wave": (_DOWN, _UP),
    "arms_out": (_OUT, _OUT),
}
# In profile the shoulders lie in the middle: (the far arm, the near one), or (the back, the front one).
_UP_ASIDE: tuple[Point, ...] = ((0.02, -0.08), (0.22, -0.15), (0.3, -0.34))
_OUT_ASIDE: tuple[Point, ...] = ((0.02, -0.085), (0.22, -0.085), (0.37, -0.085))
_ARMS_ASIDE: dict[str, tuple[tuple[Point, ...], tuple[Point, ...]]] = {
    "stand": (((0.01, -0.08), (0.05, 0.02), (0.085, 0.11)), ((0.0, -0.08), (-0.02, 0.03), (0.02, 0.14))),
    "sit": (((0.01, -0.08), (0.06, 0.03), (0.17, 0.07)), ((0.0, -0.08), (0.02, 0.04), (0.14, 0.09))),
    "wave": (((0.0, -0.08), (-0.02, 0.03), (0.02, 0.14)), _UP_ASIDE),
    "hands_up": (_mirror(_UP_ASIDE), _UP_ASIDE),
    "arms_out": (_mirror(_OUT_ASIDE), _OUT_ASIDE),
}
# The part of the arm a sleeve covers, and its half width.
_SLEEVES = {"dress": (0.26, 0.054), "shirt": (0.48, 0.054), "coat": (0.84, 0.05)}

_FRONT: dict[tuple[str, bool], tuple[Point, ...]] = {
    ("dress", False): ((0.08, -0.12), (0.068, 0.0), (0.195, 0.21)),
    ("dress", True): ((0.08, -0.12), (0.068, 0.0), (0.185, 0.14), (0.2, 0.235)),
    ("shirt", False): ((0.085, -0.12), (0.085, 0.12)),
    ("shirt", True): ((0.085, -0.12), (0.085, 0.12)),
    ("coat", False): ((0.085, -0.12), (0.095, 0.02), (0.145, 0.32)),
    ("coat", True): ((0.085, -0.12), (0.095, 0.02), (0.165, 0.14), (0.165, 0.28)),
}
_SEATED_ASIDE: dict[str, tuple[Point, ...]] = {
    "dress": ((-0.06, -0.12), (0.05, -0.12), (0.05, 0.02), (0.23, 0.07), (0.25, 0.22), (-0.12, 0.16), (-0.055, 0.0)),
    "shirt": ((-0.065, -0.12), (0.055, -0.12), (0.07, 0.1), (-0.08, 0.12)),
    "coat": (
        (-0.06, -0.12), (0.055, -0.12), (0.065, 0.04), (0.22, 0.06), (0.25, 0.12), (0.25, 0.28), (0.12, 0.28),
        (0.1, 0.17), (-0.1, 0.16), (-0.07, 0.0),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Body:
    """Where the limbs are: every path from the body outwards."""

    left_arm: tuple[Point, ...]
    right_arm: tuple[Point, ...]
    left_leg: tuple[Point, ...]
    right_leg: tuple[Point, ...]
    aside: bool
    seated: bool
    behind: int = 0  # how many arms are behind the body


def _body(pose: str, *, aside: bool = False) -> _Body:
    seated = pose == "sit"
    left, right = _ARMS[pose]
    left = _mirror(left)
    if aside:
        left, right = _ARMS_ASIDE[pose]
    legs: tuple[tuple[Point, ...], tuple[Point, ...]]
    if aside and seated:
        legs = ((-0.01, 0.11), (0.17, 0.12), (0.16, 0.35)), ((-0.01, 0.12), (0.21, 0.13), (0.21, 0.35))
    elif aside:
        legs = ((0.0, 0.1), (-0.035, 0.39)), ((0.0, 0.1), (0.035, 0.39))
    elif seated:
        bent = ((0.055, 0.1), (0.105, 0.18), (0.105, 0.35))
        legs = _mirror(bent), bent
    else:
        straight = ((0.055, 0.1), (0.06, 0.39))
        legs = _mirror(straight), straight
    behind = int(aside and pose in ("stand", "sit"))
    return _Body(left, right, legs[0], legs[1], aside, seated, behind)


def figure_layers(figure: Figure, width: int, height: int) -> list[Layer]:
    """A girl of nine tenths of the shorter side, in the middle."""
    sheet = Sheet(width, height, flip=figure.facing == "left")
    body = _body(figure.pose, aside=figure.facing in ("left", "right"))
    if body.seated:
        sheet.y = sheet.y - _SEATED
    arms = _bare_arms(sheet, body, figure.garment, swap=figure.facing == "left")
    parts = [
        *_under(sheet, body, figure),
        *arms[: body.behind],
        *_clothes(sheet, body, figure.garment, COLOURS[figure.colour]),
        *arms[body.behind :],
        *_head(sheet, figure),
    ]
    edge = union(*(distance for name, distance, _ in parts if name != "hair line")) - LINE
    return [
        Layer(name, sheet.cover(distance), colour)
        for name, distance, colour in [("outline", edge, INK), *parts]
    ]


_Part = tuple[str, Plane, Rgb]


def _under(sheet: Sheet, body: _Body, figure: Figure) -> list[_Part]:
    parts: list[_Part] = []
    if figure.facing == "front":
        parts.append(("back hair", sheet.box((0, -0.23), 0.155, 0.16, 0.08), HAIR[figure.hair]))
    legs = union(sheet.path(body.left_leg, 0.038), sheet.path(body.right_leg, 0.038))
    ahead = 0.06 if body.aside else 0.0
    shoes = union(
        *(
            sheet.capsule((x, y + 0.008), (x + ahead, y + 0.008), 0.046)
            for x, y in (body.left_leg[-1], body.right_leg[-1])
        )
    )
    soles = sheet.y - np.float32(body.left_leg[-1][1] + 0.042)
    limbs: list[_Part] = [("legs", overlap(legs, soles), SKIN), ("shoes", overlap(shoes, soles), SHOES)]
    if figure.garment == "shirt":
        hips = sheet.box((0, 0.1), 0.062 if body.aside else 0.1, 0.06, 0.03)
        trousers = [sheet.path(cut(leg, 0.88)[0], 0.052) for leg in (body.left_leg, body.right_leg)]
        limbs.append(("trousers", union(hips, *trousers), TROUSERS))
    if not body.seated:
        return [*parts, *limbs]
    stool = ("stool", _stool(sheet, body), STOOL)
    return [*parts, *limbs, stool] if figure.facing == "back" else [*parts, stool, *limbs]


def _stool(sheet: Sheet, body: _Body) -> Plane:
    middle, wide = (-0.04, 0.14) if body.aside else (0.0, 0.22)
    seat = sheet.box((middle, 0.2), wide, 0.035, 0.02)
    feet = [
        sheet.capsule((middle + side * (wide - 0.05), 0.2), (middle + side * (wide - 0.03), 0.36), 0.03)
        for side in (-1, 1)
    ]
    return union(seat, *feet)


def _clothes(sheet: Sheet, body: _Body, kind: str, colour: Rgb) -> list[_Part]:
    part, thick = _SLEEVES[kind]
    sleeves = union(*(sheet.path(cut(arm, part)[0], thick) for arm in (body.left_arm, body.right_arm)))
    trunk = sheet.polygon(_trunk(body, kind), 0.02)
    whole = union(trunk, sleeves)
    folds = overlap(np.abs(sleeves - 0.007) - np.float32(0.007), overlap(trunk, -0.04 - sheet.y))
    parts: list[_Part] = [(kind, whole, colour), ("folds", folds, shade(colour, 0.72))]
    if kind == "coat":
        x, end = 0.03 if body.aside else 0.0, 0.2 if body.seated and body.aside else 0.33
        line = overlap(sheet.capsule((x, -0.12), (x, end), 0.014), whole)
        parts.append(("coat line", line, WHITE))
    return parts


def _trunk(body: _Body, kind: str) -> tuple[Point, ...]:
    if body.aside and body.seated:
        return _SEATED_ASIDE[kind]
    half = _FRONT[kind, body.seated]
    if body.aside:
        half = tuple((x * 0.7, y) for x, y in half)
    return (*half, *reversed(_mirror(half)))


def _bare_arms(sheet: Sheet, body: _Body, kind: str, *, swap: bool) -> list[_Part]:
    names = ("right arm", "left arm") if swap else ("left arm", "right arm")
    parts: list[_Part] = []
    for name, arm in zip(names, (body.left_arm, body.right_arm), strict=True):
        bare = cut(arm, _SLEEVES[kind][0])[1]
        limb = overlap(sheet.path(bare, 0.036), sheet.beyond(bare[0], bare[1]))
        parts.append((name, union(limb, sheet.disc(arm[-1], 0.044)), SKIN))
    return parts


def _head(sheet: Sheet, figure: Figure) -> list[_Part]:
    hair = HAIR[figure.hair]
    neck = sheet.capsule((0, -0.2), (0, -0.12), 0.04)
    if figure.facing == "back":
        mane = union(sheet.disc((0, -0.285), 0.165), sheet.box((0, -0.2), 0.158, 0.14, 0.08))
        return [("hair line", mane - LINE, INK), ("hair", mane, hair)]
    if figure.facing == "front":
        face = union(sheet.disc((0, -0.28), 0.15), neck)
        brow = union(sheet.ellipse((-0.05, -0.245), 0.105, 0.12), sheet.ellipse((0.05, -0.245), 0.105, 0.12))
        cap = overlap(without(sheet.disc((0, -0.285), 0.165), brow), sheet.y + 0.2)
        at: tuple[float, ...] = (-0.062, 0.062)
        mouth = sheet.path(((-0.03, -0.197), (0, -0.185), (0.03, -0.197)), 0.009)
        cheeks = union(sheet.disc((-0.1, -0.215), 0.026), sheet.disc((0.1, -0.215), 0.026))
    else:
        face = union(sheet.disc((0, -0.28), 0.15), neck, sheet.ellipse((0.155, -0.25), 0.036, 0.026))
        mane = union(sheet.disc((-0.005, -0.285), 0.165), sheet.box((-0.09, -0.2), 0.1, 0.13, 0.08))
        cap = without(
            without(mane, sheet.ellipse((0.11, -0.235), 0.125, 0.125)), sheet.box((0.24, -0.2), 0.18, 0.13)
        )
        at = (0.085,)
        mouth = sheet.path(((0.062, -0.196), (0.082, -0.189), (0.106, -0.2)), 0.009)
        cheeks = sheet.disc((0.05, -0.215), 0.026)
    eyes = union(*(_eye(sheet, x, figure.eyes) for x in at))
    cheeks = overlap(cheeks, face)
    return [
        ("head", face, SKIN),
        ("cheeks", cheeks, CHEEKS),
        ("hair line", overlap(cap - LINE, face), INK),
        ("hair", cap, hair),
        ("eyes", eyes, INK),
        ("mouth", mouth, shade(CHEEKS, 0.7)),
    ]


def _eye(sheet: Sheet, x: float, state: str) -> Plane:
    if state == "open":
        return sheet.ellipse((x, -0.262), 0.028, 0.037)
    return sheet.path(((x - 0.038, -0.259), (x, -0.25), (x + 0.038, -0.259)), 0.0115)


def garment_layers(garment: Garment, width: int, height: int) -> list[Layer]:
    """A piece of clothing alone, empty, in the middle."""
    sheet = Sheet(width, height, scale=1.6)
    middle = {"dress": 0.045, "shirt": 0.0, "coat": 0.1}[garment.kind]
    sheet.y = sheet.y + middle
    colour = COLOURS[garment.colour]
    body = replace(_body("stand"), left_arm=_mirror(_LAID), right_arm=_LAID)
    parts = _clothes(sheet, body, garment.kind, colour)
    neck = overlap(sheet.ellipse((0, -0.14), 0.055, 0.035), parts[0][1])
    parts.append(("collar", neck, shade(colour, 0.55)))
    edge = parts[0][1] - LINE / 1.6
    return [
        Layer(name, sheet.cover(distance), paint)
        for name, distance, paint in [("outline", edge, INK), *parts]
    ]


def skeleton_layers(skeleton: Skeleton, width: int, height: int) -> list[Layer]:
    """A stick figure in a pose, seen from the front: white, for a black background."""
    sheet = Sheet(width, height)
    body = _body(skeleton.pose)
    if body.seated:
        sheet.y = sheet.y - _SEATED
    thick = 0.0175
    shoulders, hips = (body.left_arm[0], body.right_arm[0]), (body.left_leg[0], body.right_leg[0])
    ring = without(sheet.disc((0, -0.28), 0.15), sheet.disc((0, -0.28), 0.15 - 2 * thick))
    trunk = union(
        sheet.capsule((0, -0.13), (0, 0.1), thick), sheet.path(shoulders, thick), sheet.path(hips, thick)
    )
    limbs = {
        "head": ring,
        "trunk": trunk,
        "left arm": sheet.path(body.left_arm, thick),
        "right arm": sheet.path(body.right_arm, thick),
        "left leg": sheet.path(body.left_leg, thick),
        "right leg": sheet.path(body.right_leg, thick),
    }
    return [Layer(name, sheet.cover(distance), WHITE) for name, distance in limbs.items()]


CLOTH: dict[str, Rgb] = {"shirt": (235, 235, 235), "bag": (224, 206, 170)}


def print_box(kind: str, width: int, height: int) -> tuple[float, float, float]:
    """Where a print goes on the goods: its centre and radius in pixels."""
    side = min(width, height)
    down = {"shirt": 0.02, "bag": 0.13}[kind]
    return width / 2, height / 2 + down * side, 0.17 * side


def goods_layers(kind: str, width: int, height: int) -> list[Layer]:
    """A shirt or a bag of eight tenths of the shorter side, without its print."""
    sheet = Sheet(width, height)
    parts = _tshirt(sheet) if kind == "shirt" else _tote(sheet)
    edge = union(*(distance for _, distance, _ in parts)) - 1.3 * LINE
    colour = (128, 128, 134) if kind == "shirt" else (126, 98, 62)
    return [
        Layer(name, sheet.cover(distance), paint)
        for name, distance, paint in [("outline", edge, colour), *parts]
    ]


def _tshirt(sheet: Sheet) -> list[_Part]:
    half = ((0.1, -0.37), (0.2, -0.34), (0.4, -0.16), (0.3, -0.04), (0.23, -0.09), (0.23, 0.37))
    neck = sheet.ellipse((0, -0.4), 0.105, 0.085)
    whole = sheet.polygon((*half, *reversed(_mirror(half))), 0.015)
    return [
        ("shirt", without(whole, neck), CLOTH["shirt"]),
        ("collar", overlap(without(neck - 0.028, neck), whole), (176, 176, 182)),
    ]


def _tote(sheet: Sheet) -> list[_Part]:
    half = ((0.29, -0.13), (0.33, 0.38))
    sack = sheet.polygon((*half, *reversed(_mirror(half))), 0.02)
    handle = without(sheet.ellipse((0, -0.13), 0.17, 0.27), sheet.ellipse((0, -0.13), 0.12, 0.22))
    handle = overlap(handle, sheet.y + 0.1)
    return [("handles", handle, (178, 138, 88)), ("bag", sack, CLOTH["bag"])]
