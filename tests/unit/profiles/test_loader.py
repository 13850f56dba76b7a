"""Profiles: the bundled ones load, and a bad one says what is wrong with it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from danqing.catalogue.loader import load as load_catalogue
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
        (('revision = "0123abc"', 'revision = "../out"'), "no revision"),
        (('source = "Owner/name"', 'source = "Owner/../name"'), "no hub id"),
        (('source = "Owner/name"', 'source = "weights"'), "no folder and no hub id"),
        (
            ("[models.precise]", '[checkpoints.one.loading]\noffload = "disk"\n[models.precise]'),
            "offload is none",
        ),
        (
            ("[models.precise]", '[checkpoints.one.loading]\ndtype = "int4"\n[models.precise]'),
            "dtype is auto",
        ),
        (("[models.precise]", "[checkpoints.one.loading]\nfp8 = true\n[models.precise]"), "fp8"),
        (
            ("[models.precise]", "[checkpoints.one.loading]\nlayerwise_fp8 = 1\n[models.precise]"),
            "layerwise_fp8",
        ),
        (
            ("[models.precise]", '[checkpoints.one.loading]\nattention = "A B"\n[models.precise]'),
            "attention is",
        ),
        (
            ("[models.precise]", '[checkpoints.one.loading]\ncompile = "all"\n[models.precise]'),
            "compile is off",
        ),
        (('checkpoint = "one"\nsteps = 8', 'preset = "fast"'), "preset 'fast', which is not declared"),
        (("steps = 8", 'steps = 8\nedits = "fast"'), "preset 'fast', which is not declared"),
        (("steps = 8", 'steps = 8\nrelation = "twin"'), "twin"),
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


PRESETS = """
[checkpoints.paint]
source = "/weights/paint"
relation = "near"
licence = "A"
[checkpoints.edit]
source = "Owner/edit"
relation = "near"
licence = "B"
accept = true
[presets.paint]
checkpoint = "paint"
steps = 50
negative = "blurred"
[presets.quick]
checkpoint = "paint"
steps = 4
[presets.edit]
checkpoint = "edit"
steps = 40
[models.both]
preset = "paint"
edits = "edit"
relation = "stand-in"
[models.alter]
preset = "edit"
"""


def test_calls_with_pictures_may_have_a_checkpoint_of_their_own(write: Path) -> None:
    write.write_text(PRESETS)
    profile = load_profile(write)
    drawn, edited = profile.preset("both"), profile.preset("both", editing=True)
    assert drawn is not None
    assert edited is not None
    assert (drawn.checkpoint, drawn.steps, drawn.negative) == ("paint", 50, "blurred")
    assert (edited.checkpoint, edited.steps) == ("edit", 40)
    assert (profile.relation("both"), profile.relation("alter")) == (Relation.STAND_IN, Relation.NEAR)
    alone = profile.checkpoint("alter")
    assert alone is profile.checkpoint("alter", editing=True)
    assert profile.unaccepted(()) == ("B",)
    assert profile.unaccepted(("B",)) == ()


def test_the_operator_chooses_other_presets(write: Path) -> None:
    write.write_text(PRESETS)
    profile = load_profile(write).with_presets({"both": ["quick"]})
    drawn, edited = profile.preset("both"), profile.preset("both", editing=True)
    assert drawn is not None
    assert edited is not None
    assert (drawn.steps, edited.steps) == (4, 40)
    assert (drawn.name, edited.name) == ("quick", "edit")
    assert profile.relation("both") is Relation.STAND_IN
    everywhere = load_profile(write).with_presets({"*": ["quick"]}).models
    assert [everywhere[name].steps for name in ("both", "alter")] == [4, 40]


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"both": ["slow"]}, "slow"),
        ({"neither": ["quick"]}, "neither"),
        ({"alter": ["quick"]}, "stands behind alter"),
    ],
)
def test_a_choice_of_presets_that_cannot_be_is_refused(
    write: Path, chosen: dict[str, list[str]], why: str
) -> None:
    write.write_text(PRESETS)
    with pytest.raises(BadProfile, match=why):
        load_profile(write).with_presets(chosen)


@pytest.mark.parametrize("line", ['edits = "paint"', 'relation = "near"'])
def test_what_belongs_to_a_model_is_no_entry_of_a_preset(write: Path, line: str) -> None:
    write.write_text(PRESETS.replace("[presets.quick]", f"[presets.quick]\n{line}"))
    with pytest.raises(BadProfile, match="belong to the models"):
        load_profile(write)


def test_qwen_apache_answers_for_every_api_name_and_for_nothing_else() -> None:
    profile, models = load_profile("qwen-apache"), load_catalogue()
    assert set(profile.models) == set(models)
    for model in models.values():
        drawn, edited = profile.preset(model.name), profile.preset(model.name, editing=True)
        assert drawn is not None
        assert edited is not None
        if model.images[0] == 0:
            assert drawn.checkpoint == "image-2512", model.name
        if model.images[1] > 0:
            assert edited.checkpoint == "edit-2511", model.name
        few = any(word in model.name for word in ("turbo", "flash"))
        assert (drawn.steps <= 8) == few, model.name
        wan = model.name.startswith("wan")
        assert not wan or profile.relation(model.name) is Relation.STAND_IN
        assert profile.relation(model.name) is not Relation.SAME
    assert {one.licence for one in profile.checkpoints.values()} == {"Apache-2.0"}


def test_few_steps_of_qwen_apache_are_unguided_and_have_a_schedule_of_their_own() -> None:
    profile = load_profile("qwen-apache")
    for name, preset in profile.presets.items():
        few = preset.adapter is not None
        assert few == (preset.steps < 10), name
        assert ((preset.guidance, preset.guidance_negative) == (1.0, 1.0)) == few, name
    for checkpoint in profile.checkpoints.values():
        for steps, adapter in (("4", checkpoint.adapters["four"]), ("8", checkpoint.adapters["eight"])):
            assert f"-{steps}steps-" in adapter.file
            assert adapter.schedule == {
                "base_shift": math.log(3),
                "max_shift": math.log(3),
                "shift_terminal": 0.0,
            }
