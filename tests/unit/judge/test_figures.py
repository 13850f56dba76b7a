"""The girl, her clothes, her poses and the goods: all inside the picture, and no two of them alike."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from danqing.judge.figures import figure_layers, garment_layers, goods_layers, print_box, skeleton_layers
from danqing.judge.layers import Layer, Sheet, cut
from danqing.judge.world import (
    COLOURS,
    EYES,
    FACINGS,
    GARMENTS,
    GOODS,
    HAIR,
    POSES,
    Figure,
    Garment,
    Skeleton,
)

SIZES = ((128, 128), (224, 96))
FIGURES = [
    Figure("brown", garment, "red", pose, facing, eyes)
    for garment, pose, facing, eyes in product(GARMENTS, POSES, FACINGS, EYES)
]


def paint(layers: list[Layer], width: int, height: int, ground: int = 150) -> NDArray[np.float32]:
    picture = np.full((height, width, 3), ground, dtype=np.float32)
    for layer in layers:
        picture += (np.asarray(layer.colour, dtype=np.float32) - picture) * layer.cover[:, :, None]
    return picture


def differing(one: NDArray[np.float32], other: NDArray[np.float32]) -> int:
    return int((np.abs(one - other).max(axis=2) > 40).sum())


def check(layers: list[Layer], width: int, height: int) -> None:
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names)
    for layer in layers:
        assert layer.cover.shape == (height, width)
        assert layer.cover.dtype == np.float32
        assert 0 <= layer.cover.min() <= layer.cover.max() <= 1
        assert layer.cover.max() > 0.5, layer.name
        rim = (layer.cover[0], layer.cover[-1], layer.cover[:, 0], layer.cover[:, -1])
        assert not any(edge.any() for edge in rim), layer.name


def tall(layers: list[Layer]) -> int:
    rows = np.flatnonzero(np.max([layer.cover for layer in layers], axis=0).max(axis=1) > 0.5)
    return int(rows[-1] - rows[0] + 1)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_figure_lies_inside_the_picture(width: int, height: int) -> None:
    for figure in FIGURES:
        layers = figure_layers(figure, width, height)
        check(layers, width, height)
        shown = {layer.name for layer in layers}
        assert {"head", "eyes"} <= shown or figure.facing == "back"
        assert {figure.garment, "hair", "left arm", "right arm", "legs", "shoes"} <= shown
        assert ("stool" in shown) == (figure.pose == "sit")


@pytest.mark.parametrize(("width", "height"), [*SIZES, (96, 128), (224, 128), (512, 512)])
def test_a_figure_is_nine_tenths_of_the_shorter_side(width: int, height: int) -> None:
    side = min(width, height)
    assert tall(figure_layers(Figure("red", "coat", "blue"), width, height)) == pytest.approx(
        0.905 * side, abs=2
    )
    assert tall(figure_layers(Figure("red", "coat", "blue", "sit"), width, height)) < 0.89 * side


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_garments_skeletons_and_goods_lie_inside_the_picture(width: int, height: int) -> None:
    for kind in GARMENTS:
        check(garment_layers(Garment(kind, "green"), width, height), width, height)
    for pose in POSES:
        check(skeleton_layers(Skeleton(pose), width, height), width, height)
    for kind in GOODS:
        layers = goods_layers(kind, width, height)
        check(layers, width, height)
        assert tall(layers) == pytest.approx(0.82 * min(width, height), abs=6)


@cache
def seen(figure: Figure) -> NDArray[np.float32]:
    return paint(figure_layers(figure, 128, 128), 128, 128)


def test_two_poses_facings_garments_or_hairs_differ_by_hundreds_of_pixels() -> None:
    faces = {(f.garment, f.pose, f.facing): seen(f) for f in FIGURES[::2]}
    for garment, facing in product(GARMENTS, FACINGS):
        for one, other in combinations(POSES, 2):
            assert differing(faces[garment, one, facing], faces[garment, other, facing]) > 700
    for garment, pose in product(GARMENTS, POSES):
        for one, other in combinations(FACINGS, 2):
            assert differing(faces[garment, pose, one], faces[garment, pose, other]) > 1200
    for pose, facing in product(POSES, FACINGS):
        for one, other in combinations(GARMENTS, 2):
            assert differing(faces[one, pose, facing], faces[other, pose, facing]) > 700
    hairs = [seen(Figure(hair, "dress", "red")) for hair in HAIR]
    assert all(differing(one, other) > 500 for one, other in combinations(hairs, 2))


def test_closed_eyes_are_seen_and_from_the_back_there_are_none() -> None:
    for garment, pose, facing in product(GARMENTS, POSES, FACINGS):
        look = [seen(Figure("brown", garment, "red", pose, facing, eyes)) for eyes in EYES]
        assert differing(*look) > {"front": 100, "back": -1}.get(facing, 50)
        assert facing != "back" or differing(*look) == 0


def test_left_is_right_in_the_mirror() -> None:
    left = paint(figure_layers(Figure("red", "dress", "blue", "wave", "left"), 129, 129), 129, 129)
    right = paint(figure_layers(Figure("red", "dress", "blue", "wave", "right"), 129, 129), 129, 129)
    assert np.allclose(left[:, ::-1], right, atol=0.5)


def test_the_colour_of_a_garment_is_seen_as_it_is() -> None:
    for kind, colour in [*product(GARMENTS, ["black"]), *product(["dress"], COLOURS)]:
        alone = paint(garment_layers(Garment(kind, colour), 128, 128), 128, 128)
        for picture in (alone, seen(Figure("red", kind, colour))):
            same = np.abs(picture - np.asarray(COLOURS[colour])).max(axis=2) < 2
            assert same.sum() > 800


def test_two_skeletons_differ_and_are_told_apart_from_each_other_by_their_limbs() -> None:
    drawn = [paint(skeleton_layers(Skeleton(pose), 128, 128), 128, 128, ground=0) for pose in POSES]
    assert all(differing(one, other) > 400 for one, other in combinations(drawn, 2))


def test_two_garments_and_the_two_goods_differ() -> None:
    clothes = [paint(garment_layers(Garment(kind, "red"), 128, 128), 128, 128) for kind in GARMENTS]
    assert all(differing(one, other) > 3500 for one, other in combinations(clothes, 2))
    assert differing(*(paint(goods_layers(kind, 128, 128), 128, 128) for kind in GOODS)) > 1500


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_print_has_room_on_the_goods(width: int, height: int) -> None:
    for kind in GOODS:
        x, y, radius = print_box(kind, width, height)
        down, across = np.mgrid[:height, :width] + 0.5
        (cloth,) = (layer for layer in goods_layers(kind, width, height) if layer.name == kind)
        assert cloth.cover[np.hypot(across - x, down - y) < 1.15 * radius].min() == 1
        assert radius == pytest.approx(0.17 * min(width, height))


def test_a_path_is_cut_at_a_part_of_its_length() -> None:
    first, rest = cut(((0, 0), (1, 0), (1, 1)), 0.75)
    assert first == [(0, 0), (1, 0), (1, 0.5)]
    assert rest == [(1, 0.5), (1, 1)]
    assert cut(((0, 0), (1, 0)), 1.0)[1] == [(1, 0), (1, 0)]


def test_distances_are_negative_inside_and_in_units_of_the_shorter_side() -> None:
    sheet = Sheet(201, 101)
    square = ((-0.2, -0.2), (0.2, -0.2), (0.2, 0.2), (-0.2, 0.2))
    for distance in (sheet.disc((0, 0), 0.2), sheet.box((0, 0), 0.2, 0.2), sheet.polygon(square)):
        assert distance[50, 100] == pytest.approx(-0.2, abs=1e-5)
        assert distance[50, 130] == pytest.approx(30 / 101 - 0.2, abs=1e-5)
