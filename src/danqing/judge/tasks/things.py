"""Tasks about things in a scene: draw them, change one, bring one from another picture. Knows no pixel."""

from __future__ import annotations

from dataclasses import replace

from danqing.judge import words
from danqing.judge.backdrops import SHOWS
from danqing.judge.deal import Dealer, NoRoom, steady
from danqing.judge.tasks.plan import Plan, Task, named, placed
from danqing.judge.words import Said
from danqing.judge.world import COLOURS, HELD_OUT_PAIRS, Scene, Thing


def text_to_image(dealer: Dealer) -> Plan:
    """A scene from words alone; everything in it is said."""
    scene = dealer.scene(loose=False)
    slots = {"things": placed(scene), "background": words.BACKGROUND[scene.background]}
    return Plan((), scene, slots, unseen=dealer.unseen)


def text_to_image_loose(dealer: Dealer) -> Plan:
    """Half of it is left unsaid: what negative prompts are made of. Taught, never judged."""
    scene = dealer.scene(loose=False, most=2)
    parts = []
    for it in scene.things:
        shape, colour = words.SHAPE[it.shape], words.COLOUR[it.colour]
        way = int(dealer.rng.integers(4))
        name = (
            words.with_article(shape),
            colour,
            words.with_article(words.thing(it)),
            words.with_article(words.thing(it, size=False)),
        )[way]
        place = words.PLACE[it.place].on
        parts.append(Said(f"{name.en} {place.en}", f"{place.zh}有{name.zh}") if dealer.chance(0.4) else name)
    if not parts or dealer.chance(0.3):
        parts.append(words.BACKGROUND[scene.background])
    return Plan((), scene, {"things": words.listed(parts)})


def _subject(dealer: Dealer, scene: Scene) -> Thing:
    """The thing asked about: with unseen pairs the first, which has one."""
    if not scene.things:
        raise NoRoom
    return scene.things[0] if dealer.unseen else dealer.choose(scene.things)


def _seen(dealer: Dealer) -> Dealer:
    """The same dealer for what comes before the subject gets its unseen pair."""
    return replace(dealer, unseen=False)


def recolour(dealer: Dealer) -> Plan:
    """One thing gets another colour."""
    scene = _seen(dealer).scene()
    it = dealer.choose(scene.things)
    taken = {thing.pair for thing in scene.things}
    colour = dealer.choose(
        colour
        for colour in COLOURS
        if colour in SHOWS[scene.background]
        and (it.shape, colour) not in taken
        and ((it.shape, colour) in HELD_OUT_PAIRS) == dealer.unseen
    )
    slots = {"thing": named(dealer, it, scene), "colour": words.COLOUR[colour]}
    return Plan((scene,), scene.swap(it, replace(it, colour=colour)), slots, unseen=dealer.unseen)


def replace_thing(dealer: Dealer) -> Plan:
    """One thing becomes another of another shape and colour, at its place and of its size."""
    scene = _seen(dealer).scene()
    it = dealer.choose(scene.things)
    shape, colour = dealer.pair([scene.background], scene.things, subject=True)
    if shape == it.shape or colour == it.colour:
        raise NoRoom
    new = replace(it, shape=shape, colour=colour)
    slots = {"thing": named(dealer, it, scene), "new": words.with_article(words.thing(new, size=False))}
    return Plan((scene,), scene.swap(it, new), slots, unseen=dealer.unseen)


def delete(dealer: Dealer) -> Plan:
    """One thing goes."""
    scene = dealer.scene()
    it = _subject(dealer, scene)
    return Plan((scene,), scene.without(it), {"thing": named(dealer, it, scene)}, unseen=dealer.unseen)


def add(dealer: Dealer) -> Plan:
    """One thing comes to a free place."""
    scene = _seen(dealer).scene(most=max(1, dealer.most - 1))
    shape, colour = dealer.pair([scene.background], scene.things, subject=True)
    new = Thing(shape, colour, "centre", dealer.size())
    new = steady(new, dealer.free_place(scene.things, new))
    slots = {"new": words.with_article(words.thing(new)), "on": words.PLACE[new.place].on}
    return Plan((scene,), scene.with_things(*scene.things, new), slots, unseen=dealer.unseen)


def move(dealer: Dealer) -> Plan:
    """One thing goes to a free place."""
    scene = dealer.scene(most=max(1, dealer.most - 1))
    it = _subject(dealer, scene)
    rest = scene.without(it)
    place = dealer.free_place(rest.things, it, but=[it.place])
    slots = {"thing": named(dealer, it, scene), "to": words.PLACE[place].to}
    return Plan((scene,), rest.with_things(*rest.things, steady(it, place)), slots, unseen=dealer.unseen)


def background(dealer: Dealer) -> Plan:
    """The things stay, what is behind them changes."""
    scene = dealer.scene()
    name = dealer.background(scene.things, but=[scene.background])
    slots = {"background": words.BACKGROUND[name]}
    return Plan((scene,), replace(scene, background=name), slots, unseen=dealer.unseen)


def _guest(dealer: Dealer, scene: Scene) -> tuple[Scene, Thing, dict[str, Said]]:
    """A picture with one thing in it, that thing as it stands in the scene, and the words for it."""
    it = dealer.thing(
        dealer.choose(("centre", "left", "right", "top", "bottom")), [scene.background], subject=True
    )
    if it.pair in {thing.pair for thing in scene.things}:
        raise NoRoom
    new = steady(it, dealer.free_place(scene.things, it))
    guest = Scene(dealer.background([it], but=[scene.background]), (it,))
    return guest, new, {"thing": words.thing(it, size=False), "on": words.PLACE[new.place].on}


def fusion_object(dealer: Dealer) -> Plan:
    """The thing of image 2 comes into image 1."""
    scene = _seen(dealer).scene(most=max(1, dealer.most - 2))
    guest, new, slots = _guest(dealer, scene)
    return Plan((scene, guest), scene.with_things(*scene.things, new), slots, unseen=dealer.unseen)


def fusion_background(dealer: Dealer) -> Plan:
    """The things of image 1 before the background of image 2."""
    scene = dealer.scene()
    name = dealer.background(scene.things, but=[scene.background])
    other = replace(_seen(dealer).scene(most=2, behind=[name]), background=name)
    return Plan((scene, other), replace(scene, background=name), unseen=dealer.unseen)


def fusion_three(dealer: Dealer) -> Plan:
    """The thing of image 2 comes into image 1, before the background of image 3."""
    scene = _seen(dealer).scene(most=max(1, dealer.most - 2))
    guest, new, slots = _guest(dealer, scene)
    things = (*scene.things, new)
    name = dealer.background(things, but=[scene.background, guest.background])
    place = replace(_seen(dealer).scene(most=1, behind=[name]), background=name)
    wrong = scene.with_things(*things)
    return Plan((scene, guest, place), Scene(name, things), slots, wrongs=(wrong,), unseen=dealer.unseen)


TASKS: dict[str, Task] = {
    "text_to_image": Task("text_to_image", 0, text_to_image),
    "text_to_image_loose": Task("text_to_image_loose", 0, text_to_image_loose),
    "recolour": Task("recolour", 1, recolour),
    "replace": Task("replace", 1, replace_thing),
    "delete": Task("delete", 1, delete),
    "add": Task("add", 1, add),
    "move": Task("move", 1, move),
    "background": Task("background", 1, background),
    "fusion_object": Task("fusion_object", 2, fusion_object),
    "fusion_background": Task("fusion_object", 2, fusion_background),
    "fusion_three": Task("fusion_object", 3, fusion_three),
}
