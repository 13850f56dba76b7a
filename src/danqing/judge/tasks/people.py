"""Tasks about the one thing in the middle: a girl, a shirt with a print, a sign. Knows no pixel."""

from __future__ import annotations

from dataclasses import replace

from danqing.judge import words
from danqing.judge.backdrops import SHOWS
from danqing.judge.deal import Dealer, NoRoom
from danqing.judge.glyphs import WORDS_EN, WORDS_ZH
from danqing.judge.signs import SIGN_COLOURS
from danqing.judge.tasks.plan import Plan, Task
from danqing.judge.words import Said
from danqing.judge.world import (
    BACKGROUNDS,
    EYES,
    FACINGS,
    GARMENTS,
    GOODS,
    HAIR,
    MATERIALS,
    POSES,
    Centrepiece,
    Figure,
    Garment,
    Goods,
    Scene,
    Sign,
    Skeleton,
)

PLAIN = ("white", "grey", "cream")


def _girl(dealer: Dealer, *, pose: str | None = None, facing: str = "front", eyes: str = "open") -> Scene:
    background = dealer.choose(BACKGROUNDS)
    girl = Figure(
        hair=dealer.choose(HAIR),
        garment=dealer.choose(GARMENTS),
        colour=dealer.choose(sorted(SHOWS[background])),
        pose=pose or dealer.choose(POSES),
        facing=facing,
        eyes=eyes,
    )
    return Scene(background, piece=girl)


def _figure(scene: Scene) -> Figure:
    if not isinstance(scene.piece, Figure):
        raise NoRoom
    return scene.piece


def _become(scene: Scene, piece: Centrepiece) -> Scene:
    return replace(scene, piece=piece)


def _poses(scene: Scene) -> tuple[Scene, ...]:
    """The same girl in every other pose."""
    girl = _figure(scene)
    return tuple(_become(scene, replace(girl, pose=pose)) for pose in POSES if pose != girl.pose)


def fusion_headline(dealer: Dealer) -> Plan:
    """The girl of image 1 in the clothes of image 2 and the pose of image 3."""
    scene = _girl(dealer)
    girl = _figure(scene)
    colour = dealer.choose(sorted(SHOWS[scene.background]), but=[girl.colour])
    clothes = Garment(dealer.choose(GARMENTS), colour)
    pose = dealer.choose(POSES, but=[girl.pose])
    model: Scene = Scene("night", piece=Skeleton(pose)) if dealer.chance(0.5) else _girl(dealer, pose=pose)
    after = _become(scene, replace(girl, garment=clothes.kind, colour=clothes.colour, pose=pose))
    slots = {"garment": words.garment(clothes), "kind": words.GARMENT[clothes.kind]}
    wrongs = (
        *_poses(after),
        _become(scene, replace(girl, pose=pose)),
        *(_become(after, replace(_figure(after), garment=kind)) for kind in GARMENTS if kind != clothes.kind),
        *(_become(after, replace(_figure(after), hair=hair)) for hair in HAIR if hair != girl.hair),
    )
    wardrobe = Scene(dealer.choose(PLAIN), piece=clothes)
    return Plan((scene, wardrobe, model), after, slots, wrongs=wrongs)


def consistency_clothes(dealer: Dealer) -> Plan:
    """The same girl in other clothes."""
    scene = _girl(dealer)
    girl = _figure(scene)
    clothes = Garment(
        dealer.choose(GARMENTS), dealer.choose(sorted(SHOWS[scene.background]), but=[girl.colour])
    )
    after = _become(scene, replace(girl, garment=clothes.kind, colour=clothes.colour))
    others = tuple(
        _become(after, replace(_figure(after), garment=kind)) for kind in GARMENTS if kind != clothes.kind
    )
    worn = words.garment(clothes)
    return Plan((scene,), after, {"garment": Said(words.article(worn.en), worn.zh)}, wrongs=others)


def consistency_place(dealer: Dealer) -> Plan:
    """The same girl elsewhere."""
    scene = _girl(dealer)
    girl = _figure(scene)
    names = [name for name in BACKGROUNDS if name != scene.background and girl.colour in SHOWS[name]]
    name = dealer.choose(names)
    wrongs = tuple(replace(scene, background=other) for other in names if other != name)
    return Plan(
        (scene,), replace(scene, background=name), {"background": words.BACKGROUND[name]}, wrongs=wrongs
    )


def goods(dealer: Dealer) -> Plan:
    """An object becomes a print on a shirt or a bag."""
    scene = dealer.scene(most=1)
    if not scene.things:
        raise NoRoom
    it = scene.things[0]
    kind = dealer.choose(GOODS)
    after = Scene("grey", piece=Goods(kind, it))
    wrongs = tuple(_become(after, Goods(other, it)) for other in GOODS if other != kind)
    wrongs = (*wrongs, _become(after, Goods(kind)))
    slots = {
        "goods": words.GOODS[kind],
        "thing": words.thing(it, size=False),
        "shape": words.SHAPE[it.shape],
    }
    return Plan((scene,), after, slots, wrongs=wrongs, unseen=dealer.unseen)


def keypoints(dealer: Dealer) -> Plan:
    """A stick figure becomes the girl that is described."""
    after = _girl(dealer)
    girl = _figure(after)
    before = Scene("night", piece=Skeleton(girl.pose))
    slots = {"figure": words.figure(girl), "background": words.BACKGROUND[after.background]}
    return Plan((before,), after, slots, wrongs=_poses(after))


def pose(dealer: Dealer) -> Plan:
    """The same girl in another pose."""
    scene = _girl(dealer)
    girl = _figure(scene)
    new = dealer.choose(POSES, but=[girl.pose])
    after = _become(scene, replace(girl, pose=new))
    return Plan((scene,), after, {"pose": words.POSE[new][0]}, wrongs=_poses(after))


def portrait(dealer: Dealer) -> Plan:
    """Her eyes open or close."""
    eyes = dealer.choose(EYES)
    scene = _girl(dealer, eyes="closed" if eyes == "open" else "open")
    return Plan((scene,), _become(scene, replace(_figure(scene), eyes=eyes)), {"eyes": words.EYES[eyes]})


def viewpoint(dealer: Dealer) -> Plan:
    """The same girl from another side."""
    facing = dealer.choose(FACINGS)
    scene = _girl(dealer, facing=facing, pose="stand")
    new = dealer.choose(FACINGS, but=[facing])
    girl = _figure(scene)
    wrongs = tuple(
        _become(scene, replace(girl, facing=other)) for other in FACINGS if other not in (new, facing)
    )
    after = _become(scene, replace(girl, facing=new))
    return Plan((scene,), after, {"facing": words.FACING[new]}, wrongs=wrongs)


def _sign(dealer: Dealer) -> tuple[Scene, Sign]:
    sign = Sign(dealer.choose((*WORDS_EN, *WORDS_ZH)), dealer.choose(SIGN_COLOURS), dealer.choose(MATERIALS))
    return Scene(dealer.choose(BACKGROUNDS), piece=sign), sign


def _word(text: str) -> Said:
    return Said(text, text)


def sign_word(dealer: Dealer) -> Plan:
    """The sign says another word."""
    scene, sign = _sign(dealer)
    word = dealer.choose((*WORDS_EN, *WORDS_ZH), but=[sign.word])
    other = dealer.choose((*WORDS_EN, *WORDS_ZH), but=[word, sign.word])
    after = _become(scene, replace(sign, word=word))
    slots = {"word": _word(word), "old": _word(sign.word)}
    return Plan((scene,), after, slots, wrongs=(_become(scene, replace(sign, word=other)),))


def sign_colour(dealer: Dealer) -> Plan:
    """The letters get another colour."""
    scene, sign = _sign(dealer)
    colour = dealer.choose(SIGN_COLOURS, but=[sign.colour])
    after = _become(scene, replace(sign, colour=colour))
    wrongs = tuple(
        _become(scene, replace(sign, colour=c)) for c in SIGN_COLOURS if c not in (colour, sign.colour)
    )
    slots = {"colour": words.COLOUR[colour], "old": _word(sign.word)}
    return Plan((scene,), after, slots, wrongs=wrongs)


def sign_material(dealer: Dealer) -> Plan:
    """The board is made of something else."""
    scene, sign = _sign(dealer)
    material = dealer.choose(MATERIALS, but=[sign.material])
    wrongs = tuple(
        _become(scene, replace(sign, material=other))
        for other in MATERIALS
        if other not in (material, sign.material)
    )
    after = _become(scene, replace(sign, material=material))
    return Plan((scene,), after, {"material": words.MATERIAL[material]}, wrongs=wrongs)


TASKS: dict[str, Task] = {
    "fusion_headline": Task("fusion_headline", 3, fusion_headline),
    "consistency_clothes": Task("consistency", 1, consistency_clothes),
    "consistency_place": Task("consistency", 1, consistency_place),
    "goods": Task("goods", 1, goods),
    "keypoints": Task("keypoints", 1, keypoints),
    "pose": Task("pose", 1, pose),
    "portrait": Task("portrait", 1, portrait),
    "viewpoint": Task("viewpoint", 1, viewpoint),
    "sign_word": Task("sign_text", 1, sign_word),
    "sign_colour": Task("sign_text", 1, sign_colour),
    "sign_material": Task("sign_text", 1, sign_material),
}
