"""What worker and server say to each other, as frozen dataclasses and as JSON. Pure: knows no socket and no store.

    claim   Claim → News      what I am, what room I have, what I hold   → leases, cancelled tokens
    beat    Beats → Gone      a Pulse for every lease I hold             → tokens that hold nothing any more, and
                                                                           those that somebody watches
    script  Script → Script   what I am going to make, one by one        → what the job's first attempt said of it
    end     End   → Ended     succeeded, failed or released              → done or stale

`input` and `image` carry packed rasters and have no message. `decode` is strict: an unknown or missing member, or a
value of another type, is a BadMessage that names the place (`leases[0].brief.size.width`).
"""

from __future__ import annotations

import base64
import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import orjson

from danqing.core.errors import Fault, restore
from danqing.core.job import Closing, Quality
from danqing.core.texts import sayable
from danqing.core.writing import Panel

MOST_ROOM = 16
LONGEST_POLL = 20.0
MOST_BEATS = 256
MOST_PICTURES = 64
MOST_PREVIEW = 10 * 1024
_MOST_BASE64 = -(-MOST_PREVIEW // 3) * 4
MOST_FIGURES = 256

T = TypeVar("T")


class BadMessage(Exception):
    """The other side sent something that is not the message expected here."""


class TokenGone(Exception):
    """The token holds no job: it was cancelled, lapsed or ended. Drop the work."""


class ImagesMissing(Exception):
    """A job cannot succeed before every picture of it is stored; the message names the missing indices."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker is. `worker` is its name, new at every start of the process; `models` are API names; `reach` is
    what it could ever make (`core.reach`), empty where it does not tell."""

    worker: str
    profile: str
    models: tuple[str, ...]
    device: str
    reach: Mapping[str, tuple[tuple[int, ...], ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(len(span) != 2 for spans in self.reach.values() for span in spans):
            raise ValueError("a reach is told in pairs")


@dataclass(frozen=True, slots=True)
class Claim:
    """One long poll: up to `room` more leases, within `seconds`. `holding` are the tokens the worker knows of, so
    that leases whose answer was lost go back to the queue at once."""

    hello: Hello
    room: int
    seconds: float
    holding: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.room <= MOST_ROOM:
            raise ValueError(f"room is between 0 and {MOST_ROOM}, not {self.room}")
        if not 0 <= self.seconds <= LONGEST_POLL:
            raise ValueError(f"seconds is between 0 and {LONGEST_POLL:g}, not {self.seconds:g}")


@dataclass(frozen=True, slots=True)
class Shown:
    """A preview of picture `index` after `step` of its `steps`: a JPEG file of at most 10 KB, in Base64. Looked at only
    so far that it is no larger and begins and ends like one: it is handed on and never decoded here."""

    index: int
    step: int
    steps: int
    jpeg: str

    def __post_init__(self) -> None:
        if not 0 <= self.index < MOST_PICTURES or not 1 <= self.step <= self.steps:
            raise ValueError(f"step {self.step} of {self.steps} of picture {self.index} has no preview")
        if len(self.jpeg) > _MOST_BASE64:
            raise ValueError(f"a preview of {len(self.jpeg)} characters")
        file = base64.b64decode(self.jpeg, validate=True)
        if len(file) > MOST_PREVIEW or file[:3] != b"\xff\xd8\xff" or file[-2:] != b"\xff\xd9":
            raise ValueError("a preview is a JPEG file of at most 10 KB")

    @staticmethod
    def of(index: int, step: int, steps: int, jpeg: bytes) -> Shown:
        """The preview, packed."""
        return Shown(index, step, steps, base64.b64encode(jpeg).decode())


@dataclass(frozen=True, slots=True)
class Pulse:
    """A sign of life for one lease: `step` of `steps` are done (0 of 0 before it started); `left` is the predicted
    rest in seconds. A `preview` is the newest, and sent once. No `unit` of its work should take more seconds than
    that; 0 where nobody can say."""

    token: str
    step: int
    steps: int
    left: float | None = None
    preview: Shown | None = None
    unit: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.step <= self.steps:
            raise ValueError(f"step {self.step} of {self.steps} is not possible")
        if not 0 <= self.unit < math.inf:
            raise ValueError(f"a unit of {self.unit} seconds is not possible")


@dataclass(frozen=True, slots=True)
class Beats:
    """Every lease that the worker holds. With it, now and then, all that its engine counts of itself, by name; empty
    means nothing new."""

    worker: str
    beats: tuple[Pulse, ...]
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.beats) > MOST_BEATS or len(self.figures) > MOST_FIGURES:
            raise ValueError(f"{len(self.beats)} beats and {len(self.figures)} figures at once")


@dataclass(frozen=True, slots=True)
class Gone:
    """Tokens that hold no job any more, and among the others those whose jobs somebody watches: they are worth
    previews."""

    gone: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """What a job whose pictures differ in their prompts consists of: a panel a picture, in order. The first script of
    a job holds for all its attempts: what a caller has been told stays so."""

    token: str
    panels: tuple[Panel, ...]

    def __post_init__(self) -> None:
        if not self.panels:
            raise ValueError("a script has at least one picture")


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RELEASED = "released"
    """Given back unfinished, and not counted as an attempt."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A fault on its way: the name of its class and its message."""

    name: str
    message: str

    @staticmethod
    def of(fault: Fault) -> Wrong:
        """The fault, packed."""
        return Wrong(type(fault).__name__, fault.message)

    def fault(self) -> Fault:
        """The fault, unpacked; an unknown name reads as Internal."""
        return restore(self.name, self.message)


@dataclass(frozen=True, slots=True)
class Lost:
    """A picture that a success does not bring: its place among those ordered, and why."""

    place: int
    fault: Wrong


@dataclass(frozen=True, slots=True)
class Text:
    """A text that stands before the picture of that place; after the last, where there is none."""

    place: int
    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The end of an attempt. `fault` goes with `failed` only; `lost`, `made`, `prompt` and `texts` with `succeeded`
    only. `made` is the number of places where that is smaller than ordered (an order may be an upper bound), `prompt`
    what was drawn instead of the caller's, `texts` stand between the pictures. `seconds` of engine time were spent;
    `wall` seconds passed between the claim and the last stored picture. `quality` is how a success was made."""

    token: str
    outcome: Outcome
    fault: Wrong | None = None
    seconds: float = 0.0
    wall: float = 0.0
    lost: tuple[Lost, ...] = ()
    made: int | None = None
    prompt: str | None = None
    texts: tuple[Text, ...] = ()
    quality: Quality | None = None

    def __post_init__(self) -> None:
        if (self.fault is not None) != (self.outcome is Outcome.FAILED):
            raise ValueError("a fault goes with a failed outcome, and only with that")
        if self.outcome is not Outcome.SUCCEEDED and (self.lost or self.made is not None or self.texts):
            raise ValueError("what was made goes with a succeeded outcome, and only with that")


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of the end."""

    closing: Closing


def _plain(value: object) -> object:
    """What orjson does not know by itself: read-only mappings."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def encode(message: object) -> bytes:
    """A message (or any JSON value) as UTF-8 JSON. Half a surrogate pair in a text, which callers can send and UTF-8
    cannot say, becomes U+FFFD."""
    try:
        return orjson.dumps(message, default=_plain)
    except orjson.JSONEncodeError:
        return orjson.dumps(_mended(message))


def _mended(value: Any) -> Any:
    """The value in plain dicts and lists, every text sayable in UTF-8."""
    if isinstance(value, str):
        return sayable(value)
    if dataclasses.is_dataclass(value):
        return {field.name: _mended(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _mended(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_mended(inner) for inner in value]
    return value


def decode(kind: type[T], body: bytes) -> T:
    """The message of that kind in `body`; raises BadMessage, which says where it is wrong."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise BadMessage(f"not JSON: {fault}") from fault
    return typing.cast(T, _read(kind, value, kind.__name__))


def _read(kind: Any, value: Any, at: str) -> Any:
    """`value` as `kind`, a type as it is written in an annotation of a message."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_one_of(typing.get_args(kind), value, at)
    if origin is tuple:
        items = _expect(list, value, at)
        return tuple(_read(typing.get_args(kind)[0], item, f"{at}[{i}]") for i, item in enumerate(items))
    if origin is not None and issubclass(origin, Mapping):
        members = _expect(dict, value, at)
        kinds = typing.get_args(kind)[1]
        return types.MappingProxyType({k: _read(kinds, v, f"{at}.{k}") for k, v in members.items()})
    if dataclasses.is_dataclass(kind):
        return _read_members(kind, _expect(dict, value, at), at)
    if issubclass(kind, StrEnum):
        return _made(kind, (_expect(str, value, at),), {}, at=at)
    if kind is float and type(value) is int:
        return float(value)
    return _expect(kind, value, at)


def _expect(kind: type, value: Any, at: str) -> Any:
    """`value` if it is exactly of that type: True is no number, "1" neither."""
    if type(value) is not kind:
        raise BadMessage(f"{at}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _read_one_of(kinds: tuple[Any, ...], value: Any, at: str) -> Any:
    """The first of the types that fits."""
    for kind in kinds:
        try:
            return _read(kind, value, at)
        except BadMessage as fault:
            last = fault
    raise last


def _read_members(kind: Any, members: Mapping[str, Any], at: str) -> Any:
    """A dataclass from its members, no fewer (but for defaults) and no more."""
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(members) - set(known)):
        raise BadMessage(f"{at}: unknown member {unknown[0]!r}")
    for name, field in known.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in members:
            raise BadMessage(f"{at}: {name!r} is missing")
    values = {name: _read(hints[name], value, f"{at}.{name}") for name, value in members.items()}
    return _made(kind, (), values, at=at)


def _made(kind: Any, args: tuple[Any, ...], values: Mapping[str, Any], *, at: str) -> Any:
    """The object; a refusal of its own becomes ours."""
    try:
        return kind(*args, **values)
    except ValueError as fault:
        raise BadMessage(f"{at}: {fault}") from fault
