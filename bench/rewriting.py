"""Do rewritten prompts bring more right answers? Requests outside the taught grammar, with rewriting off and on.

    python -m bench.rewriting [--model FOLDER] [--count 200] [--faults]

The scenes are the judge's held-out ones, of what the shipped weights were taught (one object, four shapes, six colours,
five places, eight backgrounds); the requests are phrased from `bench/rewriting.toml`, half in English and half in
Chinese, two of five for a picture from words alone and the rest for an edit. Both halves of each pair are drawn by the
same engine from the same noise and judged alike. A third column has the same questions in a taught sentence: what
rewriting could bring at most. Prints a table and ends with one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.answers import EngineAnswers
from danqing.core.writing import CannotWrite
from danqing.judge.scenes import Case, Plan, draw_case, plan_case
from danqing.judge.score import judge
from danqing.judge.words import say
from danqing.judge.world import Scene, Thing
from danqing.prompts.grammar import Grammar

PHRASINGS = tomllib.loads((Path(__file__).parent / "rewriting.toml").read_text("utf-8"))
EDITS = ("recolour", "replace", "delete", "add", "move", "background")
TASKS = ("text_to_image", *EDITS)
SHAPES = frozenset(("circle", "square", "triangle", "heart"))
COLOURS = frozenset(("red", "yellow", "green", "blue", "purple", "black"))
PLACES = frozenset(("centre", "left", "right", "top", "bottom"))
WAYS = ("as it is", "rewritten", "as taught")


def taught(plan: Plan) -> bool:
    """Whether all of it is of what the shipped weights know."""
    scenes = (*plan.befores, plan.after)
    things = [thing for scene in scenes for thing in scene.things]
    known = all(
        it.shape in SHAPES and it.colour in COLOURS and it.place in PLACES and it.size == "medium"
        for it in things
    )
    return known and all(scene.background != "classroom" for scene in scenes)


def most(task: str) -> int:
    """Objects in a scene before the edit: one, which `add` counts with the one that comes."""
    return 2 if task == "add" else 1


def seeds(task: str) -> Iterator[int]:
    """Held-out scenes of that task, in order."""
    return (
        seed
        for seed in itertools.count()
        if taught(plan := plan_case(task, seed, least=1, most=most(task)))
        and all(len(scene.things) == 1 for scene in plan.befores)
    )


def spoken(plan: Plan, task: str, language: str, rng: random.Random) -> str:
    """One request for the plan's answer, its words drawn from the phrasings of that language."""
    table = PHRASINGS[language]
    before, after = (plan.befores[0] if plan.befores else Scene("white")), plan.after

    def named(it: Thing) -> str:
        colour = rng.choice(table["colour"][it.colour])
        return f"{colour} {rng.choice(table['shape'][it.shape])}".replace(
            " ", " " if language == "en" else ""
        )

    old = before.things[0] if before.things else None
    new = next((it for it in after.things if it not in before.things), None)
    slots = {"background": rng.choice(table["background"][after.background])}
    subject = new if task in {"text_to_image", "add"} else old
    if subject is not None:
        slots["thing"] = named(subject)
    if new is not None:
        slots |= {"new": named(new), "on": rng.choice(table["on"][new.place])}
        slots["colour"] = rng.choice(table["colour"][new.colour])
    ways = table["background_edit" if task == "background" else task]["ways"]
    return str(rng.choice(ways)).format(**slots)


def questions(count: int) -> Iterator[Case]:
    """So many requests, each scene in one language, always the same ones."""
    rng = random.Random(20261121)
    for task in TASKS:
        share = count * 2 // 5 if task == "text_to_image" else count // 10
        for place, seed in enumerate(itertools.islice(seeds(task), share)):
            language = "en" if place < share // 2 else "zh"
            case = draw_case(task, seed, language, least=1, most=most(task))
            yield replace(case, instruction=spoken(case.plan, task, language, rng))


def rewritten(case: Case, grammar: Grammar) -> Case:
    """As the worker would have it: the request as it is where it cannot be rewritten."""
    try:
        return replace(case, instruction=grammar.rewritten(case.instruction, len(case.inputs)))
    except CannotWrite:
        return case


def in_a_taught_sentence(case: Case) -> Case:
    """The same question in the judge's first way to ask it."""
    return replace(case, instruction=say(case.task, 0, case.language, dict(case.plan.slots)))


def answered(answers: EngineAnswers, cases: list[Case]) -> list[bool]:
    """Whether each is answered rightly."""
    right = []
    for start in range(0, len(cases), 8):
        chunk = cases[start : start + 8]
        pictures = answers.ask(chunk)
        right += [judge(case, picture).right for case, picture in zip(chunk, pictures, strict=True)]
    return right


def measure(model: str | None, count: int, faults: bool) -> dict[str, Any]:
    """The figures as a dictionary; a table on the way."""
    grammar = Grammar()
    asked = list(questions(count))
    given = {
        "as it is": asked,
        "rewritten": [rewritten(case, grammar) for case in asked],
        "as taught": [in_a_taught_sentence(case) for case in asked],
    }
    answers = EngineAnswers(model)
    right = {way: answered(answers, cases) for way, cases in given.items()}
    placed = sum(a.instruction != b.instruction for a, b in zip(asked, given["rewritten"], strict=True))
    print(f"{'':16}{'asked':>6}" + "".join(f"{way:>12}" for way in WAYS))
    groups: list[tuple[str, list[int]]] = [
        (name, [i for i, case in enumerate(asked) if name in (case.task, case.language)])
        for name in (*TASKS, "en", "zh")
    ]
    groups.append(("all", list(range(len(asked)))))
    shares: dict[str, dict[str, float]] = {}
    for name, which in groups:
        shares[name] = {way: sum(right[way][i] for i in which) / max(1, len(which)) for way in WAYS}
        print(f"{name:16}{len(which):6}" + "".join(f"{shares[name][way]:12.1%}" for way in WAYS))
    for case, said, fair in zip(asked, given["rewritten"], given["as taught"], strict=True) if faults else ():
        print(f"  {case.task} {case.language}: {case.instruction} -> {said.instruction} | {fair.instruction}")
    share = shares["all"]
    return {
        "count": len(asked),
        "rewritten": placed,
        "off": round(share["as it is"], 4),
        "on": round(share["rewritten"], 4),
        "gain": round(share["rewritten"] - share["as it is"], 4),
        "taught": round(share["as taught"], 4),
    }


def main() -> None:
    """Ask, judge, tell."""
    read = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    read.add_argument("--model", help="a checkpoint folder; without it the bundled one")
    read.add_argument("--count", type=int, default=200)
    read.add_argument(
        "--faults", action="store_true", help="show every request, what became of it, what was meant"
    )
    asked = read.parse_args()
    print(json.dumps(measure(asked.model, asked.count, asked.faults), ensure_ascii=False))


if __name__ == "__main__":
    main()
