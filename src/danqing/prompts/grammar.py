"""The rewriter for checkpoints that were taught the drawn world and nothing else: free requests become the sentences
that `judge` teaches. Needs no model: a request is read (`reading`), decided upon here, and said in the judge's words.

A request that is taught already is left alone, one that names nothing of the world raises CannotWrite. The same request
always becomes the same sentence.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite, Panel
from danqing.judge import words
from danqing.judge.backdrops import SHOWS
from danqing.judge.words import ALL_LANGUAGES, PHRASES, Said, say
from danqing.judge.world import BACKGROUNDS, PLACES, Scene, Thing
from danqing.prompts.reading import PLAIN, Lexicon, Mention, Named, Reading, load_table

_SLOT = re.compile(r"\{\w+\}")
_LONGEST_TAUGHT = 600
"""Characters; no taught sentence is longer, and matching takes time with the square of the length."""
_DEFAULT_PLACES = ("centre", "left", "right", "top", "bottom")


class Grammar:
    """See `core.writing.Rewriter`."""

    def __init__(self, table: Mapping[str, Any] | None = None) -> None:
        """Reads the shipped table, unless another is given. Raises BadTable."""
        self._table = load_table() if table is None else table
        self._lexicon = Lexicon(self._table)
        self._taught = _taught()

    async def extend(self, prompt: str, inputs: Sequence[Raster], *, think: bool = False) -> str:  # noqa: ARG002
        """See `core.writing.Rewriter.extend`. More time would not help."""
        return self.rewritten(prompt, len(inputs))

    async def series(self, prompt: str, inputs: Sequence[Raster], count: int) -> tuple[str, ...]:
        """The picture asked for, then the same thing before one background after the other, and where there are no
        more, at other places. Later prompts are instructions for a picture that shows the first."""
        reading, scene = self._subject(prompt, inputs)
        first = self.rewritten(prompt, len(inputs)) if inputs else _captioned(reading, scene)
        later = [
            say("background", 0, reading.language, {"background": words.BACKGROUND[name]})
            for name in _backgrounds(scene)
        ]
        later += [
            say("move", 0, reading.language, {"thing": _said(scene.things[0]), "to": words.PLACE[place].to})
            for place in (*_DEFAULT_PLACES, *PLACES)
            if place != scene.things[0].place
        ]
        return (first, *later)[:count] if count <= len(later) + 1 else _repeated((first, *later), count)

    async def story(self, prompt: str, inputs: Sequence[Raster], most: int) -> tuple[Panel, ...]:
        """The thing that is named goes through the backgrounds of the world, as many as are told of."""
        reading, scene = self._subject(prompt, inputs)
        told, panels = self._table["say"][reading.language], []
        asked = [mention.value for mention in reading.backgrounds]
        stops = list(dict.fromkeys([*asked, *_backgrounds(scene), scene.background]))[:most]
        for number, name in enumerate(stops):
            last = number and number == len(stops) - 1
            text = told["last"] if last else told["next"][(number - 1) % len(told["next"])]
            text = _filled(text if number else told["first"], scene.things[0], name, reading.language)
            there = {"background": words.BACKGROUND[name]}
            drawn = _captioned(reading, replace(scene, background=name))
            panels.append(Panel(text, say("background", 0, reading.language, there) if number else drawn))
        return tuple(panels)

    def rewritten(self, prompt: str, inputs: int) -> str:
        """The prompt as it is taught, with so many input pictures. Raises CannotWrite."""
        if self._is_taught(" ".join(prompt.split()).casefold()):
            return prompt
        reading = self._lexicon.read(prompt)
        if inputs:
            task, slots = _decided(reading, inputs)
            return say(task, 0, reading.language, slots)
        return _captioned(reading, _scene(reading))

    def _is_taught(self, text: str) -> bool:
        return len(text) <= _LONGEST_TAUGHT and any(sentence.fullmatch(text) for sentence in self._taught)

    def _subject(self, prompt: str, inputs: Sequence[Raster]) -> tuple[Reading, Scene]:
        """What a series or a story is about; with input pictures, what is said of it."""
        reading = self._lexicon.read(prompt)
        if inputs and not reading.things:
            raise CannotWrite("nothing of the drawn world is named")
        return reading, _scene(reading)


# -- pictures from words


def _scene(reading: Reading) -> Scene:
    """The scene that a caption means, what it leaves open filled in: the same words, the same scene."""
    wanted = _told_apart([thing for thing in reading.things if not thing.negated])
    if not wanted:
        raise CannotWrite("nothing of the drawn world is named")
    pick = zlib.crc32(reading.text.encode())
    background = next((m.value for m in reversed(reading.backgrounds)), None)
    _shared_out(wanted, reading.colours, "colour")
    _shared_out(wanted, reading.places, "place")
    if background is None:
        colours = {thing.colour for thing in wanted}
        background = next(name for name in ("white", "grey", "cream") if colours - {None} <= SHOWS[name])
    taken = {thing.place for thing in wanted}
    free = [place for place in (*_DEFAULT_PLACES, *PLACES) if place not in taken]
    things = []
    for number, thing in enumerate(wanted[: len(PLACES)]):
        showing = sorted(SHOWS[background])
        colour = thing.colour or showing[(pick + number) % len(showing)]
        place = thing.place or free.pop(0)
        things.append(Thing(thing.shape, colour, place, thing.size))
    return Scene(background, tuple(things))


def _told_apart(things: Sequence[Named]) -> list[Named]:
    """Without those that were spoken of before: 'a red ball; the ball is big'."""
    kept: list[Named] = []
    for thing in things:
        again = thing.colour is None and not thing.indefinite and any(thing.shape == it.shape for it in kept)
        if not again:
            kept.append(thing)
    return kept


def _shared_out(things: Sequence[Named], mentions: Sequence[Mention], what: str) -> None:
    """Give each thing the colour or place that is said for it: the one before it where such words come first, else
    the one after it."""
    lacking = [thing for thing in things if getattr(thing, what) is None]
    if not lacking or not mentions:
        return
    before = mentions[0].start < things[0].start
    for number, thing in enumerate(lacking):
        following = lacking[number + 1].start if number + 1 < len(lacking) else 1 << 30
        earlier = lacking[number - 1].end if number else -1
        near = [
            m
            for m in mentions
            if (earlier <= m.start < thing.start if before else thing.start <= m.start < following)
        ]
        if not near and len(lacking) == 1:
            near = list(mentions)
        if near:
            setattr(thing, what, near[-1 if before else 0].value)


def _captioned(reading: Reading, scene: Scene) -> str:
    parts = []
    for it in scene.things:
        name, place = words.with_article(_said(it)), words.PLACE[it.place].on
        parts.append(Said(f"{name.en} {place.en}", f"{place.zh}有{name.zh}"))
    slots = {"things": words.listed(parts), "background": words.BACKGROUND[scene.background]}
    return say("text_to_image", 0, reading.language, slots)


def _said(it: Thing) -> Said:
    return words.thing(it)


def _backgrounds(scene: Scene) -> list[str]:
    """Where the scene could be besides, those with a landscape first."""
    colours = {it.colour for it in scene.things}
    fit = [name for name in BACKGROUNDS if name != scene.background and colours <= SHOWS[name]]
    return sorted(fit, key=lambda name: (name in PLAIN, name == "classroom"))


def _repeated(prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """As many as asked: after the last, the later ones come again."""
    later = prompts[1:]
    return (prompts[0], *(later[number % len(later)] for number in range(count - 1)))


def _filled(text: str, it: Thing, background: str, language: str) -> str:
    spoken = "en" if language == "en" else "zh"
    slots = {"thing": words.with_article(_said(it)), "where": words.BACKGROUND[background]}
    filled = {name: said.within(spoken) for name, said in slots.items()}
    if language == "zh-Hant":
        filled = {name: words.traditional(said) for name, said in filled.items()}
    return text.format(**filled)


# -- changes to pictures

Decision = tuple[str, dict[str, Said]]


def _decided(reading: Reading, inputs: int) -> Decision:
    """Which task is meant, and its slots. Raises CannotWrite."""
    if inputs > 1 and reading.has("image_2", "image_3"):
        return _joined(reading, inputs)
    things = reading.things
    if len(things) > 1:
        return _two(reading, *things[:2])
    if things:
        return _one(reading, things[0])
    if reading.backgrounds:
        return "background", {"background": words.BACKGROUND[reading.backgrounds[-1].value]}
    if reading.styles:
        return "style", {"style": words.STYLE[reading.styles[0].value]}
    for task in ("restore", "enhance"):
        if reading.has(task):
            return task, {}
    raise CannotWrite("nothing of the drawn world is named")


def _one(reading: Reading, it: Named) -> Decision:
    """About one thing: which of what may happen to it."""
    adding = reading.has("add") and not reading.has("move")
    if reading.places and (adding or (it.indefinite and not it.definite and not reading.has("move"))):
        if it.colour is None and reading.colours:
            it.colour = reading.colours[0].value
        return "add", {"new": _new(it), "on": words.PLACE[reading.places[-1].value].on}
    if reading.colours and not it.negated:
        place = reading.places[0].value if reading.places else None
        return "recolour", {"thing": _named(it, place), "colour": words.COLOUR[reading.colours[-1].value]}
    if reading.has("delete") or it.negated:
        return "delete", {"thing": _named(it, reading.places[0].value if reading.places else None)}
    if reading.places:
        return "move", {"thing": _named(it), "to": words.PLACE[reading.places[-1].value].to}
    if reading.backgrounds:
        return "background", {"background": words.BACKGROUND[reading.backgrounds[-1].value]}
    raise CannotWrite("what is to happen is not clear")


def _two(reading: Reading, one: Named, other: Named) -> Decision:
    """About two things: the one there is and the one to come."""
    old, new = (other, one) if _reversed(reading, one, other) else (one, other)
    if new.shape == old.shape:
        if new.colour is None or new.colour == old.colour:
            return _one(reading, old)
        return "recolour", {"thing": _named(old), "colour": words.COLOUR[new.colour]}
    if reading.has("add") and reading.places and not reading.has("replace"):
        added = one if one.indefinite else other
        return "add", {"new": _new(added), "on": words.PLACE[reading.places[-1].value].on}
    if new.colour is None and reading.colours:
        new.colour = reading.colours[-1].value
    if new.colour is None:
        new.colour = old.colour
    return "replace", {"thing": _named(old), "new": _new(new)}


def _reversed(reading: Reading, one: Named, other: Named) -> bool:
    """Whether the new thing is named before the old one: 'a box instead of the ball', '用方块代替圆'."""
    if reading.language == "en":
        between = any(one.end <= at < other.start for at in reading.cues.get("reverse", ()))
        return between or (other.definite and one.indefinite and not one.definite)
    return any(0 <= one.start - at <= 2 for at in reading.cues.get("reverse", ()))


def _joined(reading: Reading, inputs: int) -> Decision:
    """About several pictures: what comes from which."""
    place = reading.places[-1].value if reading.places else None
    thing = reading.things[0] if reading.things else None
    if inputs > 2 and reading.has("image_3") and thing and place:
        return "fusion_three", {"thing": _named(thing), "on": words.PLACE[place].on}
    if thing and place:
        return "fusion_object", {"thing": _named(thing), "on": words.PLACE[place].on}
    if reading.has("background") and reading.has("image_2"):
        return "fusion_background", {}
    raise CannotWrite("which picture brings what is not clear")


def _named(it: Named, place: str | None = None) -> Said:
    """A thing that is there, by what is said of it."""
    shape = words.SHAPE[it.shape]
    name = shape if it.colour is None else _said(Thing(it.shape, it.colour, "centre", it.size))
    if place is None:
        return name
    on = words.PLACE[place].on
    return Said(f"{name.en} {on.en}", f"{on.zh}的{name.zh}")


def _new(it: Named) -> Said:
    """A thing to come; it needs a colour."""
    if it.colour is None:
        raise CannotWrite("the new thing has no colour")
    return words.with_article(_said(Thing(it.shape, it.colour, "centre", it.size)))


# -- what is taught already


def _taught() -> list[re.Pattern[str]]:
    """Every sentence that is taught, its slots filled with nothing but the judge's words."""
    filler = {language: _fillers(language) for language in ALL_LANGUAGES}
    found = []
    for by_language in PHRASES.values():
        for language in ALL_LANGUAGES:
            for way in by_language["en" if language == "en" else "zh"]:
                sentence = words.traditional(way) if language == "zh-Hant" else way
                parts = [re.escape(part) for part in _SLOT.split(sentence.casefold())]
                slots = [
                    r"[^\"“”]{1,40}" if name.strip("{}") in words.QUOTED else filler[language]
                    for name in _SLOT.findall(sentence)
                ]
                whole = "".join(part + slot for part, slot in zip(parts, [*slots, ""], strict=True))
                found.append(re.compile(whole))
    return found


def _fillers(language: str) -> str:
    """One or more of the judge's words."""
    spoken = "en" if language == "en" else "zh"
    tables = [words.COLOUR, words.SHAPE, words.SIZE, words.BACKGROUND, words.STYLE, words.GARMENT]
    tables += [words.HAIR, words.GOODS, words.MATERIAL, words.FACING, words.EYES]
    nouns = (
        *(said for table in tables for said in table.values()),
        *(place for said in words.PLACE.values() for place in (said.on, said.to)),
        *(said for both in words.POSE.values() for said in both),
    )
    known = {said.within(spoken) for said in nouns} - {""}
    known |= (
        {"a", "an", "and", ",", "girl", "with", "hair", "in", "who"}
        if spoken == "en"
        else {"一个", "有", "，", "的", "头发", "、穿", "女孩"}
    )
    if language == "zh-Hant":
        known = {words.traditional(word) for word in known}
    listed = "|".join(re.escape(word.casefold()) for word in sorted(known, key=len, reverse=True))
    return rf"(?:(?:{listed})\s*)+?" if spoken == "en" else rf"(?:{listed})+?"
