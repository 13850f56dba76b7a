"""How often is the answer right? Held-out drawn cases of every row, the same scenes in English and in Chinese.

    python -m bench.eval                                        the bundled checkpoint, through the engine
    python -m bench.eval --model FOLDER --count 25              another one of its layout
    python -m bench.eval --server URL --key KEY --count 10      whatever a running service draws with

Accuracy is judged at native size, times are taken at 512 x 512. Prints a table with 95 % intervals, writes a contact
sheet of right and wrong answers, and ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from statistics import fmean
from typing import Any

import numpy as np
import torch

from bench.answers import (
    EngineAnswers,
    ServerAnswers,
    Unanswered,
    avoided,
    of_checkpoint,
    seconds_of_an_edit,
)
from bench.figures import commit
from danqing.judge.exam import Paper, Tally, judge_judge
from danqing.judge.scenes import LANGUAGES, ROWS, Case
from danqing.judge.score import Verdict, judge
from tools.sheet import Row, draw_sheet

CHUNK = 8
JUDGED = 6  # questions a row whose right and wrong answers test the judge itself


@dataclass(frozen=True, slots=True)
class Asked:
    """Where the answers come from: a checkpoint folder, or a service."""

    model: str | None
    server: str | None
    key: str | None
    names: tuple[str, str]
    steps: int | None

    def answers(self, threads: int = 1) -> EngineAnswers | ServerAnswers:
        """Ready to be asked; made in the process that asks."""
        if self.server:
            return ServerAnswers(self.server, self.key or "", self.names)
        return EngineAnswers(self.model, steps=self.steps, threads=threads)


Answered = tuple[Case, Verdict, Any]
"""A question, what the judge says of the answer, and the answer; None where no picture came."""


def _sit(asked: Asked, paper: Paper, mine: int, of: int, out: Any) -> None:
    """One process: every `of`-th chunk of the questions, the answers into a queue."""
    answers = asked.answers()
    questions = list(paper.questions())
    for start in range(mine * CHUNK, len(questions), of * CHUNK):
        chunk = [paper.draw(question) for question in questions[start : start + CHUNK]]
        for case, picture in zip(chunk, answers.ask(chunk), strict=True):
            if isinstance(picture, Unanswered):
                out.put((case, Verdict(False, (f"no picture: {picture.why}",)), None))
            else:
                out.put((case, judge(case, picture), picture))
    out.put(None)


def collect(asked: Asked, paper: Paper, processes: int) -> Iterator[Answered]:
    """All questions, asked by several processes with one thread each, as the answers come."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=64)
    workers = [
        context.Process(target=_sit, args=(asked, paper, number, processes, queue), daemon=True)
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    running = processes
    while running:
        try:
            told = queue.get(timeout=1.0)
        except Empty:
            if any(worker.exitcode for worker in workers):
                raise SystemExit("a process that asked the questions has died: see above") from None
            continue
        if told is None:
            running -= 1
        else:
            yield told
    for worker in workers:
        worker.join()


def print_table(tally: Tally, rows: Sequence[str]) -> None:
    """For people."""
    print(
        f"{'row':18}"
        + "".join(f"{language:>8}" for language in LANGUAGES)
        + f"{'both':>8}   95 %         asked"
    )
    for row in rows:
        shares = "".join(f"{tally.share(row, language):8.1%}" for language in LANGUAGES)
        low, high = tally.interval(row)
        print(f"{row:18}{shares}{tally.share(row):8.1%}   {low:.0%}-{high:<8.0%}{tally.asked(row):6}")


def write_sheet(path: Path, shown: Mapping[tuple[str, bool], Answered]) -> None:
    """Of every row one question that was answered rightly and one that was not."""
    order = sorted(shown, key=lambda key: (list(ROWS).index(key[0]), not key[1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet([_sheet_row(*shown[key]) for key in order]).save(path)


def _sheet_row(case: Case, verdict: Verdict, picture: Any) -> Row:
    from PIL import Image

    note = "right" if verdict.right else "WRONG: " + "; ".join(verdict.reasons[:2])
    inputs = [Image.fromarray(one) for one in case.inputs]
    drawn = np.zeros_like(case.truth) if picture is None else picture
    outputs = [Image.fromarray(drawn), Image.fromarray(case.truth)]
    return Row(
        case.instruction, f"({case.row})", inputs, outputs, f"{case.row}: {note} (left drawn, right true)"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a checkpoint folder; without it the bundled one")
    parser.add_argument("--server", help="base URL of a running service, up to and without /api/v1")
    parser.add_argument(
        "--key", default=os.environ.get("DASHSCOPE_API_KEY"), help="its key (DASHSCOPE_API_KEY)"
    )
    parser.add_argument(
        "--models", default="qwen-image-2.0,qwen-image-edit-max", help="names to ask it for: drawing, editing"
    )
    parser.add_argument("--side", type=int, help="shorter side of the questions (128; 512 for a service)")
    parser.add_argument(
        "--count", type=int, default=100, help="questions for each row, each in every language"
    )
    parser.add_argument("--first", type=int, default=0, help="first held-out seed")
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--steps", type=int, help="instead of the profile's own")
    parser.add_argument("--processes", type=int, help="that ask; of a service 2, else as many as cores")
    parser.add_argument("--faults", action="store_true", help="say what went wrong")
    parser.add_argument("--sheet", type=Path, default=Path(".eval/contact-sheet.png"))
    parser.add_argument("--no-times", action="store_true", help="accuracy only")
    options = parser.parse_args()
    if options.server and not options.key:
        parser.error("a service is asked with a key: --key, or DASHSCOPE_API_KEY in the environment")
    if options.server and options.steps:
        parser.error("--steps is for checkpoints; a service takes its own")
    return options


def distance(case: Case, picture: Any) -> float | None:
    """How far a picture is from the true one: the mean absolute difference of a channel, in levels of 255; None if
    there is none, or one of another size. It tells checkpoints apart that answer nothing rightly yet; where they do,
    the judge decides, as a right picture may differ from the true one."""
    if picture is None or picture.shape != case.truth.shape:
        return None
    return float(np.abs(picture.astype(np.int16) - case.truth).mean())


def figures(tally: Tally, rows: Sequence[str]) -> dict[str, Any]:
    """What the JSON line says of accuracy."""
    shares = {row: round(tally.share(row), 4) for row in rows}
    gap, half = tally.gap("en", "zh")
    seen, unseen = tally.novelty()
    return {
        "overall": round(sum(shares.values()) / len(shares), 4),
        "rows": shares,
        "languages": {language: round(tally.share(language=language), 4) for language in LANGUAGES},
        "en_minus_zh": [round(gap, 4), round(half, 4)],
        "seen": round(seen, 4),
        "unseen": round(unseen, 4),
    }


def measured(asked: Asked, *, times: bool) -> dict[str, Any]:
    """What the JSON line says besides; None is what cannot be known, or was not to be measured."""
    names = ("edit_512_one_input_s", "edit_512_three_inputs_s", "negative_avoided", "negative_control")
    line: dict[str, Any] = dict.fromkeys((*names, "megabytes", "native", "steps"))
    if times:
        answers = asked.answers(threads=torch.get_num_threads())
        line |= seconds_of_an_edit(answers)
        if isinstance(answers, EngineAnswers):
            line |= avoided(answers)
    return line if asked.server else line | of_checkpoint(asked.model, asked.steps)


def main() -> None:
    """Ask, judge, tell."""
    options = _options()
    names = tuple(options.models.split(","))
    side = options.side or (512 if options.server else 128)
    asked = Asked(options.model, options.server, options.key, (names[0], names[-1]), options.steps)
    paper = Paper(tuple(options.rows), LANGUAGES, options.count, options.first, (side, side))
    began, tally = time.monotonic(), Tally()
    shown: dict[tuple[str, bool], Answered] = {}
    distances: dict[str, list[float]] = {row: [] for row in paper.rows}
    processes = options.processes or (2 if options.server else os.cpu_count() or 1)
    for case, verdict, picture in collect(asked, paper, processes):
        tally.add(case, verdict)
        shown.setdefault((case.row, verdict.right), (case, verdict, picture))
        if (far := distance(case, picture)) is not None:
            distances[case.row].append(far)
    print_table(tally, paper.rows)
    for case, verdict in tally.faults() if options.faults else ():
        print(
            f"  {case.task} {case.language} {case.seed}: {case.instruction} -> {'; '.join(verdict.reasons)}"
        )
    write_sheet(options.sheet, shown)
    true, false, passed = judge_judge(
        replace(paper, languages=("en",), count=JUDGED, first=options.first).cases()
    )
    for name, count in passed.most_common():
        print(f"  the judge passed {count} x {name}")
    line: dict[str, Any] = figures(tally, paper.rows) | {
        "judge_true": round(true, 4),
        "judge_false": round(false, 4),
        "distances": {row: round(fmean(far), 2) for row, far in distances.items() if far},
    }
    line |= measured(asked, times=not options.no_times)
    line |= {
        "commit": commit(),
        "model": options.server or options.model or "bundled",
        "side": side,
        "first": options.first,
        "count": options.count,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    print(f"contact sheet: {options.sheet}")
    print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
