"""Tasks about whole pictures: mend one, colour one, follow its lines, change its style. Knows no pixel."""

from __future__ import annotations

from dataclasses import replace

from danqing.judge import words
from danqing.judge.deal import Dealer, NoRoom
from danqing.judge.tasks.plan import Plan, Task, counted
from danqing.judge.words import Said
from danqing.judge.world import STYLES


def _mended(dealer: Dealer, how: str) -> Plan:
    scene = dealer.scene()
    return Plan((scene,), scene, spoilt=how, unseen=dealer.unseen)


def restore(dealer: Dealer) -> Plan:
    """Scratches, grain and fading go."""
    return _mended(dealer, "old")


def enhance(dealer: Dealer) -> Plan:
    """What was blurred is sharp."""
    return _mended(dealer, "small")


def _told(dealer: Dealer, how: str) -> Plan:
    """The shapes are in the input, the colours in the words: so no two things have one shape."""
    scene = dealer.scene()
    shapes = [it.shape for it in scene.things]
    if len(set(shapes)) != len(shapes) or not shapes:
        raise NoRoom
    slots: dict[str, Said] = {"things": counted(scene), "background": words.BACKGROUND[scene.background]}
    return Plan((scene,), scene, slots, spoilt=how, unseen=dealer.unseen)


def colourise(dealer: Dealer) -> Plan:
    """A grey picture gets the colours that are said."""
    return _told(dealer, "grey")


def sketch(dealer: Dealer) -> Plan:
    """Lines become a picture."""
    return _told(dealer, "sketch")


def depth(dealer: Dealer) -> Plan:
    """A depth map becomes a picture."""
    return _told(dealer, "depth")


def style(dealer: Dealer) -> Plan:
    """The same scene in another style."""
    scene = dealer.scene()
    name = dealer.choose(STYLES)
    # Flat colours can be told from a night's; lines have none, and blocks hardly a shape.
    before = replace(scene, style="night" if name == "flat" else "flat")
    wrongs = tuple(replace(scene, style=other) for other in STYLES if other not in (name, before.style))
    return Plan((before,), replace(scene, style=name), {"style": words.STYLE[name]}, wrongs=wrongs)


TASKS: dict[str, Task] = {
    "restore": Task("restore", 1, restore),
    "colourise": Task("colourise", 1, colourise),
    "enhance": Task("enhance", 1, enhance),
    "sketch": Task("sketch", 1, sketch),
    "depth": Task("depth", 1, depth),
    "style": Task("style", 1, style),
}
