"""Deals scenes: things that do not touch, can be told from what is behind them, and can be named apart.

Knows the world's nouns; refuses to know pixels, words and what is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from danqing.judge.backdrops import SHOWS
from danqing.judge.world import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_PAIRS,
    MOST_THINGS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    clear_of,
)

Rng = np.random.Generator
Choice = TypeVar("Choice")

MEDIUM_SHARE = 0.5  # of things; the other sizes share the rest
LIKENESS = 0.4  # how often a thing takes the shape or the colour of one that is there, to be told from it


class NoRoom(Exception):
    """This scene cannot hold what was asked; deal another."""


@dataclass(frozen=True, slots=True)
class Dealer:
    """Scenes of `least` to `most` things. With `unseen`, subjects have pairs that training never shows."""

    rng: Rng
    least: int = 2
    most: int = MOST_THINGS
    unseen: bool = False

    def choose(self, choices: Iterable[Choice], but: Iterable[Choice] = ()) -> Choice:
        """One of the choices, none of `but`."""
        left = [choice for choice in choices if choice not in but]
        if not left:
            raise NoRoom
        return left[int(self.rng.integers(len(left)))]

    def chance(self, share: float) -> bool:
        """True this often."""
        return bool(self.rng.random() < share)

    def pair(
        self, backgrounds: Sequence[str], beside: Iterable[Thing], *, subject: bool = False
    ) -> tuple[str, str]:
        """A shape and a colour that no other thing has together, and that show on all the backgrounds."""
        others = tuple(beside)
        shows = frozenset(COLOURS).intersection(*(SHOWS[background] for background in backgrounds))
        held_out = subject and self.unseen
        taken = {thing.pair for thing in others}
        fits = [
            (shape, colour)
            for shape in SHAPES
            for colour in COLOURS
            if colour in shows
            and ((shape, colour) in HELD_OUT_PAIRS) == held_out
            and (shape, colour) not in taken
        ]
        if others and self.chance(LIKENESS):
            like = self.choose(others)
            alike = [pair for pair in fits if (pair[0] == like.shape) != (pair[1] == like.colour)]
            fits = alike or fits
        return self.choose(fits)

    def size(self) -> str:
        """Medium more often than the others."""
        return "medium" if self.chance(MEDIUM_SHARE) else self.choose(SIZES, but=["medium"])

    def thing(
        self,
        place: str,
        backgrounds: Sequence[str],
        beside: Iterable[Thing] = (),
        *,
        subject: bool = False,
        loose: bool = True,
    ) -> Thing:
        """A thing at a place, clear of the others. What is `loose` stands a little off and is a little bigger."""
        others = tuple(beside)
        shape, colour = self.pair(backgrounds, others, subject=subject)
        it = Thing(shape, colour, place, self.size())
        if loose:
            shift = self.rng.uniform(-0.08, 0.08, 2)
            it = replace(
                it, shift=(float(shift[0]), float(shift[1])), scale=float(self.rng.uniform(0.95, 1.05))
            )
        for size in (it.size, "medium", "small", "tiny"):
            fitting = replace(it, size=size)
            if clear_of(fitting, others):
                return fitting
        raise NoRoom

    def background(self, things: Iterable[Thing] = (), but: Iterable[str] = ()) -> str:
        """One that all the things show on."""
        colours = {thing.colour for thing in things}
        return self.choose([name for name in BACKGROUNDS if colours <= SHOWS[name]], but)

    def scene(self, *, behind: Sequence[str] = (), loose: bool = True, most: int | None = None) -> Scene:
        """Things before a background. The first is the subject; its colours also show on the backgrounds `behind`."""
        background = self.choose(BACKGROUNDS)
        grounds = (background, *behind)
        limit = self.most if most is None else min(most, self.most)
        count = int(self.rng.integers(min(self.least, limit), limit + 1))
        things: list[Thing] = []
        for place in self.rng.permutation(list(PLACES)):
            if len(things) == count:
                break
            try:
                things.append(self.thing(str(place), grounds, things, subject=not things, loose=loose))
            except NoRoom:
                continue
        return Scene(background, tuple(things))

    def free_place(self, things: Iterable[Thing], guest: Thing, but: Iterable[str] = ()) -> str:
        """Where the guest touches none of the things."""
        others = tuple(things)
        free = [place for place in PLACES if clear_of(steady(guest, place), others)]
        return self.choose(free, but)

    def name_by(self, it: Thing, scene: Scene) -> str:
        """How to speak of a thing that is there, so that only it is meant: pair, size, place or shape."""
        way = str(self.rng.choice(["pair", "size", "place", "shape"], p=[0.6, 0.1, 0.15, 0.15]))
        alone = sum(other.shape == it.shape for other in scene.things) == 1
        return "pair" if way == "shape" and not alone else way


def steady(it: Thing, place: str | None = None) -> Thing:
    """A thing that arrives stands exactly at its place: nothing in the request says otherwise."""
    return Thing(it.shape, it.colour, place or it.place, it.size)
