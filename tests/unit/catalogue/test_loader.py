"""The shipped catalogue, and what a bad file says before the start is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.catalogue.loader import CatalogueError, counted, load, read
from danqing.core.raster import Size
from danqing.judge.words import PHRASES
from danqing.wire.dashscope.refusals import TEXTS

SMALL = """
[family]
key = "QE"
routes = { "dashscope/multimodal-generation" = ["sync"] }
images = [1, 3]
count = [1, 6]
size = { default_area = 1048576 }
[models.one]
"""

NAMES = {
    *("qwen-image-edit-max", "qwen-image-edit-max-2026-01-16", "qwen-image-edit"),
    *("qwen-image-edit-plus", "qwen-image-edit-plus-2025-12-15", "qwen-image-edit-plus-2025-10-30"),
    *("qwen-image-2.0-pro", "qwen-image-2.0-pro-2026-03-03", "qwen-image-2.0-pro-2026-04-22"),
    *("qwen-image-2.0-pro-2026-06-22", "qwen-image-2.0", "qwen-image-2.0-2026-03-03"),
    *(
        "qwen-image-max",
        "qwen-image-max-2025-12-30",
        "qwen-image-plus",
        "qwen-image-plus-2026-01-09",
        "qwen-image",
    ),
    *("qwen-image-3.0-pro", "qwen-image-3.0", "qwen-image-2.1-pro", "qwen-image-2.1-turbo"),
    *("wan2.7-image-pro", "wan2.7-image", "wan2.6-image", "wan2.6-t2i"),
    *("wan2.5-t2i-preview", "wan2.2-t2i-plus", "wan2.2-t2i-flash", "wanx2.1-t2i-plus", "wanx2.1-t2i-turbo"),
    *("wan2.1-t2i-plus", "wan2.1-t2i-turbo", "wanx2.0-t2i-turbo", "wanx-v1"),
    *("wan2.5-i2i-preview", "wanx2.1-imageedit", "z-image-turbo"),
}
ABSENT = ("qwen-mt-image", "wanx-sketch-to-image-lite", "wanx-x-painting", "wanx-style-repaint-v1")


def test_every_shipped_name_is_there() -> None:
    assert set(load()) == NAMES
    assert not NAMES & set(ABSENT)


def test_every_text_of_every_model_can_be_said() -> None:
    numbers = dict.fromkeys(("low", "high", "low_side", "high_side", "pixels", "given"), 7)
    words = dict.fromkeys(("name", "size", "most", "mode", "presets", "between"), "x")
    known = {*TEXTS, *(name for model in load().values() for name in model.knobs)}
    for model in load().values():
        assert set(model.texts) <= known
        for text in (*model.texts.values(), *TEXTS.values()):
            assert "{" not in text.format(**numbers, **words)


def test_an_alias_has_all_the_values_of_its_model() -> None:
    models = load()
    for model in models.values():
        if model.alias_of is None:
            continue
        target = models[model.alias_of]
        assert (model.size, model.count, model.price, model.rate) == (
            *(target.size, target.count),
            *(target.price, target.rate),
        )


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("qwen-image-edit-max", 0.5),
        ("qwen-image-edit-plus", 0.2),
        ("qwen-image-edit", 0.3),
        ("qwen-image", 0.25),
    ],
)
def test_prices_are_those_of_the_contract(name: str, price: float) -> None:
    assert load()[name].price.amount == price


def test_a_model_overrides_whole_values_of_its_family() -> None:
    edit = load()["qwen-image-edit"]
    assert edit.count == (1, 1)
    assert not edit.size.settable
    assert dict(edit.knobs) == {}


def test_free_sizes_of_max_hold_every_preset_of_its_siblings() -> None:
    models = load()
    low, high = models["qwen-image-max"].size.sides or (0, 0)
    assert all(
        low <= min(p.width, p.height) and max(p.width, p.height) <= high
        for p in models["qwen-image"].size.presets
    )
    assert models["qwen-image-max"].size.default == Size(1664, 928)


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (SMALL + "prompt_char = 800\n", "models.one.prompt_char", "unknown key"),
        (SMALL + "count = [3, 1]\n", "models.one.count", "lower bound first"),
        (SMALL + "count = [true, 2]\n", "models.one.count", "two whole numbers"),
        (SMALL + "prompt_chars = '800'\n", "models.one.prompt_chars", "whole number"),
        (SMALL + "size = {}\n", "models.one.size.default", "default size or a default area"),
        (SMALL + "size = { default_area = 9, sides = 5 }\n", "models.one.size.sides", "two whole numbers"),
        (SMALL + "routes = {}\n", "models.one.routes", "served somewhere"),
        (SMALL + "routes = { x = ['maybe'] }\n", "models.one.routes.x", "sync, async"),
        (SMALL + "alias_of = 'two'\n", "models.one.alias_of", "not a model of this file"),
        (SMALL + "[models.one.knobs.k]\ntype = 'colour'\ndefault = 1\n", "models.one.knobs.k.type", "one of"),
        (
            SMALL + "[models.one.knobs.k]\ntype = 'int'\ndefault = true\n",
            "models.one.knobs.k.default",
            "of type int",
        ),
        (SMALL + "rate = { limit = 2 }\n", "models.one.rate.seconds", "missing"),
        (SMALL + "labels = { a = 1 }\n", "models.one.labels", "table of strings"),
        (SMALL.replace('key = "QE"\n', ""), "models.one.key", "missing"),
        (SMALL + "[extra]\n", "extra", "unknown key"),
        ("[family]\n", "models", "missing"),
    ],
)
def test_a_bad_file_is_refused_by_file_and_key(text: str, key: str, problem: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        read(text, "bad.toml")
    assert (caught.value.file, caught.value.key) == ("bad.toml", key)
    assert problem in str(caught.value)


def test_a_file_that_is_no_toml_is_refused_by_name() -> None:
    with pytest.raises(CatalogueError, match=r"bad\.toml: not TOML"):
        read("[", "bad.toml")


def test_an_operator_can_add_a_model_by_adding_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL.replace("models.one", "models.mine"))
    assert load(tmp_path)["mine"].images == (1, 3)


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL.replace("models.one", "models.qwen-image"))
    with pytest.raises(CatalogueError, match="already in another file"):
        load(tmp_path)


def test_how_many_pictures_a_model_makes_unasked_is_the_installations_to_say() -> None:
    models = counted(load(), {"wan2.7-image": 1})
    assert models["wan2.7-image"].default_count == 1
    assert models["wan2.7-image-pro"].default_count == load()["wan2.7-image-pro"].default_count == 4


@pytest.mark.parametrize(("name", "count"), [("wan2.7-image", 5), ("wan2.7-image", 0), ("wan-none", 1)])
def test_a_number_that_a_model_does_not_make_stops_the_start(name: str, count: int) -> None:
    with pytest.raises(CatalogueError, match=name):
        counted(load(), {name: count})


@pytest.mark.parametrize(
    ("function", "task"),
    [("colorization", "colourise"), ("doodle", "sketch"), ("super_resolution", "enhance")],
)
def test_functions_speak_to_the_miniature_in_sentences_it_was_taught(function: str, task: str) -> None:
    said = load()["wanx2.1-imageedit"].functions[function].instruction
    for language in ("en", "zh"):
        assert any(phrase.startswith(said[language].strip()) for phrase in PHRASES[task][language])
