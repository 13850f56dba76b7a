"""The nouns of the drawn world: which shapes, colours, places and backgrounds exist, and what a scene is.

Refuses to know how anything is drawn or said: pixels are in `draw`, words in `words`. A wider world is more
entries in these tables, not other code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (222, 36, 36),
    "orange": (247, 142, 20),
    "yellow": (250, 222, 40),
    "green": (18, 128, 56),
    "blue": (28, 84, 226),
    "purple": (126, 44, 168),
    "pink": (250, 126, 184),
    "black": (24, 22, 24),
}

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "heart", "diamond")

# Centres as fractions of width and height. Neighbours stay clear of each other at RADIUS.
PLACES: dict[str, tuple[float, float]] = {
    "centre": (0.5, 0.5),
    "left": (0.19, 0.5),
    "right": (0.81, 0.5),
    "top": (0.5, 0.19),
    "bottom": (0.5, 0.81),
    "top_left": (0.19, 0.19),
    "top_right": (0.81, 0.19),
    "bottom_left": (0.19, 0.81),
    "bottom_right": (0.81, 0.81),
}

BACKGROUNDS: tuple[str, ...] = ("white", "grey", "cream", "beach", "night", "grass", "snow", "room")

RADIUS = 0.145  # of the shorter side

# What questions are made of. Everything above can be drawn and named; this much the miniature is asked.
MOST_THINGS = 1  # in one scene before it is edited
ASKED_SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "heart")
ASKED_COLOURS: tuple[str, ...] = ("red", "yellow", "green", "blue", "purple", "black")
ASKED_PLACES: tuple[str, ...] = ("centre", "left", "right", "top", "bottom")


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: what it is, its colour, the named place it stands at, and its small personal deviations."""

    shape: str
    colour: str
    place: str
    shift: tuple[float, float] = (0.0, 0.0)  # in radii
    scale: float = 1.0

    def at(self, place: str) -> Thing:
        """The same thing elsewhere."""
        return replace(self, place=place)


@dataclass(frozen=True, slots=True)
class Scene:
    """A background and the things before it. Distinct colours, distinct shapes, distinct places."""

    background: str
    things: tuple[Thing, ...]

    def with_things(self, *things: Thing) -> Scene:
        """The same background before other things."""
        return replace(self, things=things)

    def swap(self, old: Thing, new: Thing) -> Scene:
        """One thing for another."""
        return replace(self, things=tuple(new if thing == old else thing for thing in self.things))

    def without(self, old: Thing) -> Scene:
        """One thing less."""
        return replace(self, things=tuple(thing for thing in self.things if thing != old))

    def free_places(self) -> list[str]:
        """Places where a thing could still come."""
        taken = {thing.place for thing in self.things}
        return [place for place in ASKED_PLACES if place not in taken]

    def key(self) -> str:
        """What the scene says, without the small deviations: the same key means the same picture to a reader."""
        return (
            self.background + "|" + ";".join(sorted(f"{t.colour} {t.shape} {t.place}" for t in self.things))
        )
