"""TOML files to `Model`s. A misspelt key stops the start, naming file and key.

A file has one `[family]` table, the values its models share, and a `[models.<name>]` table for each API name.
A model's value replaces the family's whole value of that key; a model with `alias_of` starts from the model it
names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from danqing.catalogue.reader import CatalogueError, Table
from danqing.core.models import (
    FunctionRule,
    InputRule,
    KnobRule,
    Model,
    ModeRule,
    Price,
    Rate,
    SizeRule,
    Standing,
)
from danqing.core.order import Knob
from danqing.core.raster import Size

MODES = ("sync", "async")
KINDS: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (float, int), "str": (str,)}
SHAPES = ("palette", "boxes")
"""Parameters that are lists: colours with their shares, and boxes in each input picture. They have no default."""
CHECKS = ("n", "size")

__all__ = ["CatalogueError", "counted", "load", "read"]


def load(*folders: Path) -> Mapping[str, Model]:
    """Every model of the shipped files and of the `*.toml` files in `folders`, by name.

    Raises CatalogueError for a file that is not TOML, an unknown or misspelt key, a value of the wrong type,
    and a name given twice.
    """
    models: dict[str, Model] = {}
    for label, text in _texts(folders):
        for name, model in read(text, label).items():
            if name in models:
                raise CatalogueError(label, f"models.{name}", "this name is already in another file")
            models[name] = model
    return MappingProxyType(models)


def counted(models: Mapping[str, Model], counts: Mapping[str, int]) -> Mapping[str, Model]:
    """The models, of which some make so many pictures where a call does not say how many.

    Raises CatalogueError for a name that is none, and a number that the model does not make."""
    changed = dict(models)
    for name, count in counts.items():
        if name not in models:
            raise CatalogueError("limits.counts", name, "there is no such model")
        low, high = models[name].count
        if not low <= count <= high:
            raise CatalogueError("limits.counts", name, f"it makes {low} to {high} pictures")
        changed[name] = replace(models[name], default_count=count)
    return MappingProxyType(changed)


def read(text: str, label: str) -> dict[str, Model]:
    """The models of one file; `label` names it in errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(label, "", f"not TOML: {error}") from error
    whole = Table(label, "", document)
    family, models = whole.raw("family"), whole.raw("models")
    whole.close()
    return {name: _model(name, _merged(name, family, models, label), label) for name in models}


def _texts(folders: Iterable[Path]) -> Iterable[tuple[str, str]]:
    shipped = [entry for entry in resources.files(__package__).iterdir() if entry.name.endswith(".toml")]
    for entry in sorted(shipped, key=lambda entry: entry.name):
        yield entry.name, entry.read_text("utf-8")
    for path in (path for folder in folders for path in sorted(folder.glob("*.toml"))):
        yield str(path), path.read_text("utf-8")


def _merged(name: str, family: dict[str, Any], models: dict[str, Any], label: str) -> dict[str, Any]:
    """The family's values, under the aliased model's, under the model's own."""
    own = Table(label, "models", models).raw(name)
    target = own.get("alias_of")
    if target is None:
        return family | own
    if target not in models or "alias_of" in models[target]:
        raise CatalogueError(label, f"models.{name}.alias_of", f"{target!r} is not a model of this file")
    return family | Table(label, "models", models).raw(target) | own


def _model(name: str, values: dict[str, Any], label: str) -> Model:
    table = Table(label, f"models.{name}", values)
    model = Model(
        name=name,
        family=table.text("key"),
        routes=_routes(table.table("routes")),
        images=table.bounds("images"),
        count=table.bounds("count"),
        default_count=table.whole("default_count", 1),
        prompt_chars=table.whole("prompt_chars", 800),
        negative_chars=table.number_of("negative_chars", 500),
        watermark=table.truth("watermark", True),
        checks=_checks(table),
        size=_size(table.table("size")),
        edit_size=_size(table.table("edit_size")) if table.has("edit_size") else None,
        inputs=_inputs(table.table("inputs", {})),
        knobs=_knobs(table.table("knobs", {})),
        modes=_modes(table.table("modes", {})),
        functions=_functions(table.table("functions", {})),
        refuses=MappingProxyType(table.texts("refuses")),
        price=_price(table.table("price", {})),
        free_quota=table.optional_whole("free_quota"),
        rate=_rate(table.table("rate")) if table.has("rate") else None,
        alias_of=table.text("alias_of", "") or None,
        labels=MappingProxyType(table.texts("labels")),
        texts=MappingProxyType(table.texts("texts")),
    )
    table.close()
    return model


def _checks(table: Table) -> tuple[str, ...]:
    checks = table.strings("checks", list(CHECKS))
    if sorted(checks) != sorted(CHECKS):
        raise table.error(
            "checks", f"expected {' and '.join(CHECKS)}, in the order in which they are looked at"
        )
    return tuple(checks)


def _routes(table: Table) -> Mapping[str, frozenset[str]]:
    routes = {}
    for route in table.names():
        modes = table.strings(route)
        if not modes or not set(modes) <= set(MODES):
            raise table.error(route, f"expected some of {', '.join(MODES)}")
        routes[route] = frozenset(modes)
    if not routes:
        raise table.error("", "a model is served somewhere")
    return MappingProxyType(routes)


def _size(table: Table) -> SizeRule:
    rule = SizeRule(
        settable=table.truth("settable", True),
        presets=tuple(Size(*pair) for pair in table.pairs("presets")),
        sides=table.bounds("sides") if table.has("sides") else None,
        area=table.bounds("area") if table.has("area") else None,
        ratio=table.span("ratio") if table.has("ratio") else None,
        multiple=table.whole("multiple", 1),
        default=Size(*table.pair("default")) if table.has("default") else None,
        default_area=table.optional_whole("default_area"),
        tokens=MappingProxyType(table.wholes("tokens")),
        keeps=table.truth("keeps", False),
        follow=table.truth("follow", False),
    )
    table.close()
    if rule.default is None and rule.default_area is None and not rule.follow:
        raise table.error("default", "a size rule names a default size or a default area")
    return rule


def _inputs(table: Table) -> InputRule:
    usual = InputRule()
    rule = InputRule(
        formats=frozenset(table.strings("formats")) if table.has("formats") else usual.formats,
        max_bytes=table.whole("max_bytes", usual.max_bytes),
        max_item=table.whole("max_item", usual.max_item),
        sides=table.bounds("sides") if table.has("sides") else None,
        ratio=table.span("ratio") if table.has("ratio") else None,
    )
    table.close()
    return rule


def _knobs(table: Table) -> Mapping[str, KnobRule]:
    return MappingProxyType({name: _knob(table.table(name)) for name in table.names()})


def _knob(table: Table) -> KnobRule:
    kind = table.text("type")
    rule = KnobRule(
        type=kind,
        default="" if kind in SHAPES else _default(table, kind),
        bounds=table.span("bounds") if table.has("bounds") else None,
        choices=tuple(table.strings("choices", [])),
        spelt=table.truth("spelt", False),
        text_only=tuple(table.strings("text_only", [])),
        not_with=tuple(table.strings("not_with", [])),
        standing=_standing(table, Standing.IDLE),
        note=table.text("note", ""),
    )
    table.close()
    return rule


def _default(table: Table, kind: str) -> Knob:
    if kind not in KINDS:
        raise table.error("type", f"expected one of {', '.join((*KINDS, *SHAPES))}")
    default: Knob = table.any("default")
    if not isinstance(default, KINDS[kind]) or (kind != "bool" and isinstance(default, bool)):
        raise table.error("default", f"expected a value of type {kind}")
    return default


def _standing(table: Table, usual: Standing) -> Standing:
    text = table.text("standing", usual.value)
    if text not in list(Standing):
        raise table.error("standing", f"expected one of {', '.join(Standing)}")
    return Standing(text)


def _modes(table: Table) -> Mapping[str, ModeRule]:
    return MappingProxyType({name: _mode(table.table(name)) for name in table.names()})


def _mode(table: Table) -> ModeRule:
    rule = ModeRule(
        images=table.bounds("images"),
        count=table.bounds("count"),
        default_count=table.whole("default_count"),
        size=_size(table.table("size")) if table.has("size") else None,
        most=table.text("most", "") or None,
        streamed=frozenset(table.strings("streamed", [])),
        standing=_standing(table, Standing.SAME),
        note=table.text("note", ""),
    )
    table.close()
    return rule


def _functions(table: Table) -> Mapping[str, FunctionRule]:
    return MappingProxyType({name: _function(table.table(name)) for name in table.names()})


def _function(table: Table) -> FunctionRule:
    rule = FunctionRule(
        mask=table.truth("mask", False),
        extends=table.truth("extends", False),
        enlarges=table.truth("enlarges", False),
        instruction=MappingProxyType(table.texts("instruction")),
        also=tuple(table.strings("also", [])),
        knobs=_knobs(table.table("knobs", {})),
        standing=_standing(table, Standing.SAME),
        note=table.text("note", ""),
    )
    table.close()
    return rule


def _price(table: Table) -> Price:
    price = Price(amount=table.number("amount", 0.0), currency=table.text("currency", "CNY"))
    table.close()
    return price


def _rate(table: Table) -> Rate:
    rate = Rate(limit=table.whole("limit"), seconds=table.number("seconds"))
    table.close()
    return rate
