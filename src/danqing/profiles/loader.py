"""Reads a profile: which checkpoint and preset stands behind each API name. Data only; loads no weights.

A profile is a TOML file, one of the bundled ones by name or any other by path:

    text = "…"
    [checkpoints.NAME]      source, revision, licence, accept, relation, text, inputs, language, rewriter,
                            [checkpoints.NAME.native], [checkpoints.NAME.loading],
                            [checkpoints.NAME.adapters.NAME]  source, file, revision, schedule
    [presets.NAME]          checkpoint, steps, guidance, guidance_negative, negative, adapter
    [models."API NAME"]     the same entries, or preset = "NAME"; beside them edits = "NAME", the preset of calls with
                            input pictures, and relation; "*" answers for all not listed
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from danqing.profiles.loading import Loading

BUNDLED = "bundled:"
"""Sources with this prefix name a data folder of this package, such as `bundled:miniature`."""

_EVERY = "*"
UNNAMED = "default"
"""What the preset of a profile is called that gives it no name."""
_ID = re.compile(r"(modelscope:)?[0-9A-Za-z][\w.-]*/[0-9A-Za-z][\w.-]*")


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
    """The sizes a checkpoint draws at. `buckets` are the (width, height) it was taught; sides of any drawn size are
    multiples of `multiple`. With `mixed_inputs` a bucketed checkpoint was taught inputs whose sizes differ from the
    drawn one. `input_area` is how many pixels are read of every input, where that does not follow the drawn size."""

    canvas: Canvas = Canvas.FOLLOW
    multiple: int = 32
    buckets: tuple[tuple[int, int], ...] = ()
    mixed_inputs: bool = False
    input_area: int | None = None

    def __post_init__(self) -> None:
        if (self.canvas is Canvas.BUCKET) != bool(self.buckets):
            raise ValueError("buckets are listed for the bucket canvas, and for no other")
        for side in (side for bucket in self.buckets for side in bucket):
            if side < 1 or side % self.multiple:
                raise ValueError(f"a side of {side} is not a multiple of {self.multiple}")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Small weights beside a checkpoint's (LoRA): a `file` of a folder or of a hub id; see `Checkpoint`.
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
    """Weights: a diffusers folder, or a hub id. Of a hub id what was pulled is loaded and nothing else; `revision` says
    which revision that must be."""

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
    accept: bool = False
    """Whether its licence must be accepted in the settings first."""
    loading: Loading = field(default_factory=Loading)

    @property
    def folder(self) -> Path | None:
        """Where the weights lie on this machine; None for a hub id."""
        return _local(self.source)


@dataclass(frozen=True, slots=True)
class Preset:
    """How one API name is run. `guidance` above 1 doubles the cost of a step: it steers away from `negative`, or from a
    neutral prompt where that is empty; `guidance_negative` is used instead when a negative prompt is given. `adapter`
    names one of the checkpoint's. `edits` is how calls with input pictures are run, where that is not the same;
    `relation` is that of this name, where it is not the checkpoint's. `name` is what the record of a job calls it."""

    checkpoint: str
    steps: int
    guidance: float = 1.0
    guidance_negative: float = 2.0
    adapter: str | None = None
    negative: str = ""
    edits: Preset | None = None
    relation: Relation | None = None
    name: str = UNNAMED


@dataclass(frozen=True, slots=True)
class Profile:
    """A read profile. `models` may hold the name "*", which answers for every name not listed."""

    name: str
    text: str
    checkpoints: Mapping[str, Checkpoint]
    models: Mapping[str, Preset]
    presets: Mapping[str, Preset] = field(default_factory=lambda: MappingProxyType({}))

    def with_presets(self, chosen: Mapping[str, Sequence[str]]) -> Profile:
        """The same with other presets behind some API names, or behind all that take them ("*"): each stands in for the
        one that runs the same checkpoint. Raises BadProfile."""
        models = dict(self.models)
        for model, names in chosen.items():
            unknown = [name for name in names if name not in self.presets]
            if unknown or (model not in models and model != _EVERY):
                what = f"preset {unknown[0]!r}" if unknown else f"model {model!r}"
                raise BadProfile(f"engine.presets: the profile {self.name} has no {what}")
            for target in models if model == _EVERY else [model]:
                for name in names:
                    models[target] = _swapped(models[target], self.presets[name])
            if model != _EVERY and models[model] == self.models[model]:
                raise BadProfile(
                    f"engine.presets: none of {', '.join(names)} runs what stands behind {model}"
                )
        return replace(self, models=MappingProxyType(models))

    def preset(self, model: str, *, editing: bool = False) -> Preset | None:
        """The preset for an API name, `editing` for calls with input pictures; None if this profile does not serve
        it."""
        preset = self.models.get(model) or self.models.get(_EVERY)
        return preset.edits if editing and preset is not None and preset.edits is not None else preset

    def checkpoint(self, model: str, *, editing: bool = False) -> Checkpoint | None:
        """The checkpoint behind an API name; None if this profile does not serve it."""
        preset = self.preset(model, editing=editing)
        return None if preset is None else self.checkpoints[preset.checkpoint]

    def relation(self, model: str) -> Relation | None:
        """How what stands behind an API name relates to it; None if this profile does not serve it."""
        preset, checkpoint = self.preset(model), self.checkpoint(model)
        return None if preset is None or checkpoint is None else preset.relation or checkpoint.relation

    def unaccepted(self, accepted: Collection[str]) -> tuple[str, ...]:
        """Licences that must be accepted first and are not among `accepted`."""
        wanted = {one.licence for one in self.checkpoints.values() if one.accept}
        return tuple(sorted(wanted - set(accepted)))


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
    presets = {key: _named(key, table) for key, table in raw.get("presets", {}).items()}
    models = {key: _model(key, table, presets) for key, table in _table(raw, "models").items()}
    for owner, preset in (*presets.items(), *models.items()):
        _belongs(owner, preset, checkpoints)
    unknown = set(raw) - {"text", "checkpoints", "presets", "models"}
    if unknown:
        raise BadProfile(f"unknown entries in the profile: {', '.join(sorted(unknown))}")
    text = str(raw.get("text", ""))
    return Profile(
        name, text, MappingProxyType(checkpoints), MappingProxyType(models), MappingProxyType(presets)
    )


def _swapped(preset: Preset, other: Preset) -> Preset:
    """A model's preset with another in the place of that, or of its edits', with the same checkpoint."""
    edits = preset.edits
    if edits is not None and edits.checkpoint == other.checkpoint:
        return replace(preset, edits=other)
    if preset.checkpoint == other.checkpoint:
        return replace(other, edits=edits, relation=preset.relation)
    return preset


def _belongs(owner: str, preset: Preset, checkpoints: dict[str, Checkpoint]) -> None:
    """Raises BadProfile if the preset names what is not there."""
    if preset.checkpoint not in checkpoints:
        raise BadProfile(f"{owner!r} names the checkpoint {preset.checkpoint!r}, which is not declared")
    if preset.adapter is not None and preset.adapter not in checkpoints[preset.checkpoint].adapters:
        raise BadProfile(
            f"{owner!r} names the adapter {preset.adapter!r}, which its checkpoint does not have"
        )


def _local(source: str) -> Path | None:
    """Where a source lies on this machine; None for a hub id."""
    if source.startswith(BUNDLED):
        return Path(str(resources.files("danqing").joinpath(source.removeprefix(BUNDLED))))
    path = Path(source).expanduser()
    return path if path.is_absolute() or source.startswith((".", "~")) else None


def _known(owner: str, source: str, revision: str | None) -> None:
    """Raises BadProfile for a source that is no folder and no hub id, and for a revision that is none: it becomes the
    name of a folder."""
    if _local(source) is None and not _ID.fullmatch(source):
        raise BadProfile(f"{owner!r}: {source!r} is no folder and no hub id")
    if revision is not None and not re.fullmatch(r"[0-9A-Za-z][\w.-]*", str(revision)):
        raise BadProfile(f"{owner!r}: {revision!r} is no revision")


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    table = raw.get(key)
    if not isinstance(table, dict) or not table:
        raise BadProfile(f"a profile needs at least one entry under [{key}]")
    return table


def _checkpoint(name: str, table: dict[str, Any]) -> Checkpoint:
    native = dict(table.get("native", {}))
    try:
        if "buckets" in native:
            native["buckets"] = tuple((int(width), int(height)) for width, height in native["buckets"])
        native["canvas"] = Canvas(native.get("canvas", Canvas.FOLLOW))
        relation = Relation(table.get("relation", "missing"))
        rewriter = Rewriting(table.get("rewriter", Rewriting.ENCODER))
    except (ValueError, TypeError) as error:
        raise BadProfile(f"checkpoint {name!r}, native, relation or rewriter: {error}") from error
    adapters = {key: _adapter(key, entries) for key, entries in table.get("adapters", {}).items()}
    loading = _make(Loading, f"{name}.loading", **table.get("loading", {}))
    apart = {"native", "relation", "rewriter", "adapters", "loading"}
    rest = {key: value for key, value in table.items() if key not in apart}
    rest |= {"native": _make(Native, name, **native), "relation": relation, "rewriter": rewriter}
    rest |= {"adapters": MappingProxyType(adapters), "loading": loading}
    made = _make(Checkpoint, name, name=name, **rest)
    _known(name, made.source, made.revision)
    return made


def _adapter(name: str, table: dict[str, Any]) -> Adapter:
    schedule = {key: float(value) for key, value in table.get("schedule", {}).items()}
    made = _make(Adapter, name, **{**table, "name": name, "schedule": MappingProxyType(schedule)})
    _known(name, made.source, made.revision)
    return made


def _named(name: str, table: dict[str, Any]) -> Preset:
    if set(table) & {"edits", "relation", "name"}:
        raise BadProfile(f"preset {name!r}: edits and relation belong to the models that use it")
    return replace(_preset(name, table), name=name)


def _model(model: str, table: dict[str, Any], presets: dict[str, Preset]) -> Preset:
    """The preset of an API name: its own entries, or one of `presets` with what the name adds."""
    entries = dict(table)
    try:
        relation = Relation(entries.pop("relation")) if "relation" in entries else None
    except ValueError as error:
        raise BadProfile(f"model {model!r}: {error}") from error
    edits = entries.pop("edits", None)
    named = entries.pop("preset", None)
    for name in (named, edits):
        if name is not None and name not in presets:
            raise BadProfile(f"model {model!r} names the preset {name!r}, which is not declared")
    if named is not None and entries:
        raise BadProfile(
            f"model {model!r} names a preset, so it has no {', '.join(sorted(entries))} of its own"
        )
    preset = _preset(model, entries) if named is None else presets[named]
    return replace(preset, relation=relation, edits=None if edits is None else presets[edits])


def _preset(model: str, table: dict[str, Any]) -> Preset:
    preset = _make(Preset, model, **table)
    # One step divides nought by nought in schedules that end at a set sigma.
    if preset.steps < 2:
        raise BadProfile(f"{model!r}: at least 2 steps are needed, not {preset.steps}")
    return preset


Made = TypeVar("Made", Native, Adapter, Checkpoint, Preset, Loading)


def _make(kind: type[Made], owner: str, **values: Any) -> Made:
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise BadProfile(f"{owner!r} has unknown entries: {', '.join(sorted(unknown))}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise BadProfile(f"{owner!r}: {error}") from error
