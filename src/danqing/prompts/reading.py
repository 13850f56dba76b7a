"""Reads free requests about the drawn world: which of its nouns are named, and what is to happen to them.

The words are the judge's own and those of `grammar.toml`. What a request means is found from the nouns, their order and
a few cue words, not from a grammar of the language: people order words as they like. Refuses to know how an answer is
phrased.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from danqing.judge import words
from danqing.judge.world import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, STYLES

TABLE = "grammar.toml"
NOUNS: Mapping[str, frozenset[str]] = {
    "colour": frozenset(COLOURS),
    "shape": frozenset(SHAPES),
    "size": frozenset(SIZES),
    "place": frozenset(PLACES),
    "background": frozenset(BACKGROUNDS),
    "style": frozenset(STYLES),
}
CUES = frozenset(("delete", "add", "move", "replace", "recolour", "background")) | frozenset(
    ("restore", "enhance", "reverse", "image_2", "image_3")
)
MARKS = frozenset(("definite", "indefinite", "negation"))
PLAIN = frozenset(("white", "grey", "cream"))
"""Backgrounds that are nothing but a colour, which no thing has."""

_HAN = re.compile(r"[\u3400-\u9fff]")
_NEAR_EN = re.compile(r"\s*(?:[a-z']+\s+){0,2}")
"""What may stand between an adjective and its noun: a blank, or one or two words that mean nothing here."""
_NEAR_ZH = re.compile(r"[^,.;:!?，。；：、]{0,3}")
_OF_A_BACKGROUND = re.compile(r"\s*(?:的|[^\s,.;]\s*[^\s,.;]?的)?")
_CORNER = re.compile(r"[^,.;:!?，。；：]{0,16}")


class BadTable(ValueError):
    """The table names something that is not of the world."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A noun, cue or mark, and where it stands in the normalised text."""

    kind: str
    value: str
    start: int
    end: int


@dataclass(slots=True)
class Named:
    """One thing that is named: a shape with what is said of it."""

    shape: str
    start: int
    end: int
    colour: str | None = None
    size: str = "medium"
    place: str | None = None
    definite: bool = False
    indefinite: bool = False
    negated: bool = False


@dataclass(slots=True)
class Reading:
    """What a request names. `colours` and `places` belong to no thing by their position; `cues` are what is to
    happen, `tradition` whether it is written in Traditional characters."""

    text: str
    language: str
    things: list[Named] = field(default_factory=list)
    colours: list[Mention] = field(default_factory=list)
    places: list[Mention] = field(default_factory=list)
    backgrounds: list[Mention] = field(default_factory=list)
    styles: list[Mention] = field(default_factory=list)
    cues: dict[str, list[int]] = field(default_factory=dict)

    def has(self, *cues: str) -> bool:
        """Whether any of the cues is there."""
        return any(cue in self.cues for cue in cues)


class Lexicon:
    """Every word of the table and of the judge, ready to be looked for in one pass."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        """Raises BadTable."""
        script = table["script"]
        self._script = str.maketrans(script["traditional"], script["simplified"])
        self._meanings: dict[str, list[tuple[str, str]]] = {}
        for language in ("en", "zh"):
            for word, kind, value in (*_own(language), *_listed(table[language])):
                self._meanings.setdefault(word, []).append((kind, value))
        longest_first = sorted(self._meanings, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(_bounded(word) for word in longest_first))

    def plain(self, text: str) -> str:
        """The text as words are looked for in it: one width, one case, one script, a hyphen as a blank."""
        text = unicodedata.normalize("NFKC", text).casefold()
        shown = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
        return " ".join(words.simplified(shown).translate(self._script).replace("-", " ").split())

    def mentions(self, text: str) -> Iterator[Mention]:
        """All words of a plain text that mean something, in order."""
        for match in self._pattern.finditer(text):
            word = match.group().removesuffix("'s")
            for kind, value in self._meanings.get(word) or self._meanings[word.removesuffix("s")]:
                if kind != "nothing":
                    yield Mention(kind, value, match.start(), match.end())

    def read(self, prompt: str) -> Reading:
        """What the prompt names."""
        text = self.plain(prompt)
        reading = Reading(text, language_of(prompt, text))
        mentions = _settled(text, list(self.mentions(text)))
        for mention in mentions:
            if mention.kind == "cue":
                reading.cues.setdefault(mention.value, []).append(mention.start)
        reading.things = [
            _named(text, mentions, place) for place, mention in enumerate(mentions) if mention.kind == "shape"
        ]
        spoken_for = [(thing.start, thing.end) for thing in reading.things]
        for kind, into in (
            ("colour", reading.colours),
            ("place", reading.places),
            ("background", reading.backgrounds),
            ("style", reading.styles),
        ):
            into += [
                mention
                for mention in mentions
                if mention.kind == kind and not any(start <= mention.start < end for start, end in spoken_for)
            ]
        return reading


def load_table() -> dict[str, Any]:
    """The shipped table."""
    return tomllib.loads(resources.files(__package__).joinpath(TABLE).read_text("utf-8"))


def language_of(prompt: str, plain: str) -> str:
    """One of the judge's languages: Chinese where there is any of it, and Traditional where that differs from
    Simplified."""
    if not _HAN.search(plain):
        return "en"
    before, after = (_HAN.findall(text.casefold()) for text in (prompt, plain))
    return "zh-Hant" if before != after else "zh"


def _own(language: str) -> Iterator[tuple[str, str, str]]:
    """The judge's words for the nouns."""
    spoken: Mapping[str, Mapping[str, Iterable[words.Said]]] = {
        "colour": {key: [said] for key, said in words.COLOUR.items()},
        "shape": {key: [said] for key, said in words.SHAPE.items()},
        "size": {key: [said] for key, said in words.SIZE.items()},
        "background": {key: [said] for key, said in words.BACKGROUND.items()},
        "place": {key: [said.on, said.to] for key, said in words.PLACE.items()},
    }
    for kind, by_key in spoken.items():
        for key, all_said in by_key.items():
            for said in all_said:
                word = said.within(language).casefold().removesuffix("的")
                for one in {word, re.sub("^(a|an) ", "", word)} - {""}:
                    yield one, kind, key


def _listed(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The words of one language of the table."""
    for kind, known in {**NOUNS, "cue": CUES, "mark": MARKS}.items():
        for key, listed in table[kind].items():
            if key not in known:
                raise BadTable(f"there is no {kind} {key!r}")
            for word in listed:
                yield word, kind, key
                if kind == "colour" and _HAN.match(word) and not word.endswith("色"):
                    yield word + "色", kind, key
    for word in table["nothing"]["words"]:
        yield word, "nothing", ""


def _bounded(word: str) -> str:
    """A word in letters stands by itself, maybe in the plural; one in characters stands anywhere."""
    if _HAN.search(word):
        return re.escape(word)
    return rf"(?<![a-z]){re.escape(word)}(?:'?s)?(?![a-z])"


def _settled(text: str, mentions: list[Mention]) -> list[Mention]:
    """Of neighbours that say one thing together, the one that counts: 'golden yellow', 'green lawn', 'sea blue',
    'upper part on the left'."""
    kept: list[Mention] = []
    for mention in mentions:
        while kept and _swallows(text, kept[-1], mention):
            kept.pop()
        if kept and _swallowed(text, kept[-1], mention):
            continue
        if kept and (corner := _corner(text, kept[-1], mention)):
            kept[-1] = corner
        else:
            kept.append(mention)
    return kept


def _swallows(text: str, before: Mention, after: Mention) -> bool:
    """Whether the earlier of two neighbours only qualifies the later."""
    if before.end > after.start:
        return False
    gap = text[before.end : after.start]
    if after.kind == "background" and before.kind in {"colour", "background"}:
        return bool(_OF_A_BACKGROUND.fullmatch(gap)) and not (
            after.value in PLAIN and before.value not in PLAIN and gap.strip()
        )
    if before.kind == "background" and after.kind == "colour":
        return gap == " "
    return before.kind == after.kind and after.kind in {"colour", "shape", "size"} and not gap.strip("- 的")


def _swallowed(text: str, before: Mention, after: Mention) -> bool:
    """Whether the later of two neighbours says the same again."""
    same = before.kind == after.kind == "place" and before.value == after.value
    return same and bool(_CORNER.fullmatch(text[before.end : after.start]))


def _corner(text: str, before: Mention, after: Mention) -> Mention | None:
    """The corner that a row and a column make, or the row or column that 'in the middle of the left side' means."""
    if not before.kind == after.kind == "place" or not _CORNER.fullmatch(text[before.end : after.start]):
        return None
    both = {before.value, after.value}
    for row in ("top", "bottom"):
        for column in ("left", "right"):
            if both in ({row, column}, {row, f"{row}_{column}"}, {column, f"{row}_{column}"}):
                return Mention("place", f"{row}_{column}", before.start, after.end)
    if "centre" in both and len(both) == 2:
        (other,) = both - {"centre"}
        return Mention("place", other, before.start, after.end)
    return None


def _named(text: str, mentions: Sequence[Mention], place: int) -> Named:
    """The thing whose shape stands at that place, with what stands before it and belongs to it."""
    shape = mentions[place]
    thing = Named(shape.value, shape.start, shape.end)
    near = _NEAR_ZH if _HAN.match(text[shape.start]) else _NEAR_EN
    for before in reversed(mentions[:place]):
        if before.end > thing.start or not near.fullmatch(text[before.end : thing.start]):
            break
        match before:
            case Mention(kind="colour", value=colour) if thing.colour is None:
                thing.colour = colour
            case Mention(kind="size", value=size):
                thing.size = size
            case Mention(kind="mark", value=mark):
                setattr(thing, "negated" if mark == "negation" else mark, True)
            case _:
                break
        thing.start = before.start
    return thing
