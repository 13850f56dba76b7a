"""One job's fault is its own: whatever goes wrong, wherever, its neighbours' pictures are those of their works
alone, to the bit, and the engine goes on."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from danqing.core.errors import EngineFailed
from danqing.core.events import Cancelled, Event, Failed, Finished, ImageReady, Started, Stepped, Work
from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite
from danqing.engine.cache import Budget
from danqing.engine.families.contract import NotFinite, Plan
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.faults import Kind, Mishap, kind_of, tried
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Need, Room
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from danqing.schedule.cost import Saturation
from danqing.schedule.policy import InOrder, by_arrival, by_turn
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_1x import tiny_1x
from tests.unit.engine.conftest import SIDE, STEPS, Crank, make_work
from tests.unit.engine.test_exactness import difference

KEEP = Budget(1 << 26)
ODD = Kind.OTHER


@dataclass(frozen=True, slots=True)
class House:
    """A family that remembers what it reads, and a profile for it."""

    family: Any
    profile: Profile

    def crank(self) -> Crank:
        self.family.forget()
        return Crank(self.profile, self.family, urgency=by_turn)

    def alone(self, work: Work) -> list[Raster]:
        made = self.crank()
        made.start(work)
        made.turn()
        return [event.raster for event in made.of(ImageReady)]


@pytest.fixture(scope="module", params=["2.1", "1.x"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> House:
    folder, native = tmp_path_factory.mktemp("house"), Native()
    cpu = torch.device("cpu")
    if request.param == "2.1":
        family: Any = QwenImage21(tiny_checkpoint(folder), cpu, torch.float32, KEEP)
    else:
        native = Native(multiple=16, input_area=SIDE * SIDE)
        family = QwenImage1(tiny_1x(folder, "edit_plus", told_clean=True), cpu, torch.float32, KEEP)
    checkpoint = Checkpoint("tiny", str(folder), native, Relation.MINIATURE, "Apache-2.0")
    return House(family, Profile("tiny", "", {"tiny": checkpoint}, {"*": Preset("tiny", STEPS, 1.0, 3.0)}))


NEIGHBOURS = (
    {"token": "left", "inputs": 1, "prompt": "a blue dog", "negative": "grey", "seed": 21},
    {"token": "right", "inputs": 2, "count": 2, "seed": 5},
)
BAD = {"token": "bad", "inputs": 1, "seed": 99, "count": 2}

PLACES: dict[str, Callable[[Any], Any]] = {
    "encoder": lambda family: family.encoder.model.language_model,
    "transformer": lambda family: family.transformer.transformer_blocks[-1],
    "decoder": lambda family: family.vae.decoder,
}
ERRORS: dict[str, Callable[[], Exception]] = {
    "kernel": lambda: RuntimeError("a kernel that was not there"),
    "device memory": lambda: torch.OutOfMemoryError("tried to allocate 20.00 GiB"),
    "main memory": MemoryError,
    "allocator": lambda: RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
}


@contextmanager
def broken(
    module: Any, error: Callable[[], Exception], *, times: int, when: Callable[[], bool]
) -> Iterator[None]:
    """Inside, the module's next so many forwards raise, of those for whom it is so."""
    left = times

    def hook(*_: Any) -> None:
        nonlocal left
        if left and when():
            left -= 1
            raise error()

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    assert left == 0, "it never came to pass"


def doing(made: Crank, token: str) -> Callable[[], bool]:
    """Whether the engine is at work on that job."""
    current: list[str] = []
    unit = made.engine._unit

    def watched(running: Any, pictures: Any) -> Any:
        current[:] = [running.token]
        return unit(running, pictures)

    made.engine._unit = watched  # type: ignore[method-assign]
    return lambda: current == [token]


@pytest.mark.parametrize("what", sorted(ERRORS))
@pytest.mark.parametrize("where", sorted(PLACES))
def test_a_fault_in_any_stage_is_its_jobs_own(house: House, where: str, what: str) -> None:
    neighbours = [make_work(**one) for one in NEIGHBOURS]
    bad = make_work(**BAD)
    alone = {work.token: house.alone(work) for work in (*neighbours, bad)}
    made = house.crank()
    made.start(neighbours[0], bad, neighbours[1])
    with broken(PLACES[where](house.family), ERRORS[what], times=1, when=doing(made, "bad")):
        made.turn()
    for work in neighbours:
        assert [event.raster for event in made.of(ImageReady, work.token)] == alone[work.token]
        assert not made.of(Failed, work.token)
    if what == "kernel":
        assert isinstance(made.of(Failed, "bad")[0].fault, EngineFailed)
        assert not made.of(Finished, "bad")
    else:  # made anew with the room to itself, and to the bit what it would have been
        last = {event.index: event.raster for event in made.of(ImageReady, "bad")}
        assert [last[index] for index in sorted(last)] == alone["bad"]
        assert made.of(Finished, "bad")
        assert made.engine.figures()["again"] == 1
    assert made.room.held == 0
    assert made.engine.figures()["works"] == 0


def test_a_job_that_runs_out_of_memory_even_alone_fails_and_nobody_else(house: House) -> None:
    neighbour, bad = make_work(**NEIGHBOURS[0]), make_work(**BAD)
    alone = house.alone(neighbour)
    made = house.crank()
    made.start(bad, neighbour)
    place = PLACES["transformer"](house.family)
    with broken(place, ERRORS["device memory"], times=2, when=doing(made, "bad")):
        made.turn()
    assert "memory" in made.of(Failed, "bad")[0].fault.message
    assert [event.raster for event in made.of(ImageReady, "left")] == alone
    figures = made.engine.figures()
    assert (figures["failed_memory"], figures["again"]) == (2, 1)


def test_a_job_that_is_made_anew_has_the_room_to_itself(house: House) -> None:
    neighbour, bad = make_work(**NEIGHBOURS[0]), make_work(**BAD)
    made = house.crank()
    made.start(neighbour, bad)
    place = PLACES["transformer"](house.family)
    with broken(place, ERRORS["device memory"], times=1, when=doing(made, "bad")):
        while not made.engine.figures()["again"]:
            made.turn(1)
    assert house.family._memory.sizes == (0, 0), "what is remembered makes room"
    late = make_work("late", seed=3)
    made.start(late)
    made.turn()
    kinds = [(type(event), event.token) for event in made.heard]
    second = len(kinds) - 1 - kinds[::-1].index((Started, "bad"))
    assert kinds.index((Finished, "left")) < second < kinds.index((Finished, "bad"))
    assert kinds.index((Finished, "bad")) < kinds.index((Started, "late"))
    assert [event.raster for event in made.of(ImageReady, "late")] == house.alone(late)


def test_a_job_that_waits_to_be_made_anew_can_be_cancelled(house: House) -> None:
    neighbour, bad = make_work(**NEIGHBOURS[0]), make_work(**BAD)
    made = house.crank()
    made.start(neighbour, bad)
    place = PLACES["transformer"](house.family)
    with broken(place, ERRORS["device memory"], times=1, when=doing(made, "bad")):
        while not made.engine.figures()["again"]:
            made.turn(1)
    made.engine.cancel("bad")
    made.turn()
    assert made.of(Cancelled, "bad")
    assert made.of(Finished, "left")
    assert made.engine.figures()["works"] == 0


def test_latents_that_are_not_numbers_fail_their_job_alone(house: House) -> None:
    neighbours = [make_work(**one) for one in NEIGHBOURS]
    alone = {work.token: house.alone(work) for work in neighbours}
    made = house.crank()
    made.start(*neighbours, make_work(**BAD))
    mine = doing(made, "bad")

    def spoil(_module: Any, _given: Any, answer: torch.Tensor) -> torch.Tensor:
        return answer * float("nan") if mine() else answer

    handle = house.family.transformer.proj_out.register_forward_hook(spoil)
    made.turn()
    handle.remove()
    assert "finite" in made.of(Failed, "bad")[0].fault.message
    for work in neighbours:
        assert [event.raster for event in made.of(ImageReady, work.token)] == alone[work.token]
    assert made.engine.figures()["failed_numbers"] == 1


def together(house: House, **more: Any) -> Crank:
    """As `crank`, where lanes of several jobs are stepped together."""
    house.family.forget()
    return Crank(house.profile, house.family, urgency=by_turn, half=1000.0, **more)


COMPANY = [make_work(name, inputs=1, seed=place, prompt=f"{name} it is") for place, name in enumerate("abc")]


def test_of_lanes_stepped_together_only_the_broken_one_fails(house: House) -> None:
    alone = {work.token: house.alone(work) for work in COMPANY}
    made = together(house)
    made.start(*COMPANY)
    seen: list[int] = []

    def spoil(_module: Any, _given: Any, answer: torch.Tensor) -> None:
        seen.append(len(answer))
        if len(answer) == 3:
            answer[1] = float("nan")

    handle = house.family.transformer.proj_out.register_forward_hook(spoil)
    made.turn()
    handle.remove()
    assert 3 in seen
    failed = [event.token for event in made.of(Failed)]
    assert len(failed) == 1
    for work in COMPANY:
        if work.token not in failed:
            [raster] = [event.raster for event in made.of(ImageReady, work.token)]
            assert difference(raster, alone[work.token][0]) <= 1


@pytest.mark.parametrize("what", ["kernel", "device memory"])
def test_a_step_together_that_breaks_off_is_done_one_by_one(house: House, what: str) -> None:
    alone = {work.token: house.alone(work) for work in COMPANY}
    made = together(house)
    made.start(*COMPANY)
    sizes: list[int] = []
    blocks = house.family.transformer.transformer_blocks

    def hook(_module: Any, _args: Any, given: Any) -> None:
        sizes.append(len(given["hidden_states"]))
        if sizes[-1] == 3:
            raise ERRORS[what]()

    handle = blocks[-1].register_forward_pre_hook(hook, with_kwargs=True)
    made.turn()
    handle.remove()
    assert sizes.count(3) == 1, "once is enough to know"
    assert not made.of(Failed)
    figures = made.engine.figures()
    assert (figures["again"], figures["failed_other"] + figures["failed_memory"]) == (0, 1)
    for work in COMPANY:
        [raster] = [event.raster for event in made.of(ImageReady, work.token)]
        assert difference(raster, alone[work.token][0]) <= 1


def test_a_step_that_breaks_off_between_two_lanes_moves_neither(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {work.token: house.alone(work) for work in COMPANY}
    made = together(house)
    made.start(*COMPANY)
    step, moved = FlowMatchEulerDiscreteScheduler.step, [0, 0]
    units = house.family.step

    def counted(plan: Any, lanes: Any) -> None:
        moved[0] = len(lanes)
        units(plan, lanes)

    def breaking(scheduler: Any, *given: Any, **more: Any) -> Any:
        if moved[0] == 3:
            moved[1] += 1
            if moved[1] == 5:  # the second lane of the second step together
                raise MemoryError
        return step(scheduler, *given, **more)

    monkeypatch.setattr(house.family, "step", counted)
    monkeypatch.setattr(FlowMatchEulerDiscreteScheduler, "step", breaking)
    made.turn()
    assert moved[1] == 5, "it came to pass, and they have gone one by one from then on"
    assert not made.of(Failed)
    for work in COMPANY:
        [raster] = [event.raster for event in made.of(ImageReady, work.token)]
        assert difference(raster, alone[work.token][0]) <= 1


def test_a_preview_that_cannot_be_made_ends_nobody(house: House) -> None:
    work = make_work("a")
    alone = house.alone(work)
    made = house.crank()

    class Blind:
        def look(self, *_: Any) -> None:
            raise torch.OutOfMemoryError("no room for a map")

        def __getattr__(self, _name: str) -> Any:
            return lambda *_: None

    made.engine.viewfinder = Blind()  # type: ignore[assignment]
    made.start(work)
    made.turn()
    assert [event.raster for event in made.of(ImageReady, "a")] == alone


def asked(made: Crank) -> Any:
    """A text that the encoder of the house writes; its first unit reads the question."""
    speaker = made.engine.speaker("any")
    assert speaker._language is not None
    return made.engine._talks.put(lambda: speaker._language.write("Be brief.", "What is red?", (), 6))


@pytest.mark.parametrize("times", [1, 2])
def test_a_text_that_runs_out_of_memory_is_begun_anew_once(house: House, times: int) -> None:
    work = make_work(**NEIGHBOURS[0])
    alone = house.alone(work)
    made = house.crank()
    first = asked(made)
    made.turn()
    made.start(work)
    made.turn()
    assert house.family._memory.sizes[0] > 0
    answer = asked(made)
    where = PLACES["encoder"](house.family)
    with broken(where, ERRORS["device memory"], times=times, when=lambda: True):
        made.turn()
    assert house.family._memory.sizes == (0, 0), "what is remembered makes room"
    assert made.engine.figures()["failed_memory"] == times
    if times == 1:
        assert answer.result() == first.result()
    else:
        with pytest.raises(CannotWrite, match="OutOfMemoryError"):
            answer.result()
    made.start(replace(work, token="after"))
    made.turn()
    assert [event.raster for event in made.of(ImageReady, "after")] == alone


def test_a_text_that_breaks_on_something_else_ends_at_once(house: House) -> None:
    made = house.crank()
    answer = asked(made)
    with broken(PLACES["encoder"](house.family), ERRORS["kernel"], times=1, when=lambda: True):
        made.turn()
    with pytest.raises(CannotWrite, match="RuntimeError"):
        answer.result()
    assert made.engine.figures()["failed_other"] == 1


def test_conditions_that_a_failed_job_left_behind_serve_nobody(house: House) -> None:
    """An encoder that answered NaN once would otherwise spoil every later job with the same pictures."""
    work = make_work("good", inputs=1)
    alone = house.alone(work)
    made = house.crank()
    made.start(make_work("bad", inputs=1))
    mine = doing(made, "bad")

    def spoil(_module: Any, _given: Any, answer: Any) -> None:
        if mine():
            answer.last_hidden_state.mul_(float("nan"))

    handle = house.family.encoder.model.language_model.register_forward_hook(spoil)
    made.turn()
    handle.remove()
    assert made.of(Failed, "bad")
    made.start(work)
    made.turn()
    assert [event.raster for event in made.of(ImageReady, "good")] == alone


def test_nothing_of_a_failed_job_stays_in_memory(house: House) -> None:
    made = house.crank()
    made.start(make_work(**BAD))
    seen: list[weakref.ref[torch.Tensor]] = []
    place = house.family.transformer.transformer_blocks[0]
    handle = place.register_forward_pre_hook(
        lambda _module, _args, given: seen.append(weakref.ref(given["hidden_states"])), with_kwargs=True
    )
    gc.disable()  # what only a collection of cycles would free is held for long
    try:
        with broken(
            PLACES["transformer"](house.family), ERRORS["kernel"], times=1, when=lambda: len(seen) > 4
        ):
            made.turn()
        assert made.of(Failed, "bad")
        assert [ref for ref in seen if ref() is not None] == []
    finally:
        gc.enable()
        handle.remove()


def test_with_nothing_remembered_pictures_are_the_same(house: House) -> None:
    works = [make_work(**one) for one in NEIGHBOURS]
    alone = {work.token: house.alone(work) for work in works}
    near = house.family._memory._near
    limit, near.limit = near.limit, 0
    try:
        made = house.crank()
        made.start(*works)
        made.turn()
    finally:
        near.limit = limit
    for work in works:
        assert [event.raster for event in made.of(ImageReady, work.token)] == alone[work.token]


def test_a_cancelled_neighbour_leaves_no_trace_at_whatever_step(house: House) -> None:
    work = make_work(**NEIGHBOURS[0])
    alone = house.alone(work)
    for turns in range(1, 2 * STEPS + 4):
        made = house.crank()
        made.start(make_work(**BAD), work)
        made.turn(turns)
        made.engine.cancel("bad")
        made.turn()
        assert [event.raster for event in made.of(ImageReady, "left")] == alone, turns


class Unplannable(QwenImage21):
    """Cannot say how many steps a job with the word "when" takes."""

    def steps(self, plan: Plan) -> int:
        if "when" in plan.work.prompt:
            raise LookupError("no such schedule")
        return super().steps(plan)


class Silent(QwenImage21):
    """Its device answers no more after the first fault."""

    def sound(self) -> bool:
        return False


def test_a_job_that_cannot_even_be_planned_fails_alone(profile: Profile, tiny: Path) -> None:
    made = Crank(profile, Unplannable(tiny, torch.device("cpu"), torch.float32))
    made.start(make_work("bad", prompt="when"), make_work("good"))
    made.turn()
    assert isinstance(made.of(Failed, "bad")[0].fault, EngineFailed)
    assert made.of(Finished, "good")


def test_a_listener_that_raises_does_not_end_the_engine(crank: Callable[..., Crank]) -> None:
    made = crank()
    heard: list[Event] = []

    def hear(event: Event) -> None:
        if isinstance(event, Stepped):
            raise ConnectionError("nobody there")
        heard.append(event)

    made.engine.listen(hear)
    made.start(make_work("a"))
    made.turn()
    assert [type(event) for event in heard] == [Started, ImageReady, Finished]


def engine(profile: Profile, family: Any, reasons: list[str]) -> StepEngine:
    policy = InOrder(by_arrival, Saturation(0.0))
    return StepEngine(profile, {"tiny": family}, policy=policy, room=Room(1 << 34), lost=reasons.append)


def test_a_device_that_answers_no_more_is_told_of(profile: Profile, tiny: Path) -> None:
    reasons: list[str] = []
    family = Silent(tiny, torch.device("cpu"), torch.float32)
    made = engine(profile, family, reasons)
    made.put(make_work("bad"))
    with broken(family.transformer, lambda: RuntimeError("unused"), times=0, when=lambda: False):
        family.transformer.transformer_blocks = None
        for _ in range(6):
            made.tick()
    assert len(reasons) == 1
    assert "the device answers no more" in reasons[0]


def test_a_device_that_answers_no_more_after_a_text_is_told_of(profile: Profile, tiny: Path) -> None:
    reasons: list[str] = []
    family = Silent(tiny, torch.device("cpu"), torch.float32)
    made = engine(profile, family, reasons)
    made._talks.put(lambda: (1 / 0 for _ in range(2)))
    made.tick()
    assert ["ZeroDivisionError" in reason for reason in reasons] == [True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_whose_thread_ends_is_told_of(profile: Profile, family: QwenImage21) -> None:
    reasons: list[str] = []
    made = engine(profile, family, reasons)

    def choose(*_: Any) -> Any:
        raise ZeroDivisionError("a policy with a bug")

    made.policy = type("Buggy", (), {"choose": choose, "width": lambda *_: 1})()
    made.start(make_work("a"))
    assert made._thread is not None
    made._thread.join(10)
    assert reasons == ["the engine's thread ended: ZeroDivisionError: a policy with a bug"]
    made.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFinite("nan"), Kind.NUMBERS),
        (MemoryError(), Kind.MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory."), Kind.MEMORY),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), Kind.MEMORY),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
            Kind.MEMORY,
        ),
        (RuntimeError("shapes cannot be multiplied"), ODD),
        (ValueError("out of memory of what was said"), ODD),
    ],
)
def test_troubles_are_told_apart(error: Exception, kind: Kind) -> None:
    assert kind_of(error) is kind


def test_the_cpus_own_allocator_is_understood() -> None:
    outcome = tried(lambda: torch.empty(1 << 46))
    assert isinstance(outcome, Mishap)
    assert outcome.kind is Kind.MEMORY


def test_a_work_of_unknown_need_comes_alone_and_stays_alone() -> None:
    room = Room(100)
    assert room.enter("a", Need(10, 10))
    assert not room.enter("b", None)
    room.leave("a")
    assert room.enter("b", None)
    assert not room.enter("c", Need(0, 0))
    room.leave("b")
    assert room.enter("c", Need(0, 0))
