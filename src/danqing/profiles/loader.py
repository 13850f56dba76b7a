"""Reads a profile: which checkpoint and preset stands behind each API name. Data only; loads no weights.

A profile is a TOML file, one of the bundled ones by name or any other by path:

    text = "…"
    [checkpoints.NAME]      source, revision, licence, relation, text, inputs, language, rewriter,
                            [checkpoints.NAME.native],
                            [checkpoints.NAME.adapters.NAME]  source, file, revision, schedule
    [models."API NAME"]     checkpoint, steps, guidance, guidance_negative, adapter; "*" answers for all not listed
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

BUNDLED = "bundled:"
"""Sources with this prefix name a data folder of this package, such as `bundled:miniature`."""

_EVERY = "*"


class Relation(StrEnum):
    """How a checkpoint relates to the model whose API name it answers."""

    SAME = "same"
    NEAR = "near"
    STAND_IN = "stand-in"
    MINIATURE = "miniature"


class Rewriting(StrEnum):
    """What makes fuller prompts out of short ones for a checkpoint: its own text encoder, the table of the drawn world
    (for checkpoints that were taught that and nothing else), or nothing."""

    ENCODER = "encoder"
    GRAMMAR = "grammar"
    OFF = "off"


class Canvas(StrEnum):
    """How the drawn size follows the asked one: the nearest of a few trained sizes, or the next multiple
    above."""

    BUCKET = "bucket"
    FOLLOW = "follow"


class BadProfile(ValueError):
    """A profile that does not exist or does not make sense; a start must stop on it."""


@dataclass(frozen=True, slots=True)
class Native:
    """The sizes a checkpoint draws at. `buckets` are the (width, height) it was taught, `edit_buckets` those it was
    taught with input pictures (the same, if empty); sides of any drawn size are multiples of `multiple`. With
    `mixed_inputs` a bucketed checkpoint was taught inputs whose sizes differ from the drawn one. `input_area` is how
    many pixels are read of every input, where that does not follow the drawn size."""

    canvas: Canvas = Canvas.FOLLOW
    multiple: int = 32
    buckets: tuple[tuple[int, int], ...] = ()
    edit_buckets: tuple[tuple[int, int], ...] = ()
    mixed_inputs: bool = False
    input_area: int | None = None

    def __post_init__(self) -> None:
        if (self.canvas is Canvas.BUCKET) != bool(self.buckets):
            raise ValueError("buckets are listed for the bucket canvas, and for no other")
        for side in (side for bucket in (*self.buckets, *self.edit_buckets) for side in bucket):
            if side < 1 or side % self.multiple:
                raise ValueError(f"a side of {side} is not a multiple of {self.multiple}")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Small weights beside a checkpoint's (LoRA): a `file` of a folder, or of a hub id at a pinned `revision`.
    `schedule` replaces settings of the checkpoint's scheduler while it is worn."""

    name: str
    source: str
    file: str
    revision: str | None = None
    schedule: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def folder(self) -> Path | None:
        """See `Checkpoint.folder`."""
        return _local(self.source)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights: a diffusers folder, or a hub id that needs a pinned `revision`."""

    name: str
    source: str
    native: Native
    relation: Relation
    licence: str
    revision: str | None = None
    text: str = ""
    inputs: int = 10
    """The most input pictures it was taught to look at together."""
    language: bool = True
    """Whether its text encoder may be asked questions; false for one that was taught captions and nothing else."""
    rewriter: Rewriting = Rewriting.ENCODER
    adapters: Mapping[str, Adapter] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def folder(self) -> Path | None:
        """Where the weights lie on this machine; None for a hub id."""
        return _local(self.source)


@dataclass(frozen=True, slots=True)
class Preset:
    """How one API name is run. `guidance` above 1 doubles the cost of a step: it steers away from a neutral
    prompt; `guidance_negative` is used instead when a negative prompt is given. `adapter` names one of the
    checkpoint's."""

    checkpoint: str
    steps: int
    guidance: float = 1.0
    guidance_negative: float = 2.0
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A read profile. `models` may hold the name "*", which answers for every name not listed."""

    name: str
    text: str
    checkpoints: Mapping[str, Checkpoint]
    models: Mapping[str, Preset]

    def preset(self, model: str) -> Preset | None:
        """The preset for an API name; None if this profile does not serve it."""
        return self.models.get(model) or self.models.get(_EVERY)

    def checkpoint(self, model: str) -> Checkpoint | None:
        """The checkpoint behind an API name; None if this profile does not serve it."""
        preset = self.preset(model)
        return None if preset is None else self.checkpoints[preset.checkpoint]


def load_profile(name_or_path: str | Path) -> Profile:
    """The bundled profile of that name (hyphens read as underscores), or the file at that path.
    Raises BadProfile, with the reason in words, for anything that is not a sound profile."""
    path = _find(name_or_path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadProfile(f"cannot read the profile {path}: {error}") from error
    return _profile(path.stem.replace("_", "-"), raw)


def bundled() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    places = resources.files(__package__).iterdir()
    return tuple(
        sorted(p.name.removesuffix(".toml").replace("_", "-") for p in places if p.name.endswith(".toml"))
    )


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if text.endswith(".toml"):
        return Path(text).expanduser()
    if text not in bundled():
        raise BadProfile(f"there is no profile {text!r}; there are: {', '.join(bundled())}")
    return Path(str(resources.files(__package__).joinpath(f"{text.replace('-', '_')}.toml")))


def _profile(name: str, raw: dict[str, Any]) -> Profile:
    checkpoints = {key: _checkpoint(key, table) for key, table in _table(raw, "checkpoints").items()}
    models = {key: _preset(key, table) for key, table in _table(raw, "models").items()}
    for model, preset in models.items():
        if preset.checkpoint not in checkpoints:
            raise BadProfile(
                f"model {model!r} names the checkpoint {preset.checkpoint!r}, which is not declared"
            )
        if preset.adapter is not None and preset.adapter not in checkpoints[preset.checkpoint].adapters:
            raise BadProfile(
                f"model {model!r} names the adapter {preset.adapter!r}, which its checkpoint does not have"
            )
    unknown = set(raw) - {"text", "checkpoints", "models"}
    if unknown:
        raise BadProfile(f"unknown entries in the profile: {', '.join(sorted(unknown))}")
    return Profile(name, str(raw.get("text", "")), MappingProxyType(checkpoints), MappingProxyType(models))


def _local(source: str) -> Path | None:
    """Where a source lies on this machine; None for a hub id."""
    if source.startswith(BUNDLED):
        return Path(str(resources.files("danqing").joinpath(source.removeprefix(BUNDLED))))
    path = Path(source).expanduser()
    return path if path.is_absolute() or source.startswith((".", "~")) else None


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    table = raw.get(key)
    if not isinstance(table, dict) or not table:
        raise BadProfile(f"a profile needs at least one entry under [{key}]")
    return table


def _checkpoint(name: str, table: dict[str, Any]) -> Checkpoint:
    native = dict(table.get("native", {}))
    try:
        for key in {"buckets", "edit_buckets"} & native.keys():
            native[key] = tuple((int(width), int(height)) for width, height in native[key])
        native["canvas"] = Canvas(native.get("canvas", Canvas.FOLLOW))
        relation = Relation(table.get("relation", "missing"))
        rewriter = Rewriting(table.get("rewriter", Rewriting.ENCODER))
    except (ValueError, TypeError) as error:
        raise BadProfile(f"checkpoint {name!r}, native, relation or rewriter: {error}") from error
    adapters = {key: _adapter(key, entries) for key, entries in table.get("adapters", {}).items()}
    apart = {"native", "relation", "rewriter", "adapters"}
    rest = {key: value for key, value in table.items() if key not in apart}
    rest |= {"native": _make(Native, name, **native), "relation": relation, "rewriter": rewriter}
    rest["adapters"] = MappingProxyType(adapters)
    made = _make(Checkpoint, name, name=name, **rest)
    if made.folder is None and not made.revision:
        raise BadProfile(f"checkpoint {name!r}: a hub id needs a pinned revision")
    return made


def _adapter(name: str, table: dict[str, Any]) -> Adapter:
    schedule = {key: float(value) for key, value in table.get("schedule", {}).items()}
    made = _make(Adapter, name, **{**table, "name": name, "schedule": MappingProxyType(schedule)})
    if made.folder is None and not made.revision:
        raise BadProfile(f"adapter {name!r}: a hub id needs a pinned revision")
    return made


def _preset(model: str, table: dict[str, Any]) -> Preset:
    preset = _make(Preset, model, **table)
    # One step divides nought by nought in schedules that end at a set sigma.
    if preset.steps < 2:
        raise BadProfile(f"model {model!r}: at least 2 steps are needed, not {preset.steps}")
    return preset


Made = TypeVar("Made", Native, Adapter, Checkpoint, Preset)


def _make(kind: type[Made], owner: str, **values: Any) -> Made:
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise BadProfile(f"{owner!r} has unknown entries: {', '.join(sorted(unknown))}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise BadProfile(f"{owner!r}: {error}") from error
