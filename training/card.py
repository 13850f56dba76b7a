"""Writes the model card of a run: what it was taught, how, for how long, and how often it is right.

Everything in it is read off the code, the log and the evaluation, but for `NOTE.md` in the run's folder, where whoever
ran it says what no program knows. Knows no training.
"""

from __future__ import annotations

import json
import os
import platform
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from danqing.judge.glyphs import WORDS_EN, WORDS_ZH
from danqing.judge.scenes import ROWS
from danqing.judge.world import BACKGROUNDS, COLOURS, SHAPES
from danqing.judge.world import SIZES as SIZES_OF_THINGS
from training.batches import SIZES, TARGETS
from training.build import Shape
from training.denoiser import AVERAGE, PEAK
from training.files import LOG

WIDTH = 120
FAILS = 0.5  # a row answered less often than this is named among what it cannot do

_PLAIN = ("text_to_image", "recolour", "replace", "delete", "add", "move", "background")
AIMS = (
    dict.fromkeys(ROWS, 0.7)
    | dict.fromkeys(_PLAIN, 0.9)
    | dict.fromkeys(("restore", "colourise", "enhance"), 0.85)
    | dict.fromkeys(("sketch", "depth", "fusion_object"), 0.75)
)
"""How often each row should be right."""

_BESIDE = "more lessons: among several things another than the one that was meant is changed as well, or lost"
_OUTLINE = "more lessons: small outlines that only have to be kept come out as another shape"
_SAID = (
    "more lessons: of things told by colour and shape alone, without their places, two exchange their colours"
)
_WANTS = dict.fromkeys(("recolour", "replace", "delete", "move"), _BESIDE) | {
    "background": _OUTLINE,
    "restore": _OUTLINE,
    "colourise": _SAID,
    "sketch": _SAID,
    "enhance": "outlines exact to a pixel, by more lessons or at 256x256: half of the blur is left where 0.4 may be",
    "style": "more lessons of it: squares and line drawings change every pixel, and come out soft",
    "sign_text": "256x256, for letters of more pixels: material and colour of signs are right, words mostly not",
}
"""What it would take to reach the aim, as seen in the faults."""

_HEAD = """# The miniature

A checkpoint of this project's own in the layout of Qwen-Image-2.1: a Qwen3-VL text encoder, the block-causal
`QwenImage21Transformer2DModel`, the 16x RGBA `AutoencoderKLQwenImage21`, a flow-matching scheduler. It draws and edits
**small pictures of a drawn world** on a CPU, so that an installation, a test or a demonstration has a real model with a
checkable meaning behind it. It makes no photographs, and is no measure of what the large model can do.

Licence: Apache-2.0. Nothing in it comes from any other checkpoint or from any collected picture or text.

Load it in float32, with `danqing.engine.processor.build_processor`, which needs no torchvision:
`QwenImage21Pipeline.from_pretrained(folder, processor=build_processor(folder), dtype=torch.float32)`.
"""

_DATA = """## What it was taught

Only pictures that `danqing.judge` draws, with their instructions in English, Simplified and Traditional Chinese:
{shapes} shapes, {colours} colours, {things} sizes, {backgrounds} backgrounds, people, garments and signs with {words}
words; {tasks} tasks in {rows} rows, with up to three input pictures. Pictures of {sizes}. Held-out questions are parted
from the taught ones by their seeds, and some pairs of shape and colour are in no lesson at all (the autoencoder, which
reads no words, has seen them). The autoencoder also saw dead leaves, gradients, strokes and writing, so that an
ordinary photograph passes through it recognisably.
"""

_BEGUN = """## How it was trained

`python -m training --out FOLDER` does it in one command (`training/`). The autoencoder first, {steps:,} steps in
{minutes:.0f} minutes; then encoder and denoiser together"""

_WENT_ON = """## How it was trained

`python -m training --out FOLDER --start OLDER` (`training/`) went on from an older checkpoint of this project, with its
autoencoder, and with {blocks} blocks of the denoiser where there are {layers} now: encoder and denoiser together"""

_RECIPE = """ by flow matching, {steps:,} steps and {samples:,} requests, each with {targets} noise levels, in
{minutes:.0f} minutes. Minutes are of processor time of each of the processes that trained side by side ({machine}).
Muon for matrices, AdamW for the rest, peak rate {peak:g}, bf16 autocast; these are the running averages of the weights
({average}).
"""

_CANNOT = """## What it cannot do

- Anything outside that world: unknown words are read as bytes and mostly ignored; a photograph comes back as a blur of
  flat colours.
- Pictures much larger than it was taught: the server draws at a taught size and scales up.
- One step: use eight to ten.
"""


@dataclass(frozen=True, slots=True)
class Story:
    """The last lines that a run logged of its stages."""

    start: Mapping[str, Any]
    vae: Mapping[str, Any]
    denoiser: Mapping[str, Any]

    @classmethod
    def read(cls, lines: Iterable[str]) -> Story:
        """Of a log; stages it lacks are empty."""
        last: dict[str, dict[str, Any]] = {"start": {}, "vae": {}, "denoiser": {}}
        for line in map(json.loads, lines):
            last[line["stage"]] = line
        return cls(last["start"], last["vae"], last["denoiser"])


def write_card(folder: Path, work: Path, figures: Mapping[str, Any]) -> None:
    """MODEL_CARD.md of the checkpoint in `folder`, trained in `work`, judged with `figures` (see `evaluate`)."""
    log = work / LOG
    story = Story.read(log.read_text("utf-8").splitlines() if log.is_file() else ())
    note = work / "NOTE.md"
    parts = [
        _HEAD,
        _parts(folder),
        _data(),
        _recipe(story),
        note.read_text("utf-8") if note.is_file() else "",
        _accuracy(figures),
        _cannot(figures),
    ]
    text = "\n\n".join(_filled(part) for part in "\n".join(parts).split("\n\n") if part.strip())
    (folder / "MODEL_CARD.md").write_text(text + "\n", encoding="utf-8")


def _filled(part: str) -> str:
    """A paragraph with lines of one length; headings, tables and lists as they are."""
    part = part.strip()
    return (
        part
        if part[0] in "#|-"
        else textwrap.fill(part, WIDTH, break_long_words=False, break_on_hyphens=False)
    )


def _parts(folder: Path) -> str:
    shape = Shape()
    named = {
        "transformer": f"{shape.layers} layers, {shape.heads} heads x {shape.head_dim}",
        "text_encoder": f"{shape.text_layers} layers, hidden {shape.text_hidden}; its vision tower is silent",
        "vae": f"{shape.latent_channels} latent channels, 16x",
    }
    rows = ["| part | size | stored |", "|---|---|---|"]
    for name, what in named.items():
        numbers, size = _weight(folder / name)
        rows.append(f"| {name}: {what} | {numbers / 1e6:.1f} M parameters | {size / 1e6:.1f} MB |")
    return "\n".join(rows) + "\n"


def _weight(part: Path) -> tuple[int, int]:
    """Parameters of a part, and its bytes on disk."""
    numbers = size = 0
    for path in part.glob("*.safetensors"):
        size += path.stat().st_size
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # not a mapping
                count = 1
                for side in tensors.get_slice(name).get_shape():
                    count *= side
                numbers += count
    return numbers, size


def _data() -> str:
    return _DATA.format(
        shapes=len(SHAPES),
        colours=len(COLOURS),
        things=len(SIZES_OF_THINGS),
        backgrounds=len(BACKGROUNDS),
        words=len(WORDS_EN) + len(WORDS_ZH),
        tasks=sum(map(len, ROWS.values())),
        rows=len(ROWS),
        sizes=", ".join(f"{width}x{height}" for width, height in SIZES),
    )


def _recipe(story: Story) -> str:
    vae, denoiser = story.vae, story.denoiser
    if story.start:
        begun = _WENT_ON.format(blocks=story.start["blocks"], layers=Shape().layers)
    else:
        begun = _BEGUN.format(steps=vae.get("step", 0), minutes=vae.get("seconds", 0) / 60)
    return begun + _RECIPE.format(
        steps=denoiser.get("step", 0),
        samples=denoiser.get("samples", 0),
        minutes=denoiser.get("seconds", 0) / 60,
        targets=TARGETS,
        machine=f"{_processor()}, {os.cpu_count()} cores",
        peak=PEAK,
        average=AVERAGE,
    )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _accuracy(figures: Mapping[str, Any]) -> str:
    gap, half = figures["en_minus_zh"]
    rows = [
        "## How often it is right\n",
        f"{figures['count']} held-out questions a row, each asked in English and in Chinese of the same scene, at",
        f"{figures['side']}x{figures['side']}, judged by `danqing.judge.score` (every object's place, colour and",
        "outline, the rest unchanged): `make eval`.\n",
        "| row | right | aim |",
        "|---|---|---|",
        *(f"| `{row}` | {share:.1%} | {AIMS[row]:.0%} |" for row, share in figures["rows"].items()),
        f"| **all** | **{figures['overall']:.1%}** | |\n",
        *_short(figures["rows"]),
        f"English minus Chinese: {100 * gap:+.1f} ± {100 * half:.1f} points. Of the tasks that ask about both, pairs",
        f"of shape and colour that were taught: {figures['seen']:.0%}; that were not: {figures['unseen']:.0%}.\n",
    ]
    return "\n".join(rows)


def _short(rows: Mapping[str, float]) -> list[str]:
    """A line for every row that is short of its aim."""
    short = [row for row, share in rows.items() if share < AIMS[row]]
    lines = [f"- `{row}`: {_WANTS.get(row, 'more lessons')}." for row in short]
    return ["What the rows short of their aim would take:\n", *lines, ""] if lines else []


def _cannot(figures: Mapping[str, Any]) -> str:
    weak = [f"`{row}` ({share:.0%})" for row, share in figures["rows"].items() if share < FAILS]
    if not weak:
        return _CANNOT
    return _CANNOT + f"- What it is asked in these rows, more often than not: {', '.join(weak)}.\n"
