"""The tick: what is told when, how fast a cancel works, and that one job's fault is its own."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.core.errors import EngineFailed
from danqing.core.events import Cancelled, Event, Failed, Finished, Foretold, ImageReady, Started, Stepped
from danqing.core.job import Contract, Quality
from danqing.core.raster import Size
from danqing.engine.families.contract import Plan
from danqing.engine.families.qwen import LanePicture
from danqing.engine.families.qwen_image_21 import Prefix, QwenImage21
from danqing.engine.loop import StepEngine
from danqing.engine.memory import Need, Room
from danqing.profiles.loader import Preset, Profile
from danqing.schedule.cost import Saturation
from danqing.schedule.policy import InOrder, by_arrival, by_promise, by_rest, by_turn
from tests.unit.engine.conftest import STEPS, Crank, make_work


class Spoilt(QwenImage21):
    """Noise of seed 666 is not a number, and the encoder cannot read the word "crash"."""

    def begin(self, plan: Plan, prefix: Prefix, index: int) -> LanePicture[Prefix]:
        lane = super().begin(plan, prefix, index)
        if plan.work.seed == 666:
            lane.latents = lane.latents * float("nan")
        return lane

    def encode(self, plan: Plan) -> Any:
        if "crash" in plan.work.prompt:
            raise RuntimeError("cannot read this")
        return super().encode(plan)


class Watched(QwenImage21):
    """Remembers, without holding it, every lane that was begun, and how many were stepped together."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.begun: list[weakref.ref[torch.Tensor]] = []
        self.batches: list[int] = []

    def step(self, plan: Plan, lanes: Sequence[LanePicture[Prefix]]) -> None:
        super().step(plan, lanes)
        self.batches.append(len(lanes))
        self.begun.extend(weakref.ref(lane.latents) for lane in lanes)


@pytest.fixture
def spoilt(tiny: Path) -> Spoilt:
    return Spoilt(tiny, torch.device("cpu"), torch.float32)


@pytest.fixture
def watched(tiny: Path) -> Watched:
    return Watched(tiny, torch.device("cpu"), torch.float32)


def test_a_job_tells_its_start_every_step_each_picture_and_its_end(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.start(make_work("a", inputs=1, count=2))
    made.turn()
    started = made.heard[0]
    assert isinstance(started, Started)
    assert (started.token, started.steps) == ("a", 2 * STEPS)
    assert started.unit > 0, "nothing was measured yet, and still there is an end to the patience"
    steps = made.of(Stepped)
    assert [event.step for event in steps] == list(range(1, 2 * STEPS + 1))
    assert {event.steps for event in steps} == {2 * STEPS}
    assert isinstance(made.heard[-1], Finished)
    assert made.heard[-1].seconds > 0
    assert made.heard[-1].quality == Quality(Contract.EXACT, "tiny", "default", STEPS)
    assert [event.index for event in made.of(ImageReady)] == [0, 1]


def test_each_picture_is_delivered_as_soon_as_it_is_finished(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.start(make_work("a", count=2))
    made.turn()
    kinds = [type(event) for event in made.heard]
    assert kinds == [Started, *[Stepped] * STEPS, ImageReady, *[Stepped] * STEPS, ImageReady, Finished]


def test_the_predicted_rest_shrinks_to_the_decoding(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.start(make_work("warm"), make_work("a"))
    made.turn()
    rest = [event.left for event in made.of(Stepped, "a")]
    assert all(left is not None and left > 0 for left in rest)
    assert rest[-1] < rest[0]


def test_the_delivered_size_is_exactly_the_asked_one(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.start(make_work("a", size=Size(50, 41)), make_work("b", size=Size(97, 33), inputs=1))
    made.turn()
    assert {event.token: event.raster.size for event in made.of(ImageReady)} == {
        "a": Size(50, 41),
        "b": Size(97, 33),
    }


def test_picture_i_is_made_from_seed_plus_i(crank: Callable[..., Crank]) -> None:
    several, single = crank(), crank()
    several.start(make_work("a", count=3, seed=5))
    single.start(make_work("b", seed=7))
    several.turn()
    single.turn()
    assert several.of(ImageReady)[2].raster == single.of(ImageReady)[0].raster


@pytest.mark.parametrize("done", [0, 1, 2, 3, STEPS + 2])
def test_a_cancel_takes_effect_before_the_next_step_and_frees_the_memory(
    crank: Callable[..., Crank], watched: Watched, done: int
) -> None:
    made = crank(watched)
    made.start(make_work("a", inputs=1))
    made.turn(done)
    stepped = len(made.of(Stepped))
    made.engine.cancel("a")
    made.turn()
    assert len(made.of(Stepped)) == stepped
    assert made.heard[-1] == Cancelled("a")
    assert not made.of(ImageReady)
    gc.collect()
    assert all(ref() is None for ref in watched.begun)
    assert made.room.held == 0


def test_a_cancel_of_a_job_still_waiting_for_room_drops_it(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.room.works = 1
    made.start(make_work("a"), make_work("b"))
    made.turn(3)
    made.engine.cancel("b")
    made.turn()
    assert not made.of(Started, "b")
    assert made.of(Cancelled, "b")
    assert made.of(Finished, "a")


def test_a_cancel_that_overtakes_its_work_is_kept_for_it(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.engine.cancel("a")
    made.start(make_work("a"))
    made.turn()
    assert made.heard == [Cancelled("a")]


def test_a_cancel_of_an_unknown_or_finished_job_is_ignored(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.start(make_work("a"))
    made.turn()
    told = len(made.heard)
    made.engine.cancel("a")
    made.engine.cancel("never heard of")
    made.turn()
    assert len(made.heard) == told


@pytest.mark.parametrize("bad", [{"seed": 666}, {"prompt": "crash please"}], ids=["not finite", "raises"])
def test_a_job_that_goes_wrong_fails_alone(
    crank: Callable[..., Crank], spoilt: Spoilt, bad: dict[str, Any]
) -> None:
    healthy, mixed = crank(spoilt), crank(spoilt, urgency=by_turn)
    healthy.start(make_work("good", inputs=1))
    healthy.turn()
    mixed.start(make_work("bad", **bad), make_work("good", inputs=1))
    mixed.turn()
    fault = mixed.of(Failed, "bad")[0].fault
    assert isinstance(fault, EngineFailed)
    assert not mixed.of(Failed, "good")
    assert mixed.of(ImageReady, "good") == healthy.of(ImageReady, "good")
    assert mixed.room.held == 0


def test_a_model_that_the_profile_does_not_serve_fails_at_once(profile: Profile, family: QwenImage21) -> None:
    narrow = Profile("narrow", "", profile.checkpoints, {"known": Preset("tiny", STEPS)})
    made = Crank(narrow, family)
    made.start(make_work("a", model="unknown"))
    made.turn()
    assert isinstance(made.of(Failed, "a")[0].fault, EngineFailed)


def test_a_work_that_can_never_fit_fails_and_one_that_must_wait_waits(
    crank: Callable[..., Crank], family: QwenImage21
) -> None:
    made = crank()
    made.room.limit = 3_000_000
    made.start(make_work("huge", size=Size(4096, 4096)), make_work("fits"))
    made.turn()
    assert "memory" in made.of(Failed, "huge")[0].fault.message
    assert made.of(Finished, "fits")


def test_works_wait_while_the_room_is_full_and_come_in_order(crank: Callable[..., Crank]) -> None:
    made = crank(urgency=by_turn)
    made.room.works = 2
    made.start(*[make_work(name, tenant=name) for name in "abc"])
    made.turn(1)
    assert [event.token for event in made.of(Started)] == ["a", "b"]
    made.turn()
    assert [event.token for event in made.of(Finished)] == ["a", "b", "c"]
    third = next(place for place, event in enumerate(made.heard) if event == made.of(Started, "c")[0])
    assert any(isinstance(event, Finished) for event in made.heard[:third])


def test_lanes_of_one_job_step_together_where_that_pays(
    crank: Callable[..., Crank], watched: Watched
) -> None:
    made = crank(watched, half=1000.0)
    made.start(make_work("a", count=3), make_work("b"))
    made.turn()
    assert watched.batches == [3] * STEPS + [1] * STEPS
    assert [event.step for event in made.of(Stepped, "a")] == [3, 6, 9, 12]
    assert len(made.of(ImageReady, "a")) == 3


def test_with_the_shortest_rest_first_a_small_job_overtakes_a_large_one(crank: Callable[..., Crank]) -> None:
    made = crank(urgency=by_rest)
    made.start(make_work("warm"))
    made.turn()
    made.start(make_work("large", count=4, inputs=2))
    made.turn(5)
    made.start(make_work("small"))
    made.turn()
    assert [event.token for event in made.of(Finished)] == ["warm", "small", "large"]


def test_the_engine_works_in_a_thread_of_its_own_and_ends_when_closed(
    profile: Profile, family: QwenImage21
) -> None:
    engine = StepEngine(
        profile, {"tiny": family}, policy=InOrder(by_arrival, Saturation(36)), room=Room(1 << 34)
    )
    heard: list[tuple[str, Event]] = []
    over = threading.Event()

    def hear(event: Event) -> None:
        heard.append((threading.current_thread().name, event))
        if isinstance(event, Finished) and event.token == "b":
            over.set()

    engine.listen(hear)
    engine.start(make_work("a", inputs=1))
    engine.start(make_work("b"))
    assert over.wait(30)
    engine.close()
    assert {name for name, _ in heard} == {"engine"}
    assert sum(isinstance(event, ImageReady) for _, event in heard) == 2
    told = len(heard)
    engine.start(make_work("late"))
    assert len(heard) == told


def test_the_room_counts_lasting_needs_together_and_only_the_largest_passing_one() -> None:
    room = Room(100, works=3)
    assert room.enter("a", Need(30, 20))
    assert room.enter("b", Need(40, 30))
    assert not room.enter("c", Need(1, 30))
    room.leave("a")
    assert room.enter("c", Need(30, 30))
    assert room.held == 2
    assert not room.ever(Need(80, 21))


def test_a_tenant_that_sends_one_is_not_held_up_by_one_that_sends_many(crank: Callable[..., Crank]) -> None:
    made = crank(urgency=by_promise)
    made.start(*(make_work(f"many {place}", tenant="ann") for place in range(6)))
    made.turn(3)
    made.start(make_work("one", tenant="bob"))
    made.turn()
    ends = [event.token for event in made.of(Finished)]
    assert ends.index("one") <= 1
    assert len(ends) == 7


def test_nobody_is_kept_on_the_books_without_a_job(crank: Callable[..., Crank]) -> None:
    made = crank(urgency=by_promise)
    made.start(make_work("a", tenant="ann"), make_work("b", tenant="bob"))
    made.turn(4)
    accounts = made.engine.shares
    assert accounts.of("ann") > 0
    made.turn()
    assert (accounts.of("ann"), accounts.of("bob")) == (0.0, 0.0)


@pytest.mark.parametrize(("taught", "most"), [(2, 2), (99, 10)])
def test_a_checkpoint_looks_at_what_it_was_taught_and_no_more_than_its_kind(
    profile: Profile, family: QwenImage21, taught: int, most: int
) -> None:
    checkpoints = {name: replace(one, inputs=taught) for name, one in profile.checkpoints.items()}
    engine = Crank(replace(profile, checkpoints=checkpoints), family).engine
    assert engine.most_inputs("any") == most


def test_the_foretold_end_counts_what_goes_before(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.start(make_work("warm"))
    made.turn()
    made.start(make_work("first", count=4), make_work("second"))
    made.turn(1)
    # Foretold at the same moment, by what is known of the same device: only the order and the work differ.
    first, second = made.of(Foretold, "first")[0].left, made.of(Foretold, "second")[0].left
    assert 0 < first < second < 2 * first


def test_one_tenant_leaves_room_for_another(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.room.works = 4
    made.start(*(make_work(f"ann {place}", tenant="ann") for place in range(5)))
    made.turn(1)
    assert [event.token for event in made.of(Started)] == ["ann 0", "ann 1", "ann 2"]
    made.start(make_work("bob", tenant="bob"))
    made.turn(1)
    assert made.of(Started)[-1].token == "bob"
    made.turn()
    assert len(made.of(Finished)) == 6


def test_a_higher_priority_goes_before_the_same_tenant_s_others_alone(crank: Callable[..., Crank]) -> None:
    made = crank(urgency=by_promise)
    made.start(make_work("warm", tenant="ann"))
    made.turn()
    made.start(make_work("low", tenant="ann", seed=1), make_work("other", tenant="bob"))
    made.turn(3)
    made.start(make_work("high", tenant="ann", seed=2, priority=5))
    made.turn()
    ends = [event.token for event in made.of(Finished)]
    assert ends.index("high") < ends.index("low")
    assert ends.index("other") < ends.index("low"), "bob's share is his own"


def test_a_higher_priority_is_let_in_before_the_same_tenant_s_others(crank: Callable[..., Crank]) -> None:
    made = crank()
    made.room.works = 2
    made.start(make_work("first", tenant="ann"))
    made.start(*(make_work(f"{priority}", tenant="ann", priority=priority) for priority in (0, -1, 2, 1)))
    made.turn()
    assert [event.token for event in made.of(Started)] == ["2", "1", "first", "0", "-1"]


def test_the_figures_tell_how_well_costs_and_ends_are_foretold(crank: Callable[..., Crank]) -> None:
    made = crank()
    assert (made.engine.figures()["cost_error"], made.engine.figures()["foretold_ratio"]) == (0.0, 1.0)
    made.start(make_work("a"), make_work("b"))
    made.turn()
    assert made.engine.figures()["cost_error"] > 0
    assert made.engine.figures()["foretold_ratio"] != 1.0
