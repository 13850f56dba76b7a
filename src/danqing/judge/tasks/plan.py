"""A question with its right answer, in scenes and words, before any pixel is drawn. Knows no task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from danqing.judge import words
from danqing.judge.deal import Dealer
from danqing.judge.words import Said
from danqing.judge.world import Scene, Thing


@dataclass(frozen=True, slots=True)
class Plan:
    """`spoilt` says how the inputs were damaged; `wrongs` are answers that a careless judge might take for right."""

    befores: tuple[Scene, ...]
    after: Scene
    slots: Mapping[str, Said] = field(default_factory=dict)
    spoilt: str | None = None
    wrongs: tuple[Scene, ...] = ()
    unseen: bool = False
    """Whether the subject has a shape and a colour that training never shows together."""

    def key(self) -> str:
        """What is asked of what, without phrasing and deviations."""
        return " / ".join(scene.key() for scene in (*self.befores, self.after))


@dataclass(frozen=True, slots=True)
class Task:
    """`row` is the line of the table it counts for; `inputs` how many pictures it takes."""

    row: str
    inputs: int
    deal: Callable[[Dealer], Plan]


def named(dealer: Dealer, it: Thing, scene: Scene) -> Said:
    """How an instruction refers to a thing that is there."""
    match dealer.name_by(it, scene):
        case "size":
            return words.thing(it)
        case "place":
            name, place = words.thing(it, size=False), words.PLACE[it.place].on
            return Said(f"{name.en} {place.en}", f"{place.zh}的{name.zh}")
        case "shape":
            return words.SHAPE[it.shape]
    return words.thing(it, size=False)


def placed(scene: Scene) -> Said:
    """Every thing of a scene with its size and place: 'a red circle on the left and a tiny blue star at the top'."""
    parts = []
    for it in scene.things:
        name, place = words.with_article(words.thing(it)), words.PLACE[it.place].on
        parts.append(Said(f"{name.en} {place.en}", f"{place.zh}有{name.zh}"))
    return words.listed(parts)


def counted(scene: Scene) -> Said:
    """Every thing of a scene without its place."""
    return words.listed([words.with_article(words.thing(it, size=False)) for it in scene.things])
