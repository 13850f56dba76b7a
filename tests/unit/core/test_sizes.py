"""The arithmetic of sizes, against the observed vectors of the wire contract (section 2.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.core.models import SizeRule
from danqing.core.raster import Size
from danqing.core.sizes import SLIMMEST, Breach, check, fitted, resolve, rounded

EDIT = SizeRule(sides=(512, 2048), multiple=16, default_area=1024 * 1024)
FREE = SizeRule(
    area=(262_144, 4_194_304), ratio=(0.125, 8), default=Size(2048, 2048), default_area=1024 * 1024
)
PRESETS = SizeRule(presets=(Size(1664, 928), Size(928, 1664)), default=Size(1664, 928))


@pytest.mark.parametrize(
    ("area", "like", "made"),
    [
        (2048**2, (768, 1376), (1520, 2736)),
        (2048**2, (900, 506), (2720, 1520)),
        (1024**2, (1, 1), (1024, 1024)),
        (1024**2, (1600, 900), (1360, 768)),
    ],
)
def test_default_sizes_match_what_the_service_was_seen_to_make(
    area: int, like: tuple[int, int], made: tuple[int, int]
) -> None:
    assert fitted(area, Size(*like)) == Size(*made)


def test_explicit_sizes_go_to_the_nearest_multiple_halves_to_even() -> None:
    assert rounded(Size(1033, 1032), 16) == Size(1040, 1024)
    assert rounded(Size(1048, 1047), 16) == Size(1056, 1040)


def test_a_multiple_of_one_changes_nothing() -> None:
    assert rounded(Size(1033, 517), 1) == Size(1033, 517)


@pytest.mark.parametrize(
    ("size", "breach"),
    [
        ((511, 1024), Breach.SIDES),
        ((512, 2048), None),
        ((2048, 2049), Breach.SIDES),
        ((0, 1024), Breach.SIDES),
    ],
)
def test_sides_are_bounded_inclusively(size: tuple[int, int], breach: Breach | None) -> None:
    assert check(EDIT, Size(*size)) == breach


@pytest.mark.parametrize(
    ("size", "breach"),
    [
        ((512, 512), None),
        ((512, 511), Breach.AREA),
        ((2048, 2048), None),
        ((2049, 2048), Breach.AREA),
        ((0, 0), Breach.AREA),
        ((4096, 512), None),
        ((8000, 500), Breach.RATIO),
    ],
)
def test_area_and_ratio_are_bounded_inclusively(size: tuple[int, int], breach: Breach | None) -> None:
    assert check(FREE, Size(*size)) == breach


def test_presets_are_the_only_sizes_where_there_are_any() -> None:
    assert check(PRESETS, Size(928, 1664)) is None
    assert check(PRESETS, Size(1024, 1024)) is Breach.PRESET


def test_a_model_without_sizes_refuses_every_one() -> None:
    assert check(SizeRule(settable=False, default_area=1024**2), Size(1024, 1024)) is Breach.FIXED


def test_the_asked_size_wins_then_the_last_input_then_the_default() -> None:
    assert resolve(FREE, Size(1000, 600), Size(10, 10)) == Size(1000, 600)
    assert resolve(FREE, None, Size(300, 300)) == Size(1024, 1024)
    assert resolve(FREE, None, None) == Size(2048, 2048)
    assert resolve(EDIT, None, None) == Size(1024, 1024)


def test_a_rule_without_any_default_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="default"):
        resolve(SizeRule(), None, None)


@given(st.integers(1, 8000), st.integers(1, 8000))
def test_every_input_shape_gives_a_size_that_can_be_painted(width: int, height: int) -> None:
    made = fitted(1024 * 1024, Size(width, height))
    assert made.width % 16 == 0
    assert made.height % 16 == 0
    assert max(made.width, made.height) <= 1024 * SLIMMEST**0.5
    assert made.area <= 1024 * 1024
