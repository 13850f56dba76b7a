"""What can be asked of a scene: each row lays out the scenes before, the scene after and the words between.

Refuses to know pixels and sizes. A new operation is one function and one entry in ROWS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from danqing.judge.words import (
    BACKGROUND_EN,
    BACKGROUND_ZH,
    COLOUR_ZH,
    PHRASES,
    PLACE_WORDS,
    article,
    thing_en,
    thing_zh,
)
from danqing.judge.world import (
    ASKED_COLOURS,
    ASKED_PLACES,
    ASKED_SHAPES,
    BACKGROUNDS,
    MOST_THINGS,
    Scene,
    Thing,
)

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Plan:
    """The right answer in words and scenes, before any pixel is drawn."""

    instruction: str
    befores: tuple[Scene, ...]
    after: Scene

    def key(self) -> str:
        """What is asked of what, without phrasing and deviations."""
        return " / ".join(scene.key() for scene in (*self.befores, self.after))


def pick(rng: Rng, choices: Iterable[str], but: Iterable[str] = ()) -> str:
    """One of the choices, none of `but`."""
    left = [choice for choice in choices if choice not in but]
    return left[int(rng.integers(len(left)))]


def random_thing(rng: Rng, place: str, beside: Iterable[Thing] = ()) -> Thing:
    """Of a colour and a shape that none of the others has."""
    others = tuple(beside)
    shift = rng.uniform(-0.08, 0.08, 2)
    return Thing(
        shape=pick(rng, ASKED_SHAPES, [thing.shape for thing in others]),
        colour=pick(rng, ASKED_COLOURS, [thing.colour for thing in others]),
        place=place,
        shift=(float(shift[0]), float(shift[1])),
        scale=float(rng.uniform(0.94, 1.06)),
    )


def random_scene(rng: Rng, least: int = 1, most: int = MOST_THINGS, but: Iterable[str] = ()) -> Scene:
    """A background and from `least` to `most` things that differ in every trait."""
    things: list[Thing] = []
    for place in rng.permutation(list(ASKED_PLACES))[: int(rng.integers(least, most + 1))]:
        things.append(random_thing(rng, str(place), things))
    return Scene(pick(rng, BACKGROUNDS, but), tuple(things))


def _say(rng: Rng, row: str, language: str, **slots: str) -> str:
    phrases = PHRASES[row][language]
    return phrases[int(rng.integers(len(phrases)))].format(**slots)


def _name(thing: Thing, language: str) -> str:
    say = thing_en if language == "en" else thing_zh
    return say(thing.colour, thing.shape)


def _named(rng: Rng, thing: Thing, language: str) -> str:
    """How an instruction refers to a thing that is there: by colour and shape, sometimes with its place."""
    name = _name(thing, language)
    if rng.random() < 0.8:
        return name
    words = PLACE_WORDS[thing.place]
    return f"{name} {words.on}" if language == "en" else f"{words.zh}的{name}"


def _background(name: str, language: str) -> str:
    return BACKGROUND_EN[name] if language == "en" else BACKGROUND_ZH[name]


def _one_of(rng: Rng, scene: Scene) -> Thing:
    return scene.things[int(rng.integers(len(scene.things)))]


def caption_things(scene: Scene, language: str) -> str:
    """Every thing of a scene with its place."""
    parts = []
    for thing in scene.things:
        words = PLACE_WORDS[thing.place]
        if language == "en":
            parts.append(f"{article(_name(thing, 'en'))} {words.on}")
        else:
            parts.append(f"{words.zh}有一个{_name(thing, 'zh')}")
    return (" and " if language == "en" else "，").join(parts)


def text_to_image(rng: Rng, language: str) -> Plan:
    """A scene from words alone; everything in it is said."""
    loose = random_scene(rng)
    scene = loose.with_things(*(_steady(thing) for thing in loose.things))
    said = _say(
        rng,
        "text_to_image",
        language,
        things=caption_things(scene, language),
        background=_background(scene.background, language),
    )
    return Plan(said[0].upper() + said[1:], (), scene)


def recolour(rng: Rng, language: str) -> Plan:
    """One thing gets a colour that no thing has."""
    scene = random_scene(rng)
    thing = _one_of(rng, scene)
    colour = pick(rng, ASKED_COLOURS, [t.colour for t in scene.things])
    after = scene.swap(thing, _change(thing, colour=colour))
    word = colour if language == "en" else COLOUR_ZH[colour]
    return Plan(
        _say(rng, "recolour", language, thing=_named(rng, thing, language), colour=word), (scene,), after
    )


def replace(rng: Rng, language: str) -> Plan:
    """One thing becomes another of another shape and colour."""
    scene = random_scene(rng)
    thing = _one_of(rng, scene)
    fresh = random_thing(rng, thing.place, scene.things)
    new = _change(thing, shape=fresh.shape, colour=fresh.colour)
    word = article(_name(new, "en")) if language == "en" else _name(new, "zh")
    said = _say(rng, "replace", language, thing=_named(rng, thing, language), new=word)
    return Plan(said, (scene,), scene.swap(thing, new))


def delete(rng: Rng, language: str) -> Plan:
    """One thing goes."""
    scene = random_scene(rng)
    thing = _one_of(rng, scene)
    return Plan(
        _say(rng, "delete", language, thing=_named(rng, thing, language)), (scene,), scene.without(thing)
    )


def add(rng: Rng, language: str) -> Plan:
    """One thing comes to a free place."""
    scene = random_scene(rng)
    new = _steady(random_thing(rng, pick(rng, scene.free_places()), scene.things))
    words = PLACE_WORDS[new.place]
    name = article(_name(new, "en")) if language == "en" else _name(new, "zh")
    said = _say(rng, "add", language, new=name, on=words.on if language == "en" else words.zh)
    return Plan(said, (scene,), scene.with_things(*scene.things, new))


def move(rng: Rng, language: str) -> Plan:
    """One thing goes to a free place."""
    scene = random_scene(rng)
    thing = _one_of(rng, scene)
    place = pick(rng, scene.free_places())
    words = PLACE_WORDS[place]
    name = _name(thing, language)
    said = _say(rng, "move", language, thing=name, to=words.to, on=words.zh)
    return Plan(said, (scene,), scene.swap(thing, _steady(thing.at(place))))


def background(rng: Rng, language: str) -> Plan:
    """The things stay, what is behind them changes."""
    scene = random_scene(rng)
    name = pick(rng, BACKGROUNDS, [scene.background])
    after = Scene(name, scene.things)
    return Plan(_say(rng, "background", language, background=_background(name, language)), (scene,), after)


def fusion_object(rng: Rng, language: str) -> Plan:
    """The thing of image 2 comes into image 1."""
    scene, guest, new, slots = _guest(rng, language)
    said = _say(rng, "fusion_object", language, **slots)
    return Plan(said, (scene, guest), scene.with_things(*scene.things, new))


def fusion_background(rng: Rng, language: str) -> Plan:
    """The things of image 1 before the background of image 2."""
    scene = random_scene(rng)
    other = random_scene(rng, but=[scene.background])
    said = _say(rng, "fusion_background", language)
    return Plan(said, (scene, other), Scene(other.background, scene.things))


def fusion_three(rng: Rng, language: str) -> Plan:
    """The thing of image 2 comes into image 1, before the background of image 3."""
    scene, guest, new, slots = _guest(rng, language)
    place = random_scene(rng, most=1, but=[scene.background, guest.background])
    said = _say(rng, "fusion_three", language, **slots)
    return Plan(said, (scene, guest, place), Scene(place.background, (*scene.things, new)))


def background_of_three(rng: Rng, language: str) -> Plan:
    """The things of image 1 before the background of image 3; image 2 is there to be left alone."""
    scene = random_scene(rng)
    other = random_scene(rng, but=[scene.background])
    place = random_scene(rng, but=[scene.background, other.background])
    said = _say(rng, "background_of_three", language)
    return Plan(said, (scene, other, place), Scene(place.background, scene.things))


def _guest(rng: Rng, language: str) -> tuple[Scene, Scene, Thing, dict[str, str]]:
    """A scene, another with one thing in it, that thing in the first, and the words for it."""
    scene = random_scene(rng)
    thing = random_thing(rng, pick(rng, ASKED_PLACES), scene.things)
    guest = Scene(pick(rng, BACKGROUNDS, [scene.background]), (thing,))
    new = _steady(thing.at(pick(rng, scene.free_places())))
    words = PLACE_WORDS[new.place]
    slots = {"thing": _name(thing, language), "on": words.on if language == "en" else words.zh}
    return scene, guest, new, slots


def _change(thing: Thing, **what: str) -> Thing:
    changed = {"shape": thing.shape, "colour": thing.colour} | what
    return Thing(changed["shape"], changed["colour"], thing.place, thing.shift, thing.scale)


def _steady(thing: Thing) -> Thing:
    """A thing that arrives stands exactly at its place: nothing in the request says otherwise."""
    return Thing(thing.shape, thing.colour, thing.place)


ROWS: dict[str, Callable[[Rng, str], Plan]] = {
    "text_to_image": text_to_image,
    "recolour": recolour,
    "replace": replace,
    "delete": delete,
    "add": add,
    "move": move,
    "background": background,
    "fusion_object": fusion_object,
    "fusion_background": fusion_background,
    "fusion_three": fusion_three,
    "background_of_three": background_of_three,
}
INPUTS: dict[str, int] = dict.fromkeys(ROWS, 1) | {
    "text_to_image": 0,
    "fusion_object": 2,
    "fusion_background": 2,
    "fusion_three": 3,
    "background_of_three": 3,
}
