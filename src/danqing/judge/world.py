"""The nouns of the drawn world: which shapes, colours, places, people and signs exist, and what a scene is.

Refuses to know how anything is drawn or said: pixels are in `draw`, words in `words`. A wider world is more
entries in these tables, not other code.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    "brown": (122, 66, 28),
    "cyan": (22, 190, 196),
    "black": (24, 22, 24),
}

SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "diamond",
    "cross",
    "ring",
    "moon",
    "arrow",
    "house",
    "fish",
)

# Centres as fractions of width and height.
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

# Radii as fractions of the shorter side. What is not said is medium.
SIZES: dict[str, float] = {"tiny": 0.085, "small": 0.112, "medium": 0.145, "large": 0.18}
RADIUS = SIZES["medium"]

BACKGROUNDS: tuple[str, ...] = (
    "white",
    "grey",
    "cream",
    "beach",
    "night",
    "grass",
    "snow",
    "room",
    "classroom",
)
STYLES: tuple[str, ...] = ("flat", "outline", "pixel", "night")
MOST_THINGS = 5

HAIR: dict[str, Rgb] = {
    "black": (30, 26, 30),
    "brown": (120, 70, 34),
    "yellow": (244, 208, 84),
    "red": (200, 72, 30),
}
GARMENTS: tuple[str, ...] = ("dress", "shirt", "coat")
POSES: tuple[str, ...] = ("stand", "sit", "hands_up", "wave", "arms_out")
FACINGS: tuple[str, ...] = ("front", "back", "left", "right")
EYES: tuple[str, ...] = ("open", "closed")
GOODS: tuple[str, ...] = ("shirt", "bag")
MATERIALS: tuple[str, ...] = ("plain", "metal", "candy")


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: what it is, its colour, size and named place, and its small personal deviations."""

    shape: str
    colour: str
    place: str
    size: str = "medium"
    shift: tuple[float, float] = (0.0, 0.0)  # in radii
    scale: float = 1.0

    @property
    def radius(self) -> float:
        """As a fraction of the shorter side."""
        return SIZES[self.size] * self.scale

    @property
    def pair(self) -> tuple[str, str]:
        """Shape and colour, the unit that is held out of training."""
        return self.shape, self.colour


@dataclass(frozen=True, slots=True)
class Figure:
    """A girl, in the middle of the picture. From the back no eyes are seen."""

    hair: str
    garment: str
    colour: str
    pose: str = "stand"
    facing: str = "front"
    eyes: str = "open"


@dataclass(frozen=True, slots=True)
class Garment:
    """A piece of clothing alone."""

    kind: str
    colour: str


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A stick figure: nothing but a pose."""

    pose: str


@dataclass(frozen=True, slots=True)
class Goods:
    """A shirt or a bag with a print; the print's own place and size do not count."""

    kind: str
    print: Thing | None = None


@dataclass(frozen=True, slots=True)
class Sign:
    """A board on two legs with one word on it."""

    word: str
    colour: str
    material: str = "plain"


Centrepiece = Figure | Garment | Skeleton | Goods | Sign


@dataclass(frozen=True, slots=True)
class Scene:
    """A background, what stands before it, and the style all of it is drawn in."""

    background: str
    things: tuple[Thing, ...] = ()
    piece: Centrepiece | None = None
    style: str = "flat"

    def with_things(self, *things: Thing) -> Scene:
        """The same background before other things."""
        return replace(self, things=things)

    def swap(self, old: Thing, new: Thing) -> Scene:
        """One thing for another."""
        return self.with_things(*(new if thing == old else thing for thing in self.things))

    def without(self, old: Thing) -> Scene:
        """One thing less."""
        return self.with_things(*(thing for thing in self.things if thing != old))

    def key(self) -> str:
        """What the scene says, without the small deviations: the same key means the same picture to a reader."""
        things = sorted(f"{t.size} {t.colour} {t.shape} {t.place}" for t in self.things)
        return f"{self.style} {self.background}|{self.piece}|{';'.join(things)}"


def clear_of(thing: Thing, others: Iterable[Thing]) -> bool:
    """Whether a thing touches no other. A square picture is the tightest: elsewhere places are further apart."""
    x, y = PLACES[thing.place]
    for other in others:
        across, down = PLACES[other.place]
        if max(abs(x - across), abs(y - down)) < 1.05 * (thing.radius + other.radius) + 0.02:
            return False
    return True


# Shape and colour pairs that no training picture shows: each shape once, and every colour at least once.
HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset(
    (shape, list(COLOURS)[(3 * number + 1) % len(COLOURS)]) for number, shape in enumerate(SHAPES)
)
