"""Who answers the judge's questions: the step engine with a checkpoint, or a service through its public API.

Knows how pictures travel; refuses to know which answer is right.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from danqing.core.events import Event, Failed, Finished, ImageReady, Work
from danqing.core.raster import Raster, Size
from danqing.engine.build import open_engine
from danqing.judge.backdrops import Pixels
from danqing.judge.colour import apart, lab
from danqing.judge.scenes import Case, Plan, draw_case
from danqing.judge.world import COLOURS, Scene
from danqing.pixels.png import encode
from danqing.profiles.loader import Profile, load_profile

STANDS_OUT = 12.0  # in CIELAB
NOTHING_OF_IT = "blurred, text"
_BLANK = np.full((128, 128, 3), 255, np.uint8)
TRIES = 6
LATER = {429, 500, 502, 503, 504}  # a service that answers so may be asked again
GENERATION = "/api/v1/services/aigc/multimodal-generation/generation"


def profile_of(folder: str | None, steps: int | None = None) -> Profile:
    """The miniature's profile, with another folder in the place of its checkpoint."""
    profile = load_profile("miniature")
    (name, checkpoint), *_ = profile.checkpoints.items()
    if folder:
        profile = replace(
            profile, checkpoints={name: replace(checkpoint, source=str(Path(folder).resolve()))}
        )
    if steps:
        models = {model: replace(preset, steps=steps) for model, preset in profile.models.items()}
        profile = replace(profile, models=models)
    return profile


def raster(pixels: Pixels) -> Raster:
    """An array of height x width x 3 as the engine takes it."""
    height, width = pixels.shape[:2]
    return Raster(Size(width, height), 3, np.ascontiguousarray(pixels).tobytes())


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question to which no picture came, and why."""

    why: str


class EngineAnswers:
    """Questions of a chunk go to the engine together; it shares its time among them as it would for users."""

    def __init__(self, folder: str | None, *, steps: int | None = None, threads: int = 1) -> None:
        self.engine = open_engine(profile_of(folder, steps), "cpu", threads)
        self.heard: list[Event] = []
        self.engine.listen(self.heard.append)

    def ask(self, cases: Sequence[Case], avoid: Sequence[str | None] = ()) -> list[Pixels]:
        """One picture a case, in order, each of its own noise seed; `avoid` are negative prompts."""
        self.heard.clear()
        for number, case in enumerate(cases):
            self.engine.put(self._work(case, str(number), avoid[number] if avoid else None))
        while self.engine.tick():
            pass
        for event in self.heard:
            if isinstance(event, Failed):
                raise RuntimeError(f"the engine failed: {event.fault}")
        made = {event.token: event.raster for event in self.heard if isinstance(event, ImageReady)}
        return [_pixels(made[str(number)]) for number in range(len(cases))]

    def seconds(self, case: Case) -> float:
        """Engine time of one request alone."""
        self.ask([case])
        return next(event.seconds for event in self.heard if isinstance(event, Finished))

    @staticmethod
    def _work(case: Case, token: str, avoid: str | None) -> Work:
        width, height = case.size
        inputs = tuple(raster(picture) for picture in case.inputs)
        return Work(token, "any", case.instruction, avoid, inputs, 1, Size(width, height), case.seed)


def _pixels(drawn: Raster) -> Pixels:
    return np.frombuffer(drawn.data, np.uint8).reshape(drawn.size.height, drawn.size.width, drawn.channels)


class ServerAnswers:
    """One synchronous call of the native API a question. A service that is busy is asked again, a little later each
    time; what it refuses is unanswered."""

    def __init__(self, url: str, key: str, models: tuple[str, str], *, pause: float = 1.0) -> None:
        self.url, self.key, self.models, self.pause = url.rstrip("/") + GENERATION, key, models, pause

    def ask(self, cases: Sequence[Case]) -> list[Pixels | Unanswered]:
        """One picture a case, in order."""
        return [self._one(case) for case in cases]

    def seconds(self, case: Case) -> float | None:
        """From the call to the picture, of one request alone; None where no picture came."""
        began = time.perf_counter()
        answer = self._one(case)
        return None if isinstance(answer, Unanswered) else time.perf_counter() - began

    def _one(self, case: Case) -> Pixels | Unanswered:
        width, height = case.size
        content = [{"image": f"data:image/png;base64,{_base64(picture)}"} for picture in case.inputs]
        body = {
            "model": self.models[bool(case.inputs)],
            "input": {"messages": [{"role": "user", "content": [*content, {"text": case.instruction}]}]},
            "parameters": {
                "n": 1,
                "size": f"{width}*{height}",
                "seed": case.seed,
                "watermark": False,
                "prompt_extend": False,
            },
        }
        why = ""
        for number in range(TRIES):
            if number:
                time.sleep(self.pause * 2 ** (number - 1))
            try:
                return self._picture(body)
            except urllib.error.HTTPError as fault:
                why = f"HTTP {fault.code}: {fault.read().decode(errors='replace')[:200]}"
                if fault.code not in LATER:
                    break
            except OSError as fault:
                why = str(fault)
        return Unanswered(why)

    def _picture(self, body: Mapping[str, Any]) -> Pixels:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url, data=json.dumps(body).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            told: dict[str, Any] = json.load(answer)
        link = told["output"]["choices"][0]["message"]["content"][0]["image"]
        with urllib.request.urlopen(link, timeout=60) as answer:
            return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))


def _base64(picture: Pixels) -> str:
    return base64.b64encode(encode(raster(picture))).decode()


def colour_in_the_middle(picture: Pixels) -> str | None:
    """The world's colour that is nearest to the middle of a picture; None where nothing stands there."""
    height, width = picture.shape[:2]
    core = picture[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4]
    seen, behind = lab(core).mean((0, 1)), lab(picture[:8, :8]).mean((0, 1))
    if float(apart(seen, behind)) < STANDS_OUT:
        return None
    names = list(COLOURS)
    return names[int(apart(lab(np.array([COLOURS[name] for name in names], np.uint8)), seen).argmin())]


def avoided(answers: EngineAnswers, count: int = 24) -> dict[str, float]:
    """A thing of no said colour is drawn; then again from the same noise with what came as negative prompt ("a blue
    circle"). How often is it there in another colour? And how often with a negative prompt that names nothing of it:
    what guidance alone does."""
    scene = Scene("white")
    shapes = list(itertools.islice(itertools.cycle(("circle", "square", "heart", "diamond")), count))
    cases = [
        Case("text_to_image_loose", "en", seed, f"A {shape} in the middle.", (), _BLANK, Plan((), scene))
        for seed, shape in enumerate(shapes)
    ]
    first = [colour_in_the_middle(picture) for picture in answers.ask(cases)]
    shown = [(case, colour) for case, colour in zip(cases, first, strict=True) if colour]
    named = [f"a {colour} {shape}" for colour, shape in zip(first, shapes, strict=True) if colour]

    def share(avoid: Sequence[str]) -> float:
        then = [colour_in_the_middle(picture) for picture in answers.ask([case for case, _ in shown], avoid)]
        others = [new is not None and new != old for new, (_, old) in zip(then, shown, strict=True)]
        return round(sum(others) / max(1, len(others)), 3)

    return {
        "negative_avoided": share(named),
        "negative_control": share([NOTHING_OF_IT] * len(shown)),
    }


def seconds_of_an_edit(answers: EngineAnswers | ServerAnswers, repeats: int = 5) -> dict[str, float | None]:
    """Seconds of one 512 x 512 edit alone, the median of a few; the first is not counted. None where none came."""
    told: dict[str, float | None] = {}
    for name, task in (("edit_512_one_input_s", "recolour"), ("edit_512_three_inputs_s", "fusion_three")):
        cases = [draw_case(task, seed, "en", size=(512, 512)) for seed in range(repeats + 1)]
        taken = [seconds for case in cases if (seconds := answers.seconds(case)) is not None][1:]
        told[name] = round(statistics.median(taken), 3) if taken else None
    return told


def of_checkpoint(folder: str | None, steps: int | None = None) -> dict[str, float | None]:
    """The size of the safetensors in units of 1,000,000 bytes, the steps that are made, and the shorter side of what is
    drawn at most, None where that follows what was asked."""
    profile = profile_of(folder, steps)
    checkpoint, preset = next(iter(profile.checkpoints.values())), next(iter(profile.models.values()))
    place = checkpoint.folder
    size = sum(file.stat().st_size for file in place.rglob("*.safetensors")) / 1e6 if place else None
    native = max((min(bucket) for bucket in checkpoint.native.buckets), default=None)
    return {"megabytes": size and round(size, 1), "native": native, "steps": preset.steps}
