"""What is remembered of inputs and prompts: exactly as if it were computed anew, for one tenant, within its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.core.events import ImageReady, Work
from danqing.core.raster import Raster, Size
from danqing.engine.cache import Budget, Memory, Recent, each, weight
from danqing.engine.canvas import on_white, to_canvas
from danqing.engine.families.contract import plan
from danqing.engine.families.prefix import Rotary
from danqing.engine.families.qwen_image_1 import PAINT, QwenImage1
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.processor import build_processor
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation, load_profile
from danqing.schedule.cost import Stage
from tests.support.tiny_1x import tiny_1x
from tests.unit.engine.conftest import SIDE, Crank, make_work, picture

CPU = torch.device("cpu")
ROOMY = Budget(1 << 26)


class House:
    """A family of one kind, opened with any budget, and how many tokens and pictures its modules are given."""

    def __init__(self, folder: Path, kind: type[Any]) -> None:
        native = Native() if kind is QwenImage21 else Native(multiple=16, input_area=SIDE * SIDE)
        checkpoint = Checkpoint("tiny", str(folder), native, Relation.MINIATURE, "Apache-2.0")
        self.profile = Profile("tiny", "", {"tiny": checkpoint}, {"*": Preset("tiny", 2, 1.0, 3.0)})
        self.folder, self.kind, self.native = folder, kind, native
        self.family: Any = None
        self.seen: dict[str, int] = {}

    def open(self, budget: Budget) -> Any:
        self.family = self.kind(self.folder, CPU, torch.float32, budget)
        self.seen = dict.fromkeys(("encoder", "towers", "autoencoder"), 0)
        encoder = self.family.encoder.model
        self._count(encoder.language_model.layers[0], "encoder", lambda given: given[0].shape[1])
        self._count(encoder.visual.patch_embed, "towers", lambda _given: 1)
        self._count(self.family.vae.encoder, "autoencoder", lambda _given: 1)
        return self.family

    def _count(self, module: Any, name: str, size: Callable[[Any], int]) -> None:
        def note(_module: Any, args: Any, given: Mapping[str, Any]) -> None:
            self.seen[name] += size(args or tuple(given.values()))

        module.register_forward_pre_hook(note, with_kwargs=True)

    def draw(self, *works: Work) -> list[list[Raster]]:
        """Each work's pictures, one work after the other."""
        return [drawn(Crank(self.profile, self.family), work) for work in works]

    def counted(self, work: Work) -> dict[str, int]:
        """What the modules were given for a work."""
        before = dict(self.seen)
        self.draw(work)
        return {name: count - before[name] for name, count in self.seen.items()}

    def prefix(self, work: Work) -> Any:
        preset = self.profile.preset("any")
        assert preset is not None
        made = plan(work, preset, self.native)
        return self.family.prefill(made, self.family.encode(made))


@pytest.fixture(scope="module", params=["2.1", "1.x"])
def house(
    request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    if request.param == "2.1":
        yield House(tiny, QwenImage21)
    else:
        yield House(tiny_1x(tmp_path_factory.mktemp("plus"), "edit_plus", told_clean=True), QwenImage1)


def drawn(made: Crank, work: Work) -> list[Raster]:
    made.start(work)
    made.turn()
    found: list[Any] = made.of(ImageReady, work.token)
    return [event.raster for event in found]


def told(*places: int, **more: Any) -> Work:
    """A work about these pictures."""
    return replace(make_work("told", **more), inputs=tuple(picture(place) for place in places))


LONG = "a prompt of a good many words, so that its tokens weigh more than the words around the pictures"
EARLIER = {
    "same pictures, other prompt": told(1, 2, prompt=LONG),
    "same first picture": told(1, 3, prompt=LONG, seed=2),
    "more pictures": told(1, 2, 3, prompt=LONG),
    "the same twice": told(1, 1, prompt=LONG),
    "same pictures the other way round": told(2, 1),
    "same prompt": told(1, 2, seed=4),
    "other size": told(1, 2, size=Size(96, 64)),
    "guided": told(1, 2, negative="dull"),
    "no pictures": make_work("told"),
}


@pytest.mark.parametrize("earlier", EARLIER)
@pytest.mark.parametrize("negative", [None, "dull"], ids=["plain", "guided"])
def test_whatever_is_remembered_the_pictures_are_the_same_to_the_bit(
    house: House, earlier: str, negative: str | None
) -> None:
    work = told(1, 2, count=2, negative=negative)
    house.open(Budget())
    [cold] = house.draw(work)
    house.open(ROOMY)
    assert house.draw(EARLIER[earlier], work, work)[1:] == [cold, cold]


def tensors(value: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    each(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def test_what_is_remembered_is_equal_to_the_bit_before_any_step(house: House) -> None:
    work = told(1, 2, negative="dull")
    house.open(Budget())
    cold = tensors(house.prefix(work))
    house.open(ROOMY)
    for earlier in EARLIER.values():
        house.prefix(earlier)
        warm = tensors(house.prefix(work))
        assert len(warm) == len(cold)
        assert all(torch.equal(one, other) for one, other in zip(warm, cold, strict=True))


def test_the_fixed_words_are_read_once_whoever_asks(house: House) -> None:
    house.open(Budget())
    first = house.counted(make_work(tenant="ann"))["encoder"]
    again = house.counted(make_work(tenant="bob"))["encoder"]
    fixed = house.family._reader.start.states.shape[1]
    assert first == again + fixed


def test_another_prompt_about_the_same_pictures_reads_the_prompt_alone(house: House) -> None:
    house.open(ROOMY)
    house.counted(told(1, 2, 3))
    seen = house.counted(told(1, 2, 3, prompt="abc"))
    rest = house.family._reader._ids("abc<|im_end|>\n<|im_start|>assistant\n").shape[1]
    assert seen == {"encoder": rest, "towers": 0, "autoencoder": 0}


def test_of_a_longer_beginning_the_common_part_is_not_read_again(house: House) -> None:
    house.open(ROOMY)
    house.counted(told(1, 2))
    seen = house.counted(told(1, 3))
    assert (seen["towers"], seen["autoencoder"]) == (1, 1)
    alone = house.open(Budget()) and house.counted(told(1, 3))["encoder"]
    first = house.family._reader.pictures("", house.family._looks(_plan(house, told(1))), _shown)[1]
    fixed = house.family._reader.start.states.shape[1]
    assert seen["encoder"] == alone - fixed - first.states.shape[1]


def test_a_picture_seen_in_another_place_is_not_looked_at_again(house: House) -> None:
    house.open(ROOMY)
    house.counted(told(1, 2))
    seen = house.counted(told(2, 1))
    assert (seen["towers"], seen["autoencoder"]) == (0, 0)
    assert seen["encoder"] > 0


def test_one_tenants_pictures_are_not_remembered_for_another(house: House) -> None:
    house.open(ROOMY)
    first = house.counted(told(1, 2, tenant="ann"))
    counts = dict(house.family.figures())
    other = house.counted(told(1, 2, tenant="bob"))
    fixed = house.family._reader.start.states.shape[1]
    assert other == {**first, "encoder": first["encoder"] - fixed}
    found = {name: count - counts.get(name, 0) for name, count in house.family.figures().items()}
    assert not any(count for name, count in found.items() if name.endswith(("_hits", "_returns")))
    assert house.counted(told(1, 2, tenant="ann"))["encoder"] == 0


def test_a_budget_of_nothing_keeps_nothing(house: House) -> None:
    house.open(Budget())
    first = house.counted(told(1))
    fixed = house.family._reader.start.states.shape[1]
    assert house.counted(told(1)) == {**first, "encoder": first["encoder"] - fixed}
    assert house.family._memory.sizes == (0, 0)


@pytest.mark.parametrize("near", [0, 20_000, 90_000])
@pytest.mark.parametrize("far", [0, 40_000, 1 << 26])
def test_within_any_budget_pictures_are_the_same_and_bytes_are_kept(
    house: House, near: int, far: int
) -> None:
    works = [told(1, 2), told(3), told(1, 2, prompt=LONG), told(2), told(1, 2, seed=2), told(3)]
    house.open(Budget())
    cold = house.draw(*works)
    family = house.open(Budget(near, far))
    for work, expected in zip(works, cold, strict=True):
        assert house.draw(work) == [expected]
        on_device, in_host = family._memory.sizes
        assert on_device <= near
        assert in_host <= far
    figures = family.figures()
    if near <= 20_000 and far > 1 << 20:
        assert sum(count for name, count in figures.items() if name.endswith("_returns"))
    kept = sum(count for name, count in figures.items() if name.endswith("_bytes"))
    assert kept == sum(family._memory.sizes)


def test_a_bill_is_less_for_what_is_remembered(house: House) -> None:
    family = house.open(ROOMY)
    asked = _plan(house, told(1, 2))
    bills = [family.bill(asked, Stage.ENCODE).flops]
    house.draw(told(1, 3))
    bills.append(family.bill(asked, Stage.ENCODE).flops)
    house.draw(told(1, 2))
    bills.append(family.bill(asked, Stage.ENCODE).flops)
    assert bills[0] > bills[1] > bills[2] == 0
    other = _plan(house, told(1, 2, prompt=LONG))
    assert family.bill(other, Stage.ENCODE).flops > 0, "its prompt is new"


def test_what_was_read_and_not_yet_filled_is_still_to_be_paid(house: House) -> None:
    """The encoder's reading of a picture is remembered before the transformer has seen anything of it."""
    family = house.open(ROOMY)
    asked = _plan(house, told(1, 2))
    cold = family.bill(asked, Stage.PREFILL)
    conditions = family.encode(asked)
    assert family.bill(asked, Stage.PREFILL) == cold
    family.prefill(asked, conditions)
    again = family.bill(asked, Stage.PREFILL)
    assert again.keeps == cold.keeps
    assert again.flops == (0 if house.kind is QwenImage21 else cold.flops), "1.x projects anew for each work"


def _plan(house: House, work: Work) -> Any:
    preset = house.profile.preset("any")
    assert preset is not None
    return plan(work, preset, house.native)


def _shown(place: int) -> Any:
    return on_white(to_canvas(picture(place + 1), Size(SIDE, SIDE)))


@pytest.mark.parametrize(
    "prompt", ["a cat", "\n\nlines first", "  spaces", "'s", "红色的圆", "\ta", "user", " "]
)
def test_the_parts_of_a_text_are_its_tokens(prompt: str) -> None:
    folder = load_profile("miniature").checkpoints["miniature"].folder
    assert folder is not None
    tokenizer: Any = build_processor(folder).tokenizer
    fixed = PAINT.fixed
    whole = tokenizer(f"{fixed}\n{prompt}<|im_end|>\n").input_ids
    assert tokenizer(fixed).input_ids + tokenizer(f"\n{prompt}<|im_end|>\n").input_ids == whole


# the memory itself


def test_the_least_recently_used_goes_first_and_sizes_stay_within_the_limit() -> None:
    kept: Recent[str] = Recent(100)
    assert kept.put(("k", "a"), "A", 40) == []
    assert kept.put(("k", "b"), "B", 40) == []
    assert kept.get(("k", "a")) == "A"
    assert kept.put(("k", "c"), "C", 40) == [(("k", "b"), "B")]
    assert (("k", "a") in kept, ("k", "b") in kept, ("k", "c") in kept) == (True, False, True)
    assert kept.put(("k", "a"), "AA", 90) == [(("k", "c"), "C")]
    assert kept.get(("k", "c")) is None
    assert (kept.get(("k", "a")), kept.size) == ("AA", 90)
    assert kept.put(("k", "huge"), "H", 101) == [(("k", "huge"), "H")]
    assert kept.put(("k", "a"), "gone", 101) == [(("k", "a"), "gone")]
    assert (kept.get(("k", "a")), kept.size) == (None, 0)


class Lorry:
    """Carries between two memories, and notes each load."""

    def __init__(self) -> None:
        self.went: list[str] = []

    def carry(self, way: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def move(tensor: torch.Tensor) -> torch.Tensor:
            self.went.append(way)
            return tensor.clone()

        return move


def block(value: float, count: int = 25) -> torch.Tensor:
    """A hundred bytes."""
    return torch.full((count,), float(value))


def test_what_makes_way_moves_to_host_memory_and_comes_back_when_asked_for() -> None:
    lorry = Lorry()
    memory = Memory(Budget(200, 200), CPU, down=lorry.carry("down"), up=lorry.carry("up"))
    for name in "abc":
        memory.put(("k", name), (block(ord(name)),))
    assert (lorry.went, memory.sizes) == (["down"], (200, 100))
    assert torch.equal(memory.get(("k", "a"))[0], block(ord("a")))
    assert (lorry.went, memory.sizes) == (["down", "up", "down"], (200, 100))
    for name in "de":
        memory.put(("k", name), (block(ord(name)),))
    assert memory.sizes == (200, 200)
    assert [("k", name) in memory for name in "abcde"] == [True, False, True, True, True]
    assert memory.get(("k", "b")) is None
    assert memory.figures() == {
        "k_returns": 1,
        "k_misses": 1,
        "k_device_bytes": 200,
        "k_host_bytes": 200,
    }


def test_what_is_too_large_for_the_device_is_lent_from_host_memory() -> None:
    memory = Memory(Budget(50, 1000), CPU)
    memory.put(("k", "a"), block(1))
    assert memory.sizes == (0, 100)
    assert torch.equal(memory.get(("k", "a")), block(1))
    assert memory.sizes == (0, 100)


def test_a_view_is_kept_without_what_it_looks_at() -> None:
    memory = Memory(Budget(1000), CPU)
    kept = memory.put(("k", "a"), block(1, 1000)[:25])
    assert kept.untyped_storage().nbytes() == weight(kept) == memory.sizes[0] == 100


def test_the_rotary_tables_are_those_of_the_stock_module(house: House) -> None:
    if house.kind is not QwenImage21:
        pytest.skip("1.x uses the stock module")
    stock = house.open(Budget()).transformer.pos_embed
    ours = Rotary(stock.freqs, CPU)
    mask = torch.tensor([False] * 3 + [True] * 15 + [False] * 4 + [True] * 12)
    expected = stock([(1, 3, 5), (1, 4, 3)], mask, device=CPU)
    parts = (ours.words(0, 3), ours.picture(3, 3, 5), ours.words(8, 4), ours.picture(12, 4, 3))
    assert torch.equal(torch.cat(parts)[:, 0], expected)
