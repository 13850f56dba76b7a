"""Profiles: the bundled ones load, and a bad one says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.profiles.loader import BadProfile, Canvas, Relation, Rewriting, bundled, load_profile

GOOD = """
text = "Two."
[checkpoints.one]
source = "/weights/one"
relation = "near"
licence = "Apache-2.0"
[checkpoints.two]
source = "Owner/name"
revision = "0123abc"
relation = "stand-in"
licence = "Apache-2.0"
[models.precise]
checkpoint = "two"
steps = 40
guidance = 4.0
[models."*"]
checkpoint = "one"
steps = 8
"""


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_profile_loads(name: str) -> None:
    assert load_profile(name).name == name


def test_the_miniature_answers_for_every_name_with_the_bundled_checkpoint() -> None:
    profile = load_profile("miniature")
    preset, checkpoint = profile.preset("qwen-image-2.0-pro"), profile.checkpoint("qwen-image-2.0-pro")
    assert preset is not None
    assert preset.steps >= 2
    assert checkpoint is not None
    assert checkpoint.relation is Relation.MINIATURE
    assert checkpoint.native.canvas is Canvas.BUCKET
    assert checkpoint.folder is not None
    assert checkpoint.folder.parts[-2:] == ("danqing", "miniature")


def test_a_listed_name_goes_before_the_rest(write: Path) -> None:
    write.write_text(GOOD)
    profile = load_profile(write)
    assert profile.name == "mine"
    precise, other = profile.preset("precise"), profile.preset("anything")
    assert precise is not None
    assert (precise.checkpoint, precise.steps, precise.guidance) == ("two", 40, 4.0)
    assert other is not None
    assert other.checkpoint == "one"


def test_without_a_rest_entry_unlisted_names_are_not_served(write: Path) -> None:
    write.write_text(GOOD.replace('"*"', "fast"))
    profile = load_profile(str(write))
    assert profile.preset("anything") is None
    assert profile.checkpoint("anything") is None


def test_a_hub_id_has_no_folder_and_a_path_has_one(write: Path) -> None:
    write.write_text(GOOD)
    profile = load_profile(write)
    assert profile.checkpoints["two"].folder is None
    assert profile.checkpoints["one"].folder == Path("/weights/one")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (('revision = "0123abc"', ""), "pinned revision"),
        (('checkpoint = "two"', 'checkpoint = "three"'), "not declared"),
        (("steps = 8", "steps = 1"), "at least 2 steps"),
        (("steps = 8", "stepz = 8"), "stepz"),
        (('relation = "near"', 'relation = "twin"'), "twin"),
        (('relation = "near"', ""), "relation"),
        (('relation = "near"', 'relation = "near"\nrewriter = "magic"'), "magic"),
        (('licence = "Apache-2.0"\n[checkpoints.two]', "[checkpoints.two]"), "licence"),
        (('text = "Two."', 'txet = "Two."'), "txet"),
        (('text = "Two."', "text = "), "cannot read"),
        (("[models.precise]", '[checkpoints.one.native]\ncanvas = "bucket"\n[models.precise]'), "buckets"),
        (("[models.precise]", "[checkpoints.one.native]\nbuckets = 3\n[models.precise]"), "one"),
        (
            (
                "[models.precise]",
                '[checkpoints.one.native]\ncanvas = "bucket"\nbuckets = [[33, 64]]\n[models.precise]',
            ),
            "33",
        ),
    ],
)
def test_a_bad_profile_stops_the_start_and_says_why(write: Path, change: tuple[str, str], why: str) -> None:
    assert change[0] in GOOD
    write.write_text(GOOD.replace(*change, 1))
    with pytest.raises(BadProfile, match=why):
        load_profile(write)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadProfile, match="miniature"):
        load_profile("no-such")


def test_a_profile_without_checkpoints_or_models_is_refused(write: Path) -> None:
    write.write_text('text = "nothing"')
    with pytest.raises(BadProfile, match="checkpoints"):
        load_profile(write)


def test_an_encoder_rewrites_unless_the_profile_says_otherwise(write: Path) -> None:
    text = GOOD.replace('relation = "near"', 'relation = "near"\nrewriter = "off"\nlanguage = false', 1)
    write.write_text(text)
    checkpoints = load_profile(write).checkpoints.values()
    assert {one.rewriter for one in checkpoints} == {Rewriting.OFF, Rewriting.ENCODER}
    assert {one.language for one in checkpoints} == {False, True}
    miniature = load_profile("miniature").checkpoints["miniature"]
    assert (miniature.rewriter, miniature.language) == (Rewriting.GRAMMAR, False)
