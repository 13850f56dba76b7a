"""The tiny checkpoint and what is loaded from it, once for all engine tests. One torch thread: repeatable sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from danqing.core.events import Event, Work
from danqing.core.raster import Raster, Size
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Room
from danqing.engine.processor import build_processor
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from danqing.schedule.cost import Saturation
from danqing.schedule.policy import InOrder, Urgency, by_arrival
from tests.support.tiny import tiny_checkpoint

SIDE = 64
STEPS = 4
SQUARE = Size(SIDE, SIDE)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def family(tiny: Path) -> QwenImage21:
    return QwenImage21(tiny, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def stock(tiny: Path) -> Any:
    pipeline = DiffusionPipeline.from_pretrained(tiny, processor=build_processor(tiny))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def profile(tiny: Path) -> Profile:
    native = Native()
    checkpoint = Checkpoint("tiny", str(tiny), native, Relation.MINIATURE, "Apache-2.0")
    return Profile("tiny", "", {"tiny": checkpoint}, {"*": Preset("tiny", STEPS, 1.0, 3.0)})


def make_work(
    token: str = "a", *, inputs: int = 0, count: int = 1, negative: str | None = None, **more: Any
) -> Work:
    given = tuple(picture(place) for place in range(inputs))
    asked = {
        "model": "any",
        "prompt": "a red cat",
        "size": SQUARE,
        "seed": 7,
        "inputs": given,
        **more,
    }
    return Work(token=token, count=count, negative_prompt=negative, **asked)


def picture(place: int, size: Size = SQUARE) -> Raster:
    noise = torch.Generator().manual_seed(100 + place)
    levels = torch.randint(0, 256, (size.area * 3,), generator=noise, dtype=torch.uint8)
    return Raster(size, 3, levels.numpy().tobytes())


class Crank:
    """An engine turned by hand, and what it said."""

    def __init__(
        self, profile: Profile, family: Any, *, urgency: Urgency = by_arrival, half: float = 0.0
    ) -> None:
        self.heard: list[Event] = []
        self.room = Room(1 << 34)
        order = InOrder(urgency, Saturation(half=half))
        self.engine = StepEngine(profile, {"tiny": family}, policy=order, room=self.room)
        self.engine.listen(self.heard.append)

    def start(self, *works: Work) -> None:
        for work in works:
            self.engine.put(work)

    def turn(self, times: int = 10_000) -> None:
        for _ in range(times):
            if not self.engine.tick():
                return

    def of(self, kind: type[Event], token: str | None = None) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind) and token in (None, event.token)]


@pytest.fixture
def crank(profile: Profile, family: QwenImage21) -> Callable[..., Crank]:
    def make(using: Any = family, **more: Any) -> Crank:
        return Crank(profile, using, **more)

    return make
