"""How modules are put on a device: what is asked for happens, what cannot be had is refused or said aloud."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch
from safetensors.torch import load_file
from torch import nn

from danqing.core.events import Finished, ImageReady
from danqing.core.job import Contract
from danqing.core.raster import Raster
from danqing.engine import build, memory
from danqing.engine.build import open_engine
from danqing.engine.families.contract import plan
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.load import BadCheckpoint, Device, load_family, residence_of, spare_of
from danqing.engine.residence import Residence, TooLarge
from danqing.engine.settle import open_residence, residence_for
from danqing.profiles.loader import Checkpoint, Native, Preset, Profile, Relation
from danqing.profiles.loading import Loading
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_1x import tiny_1x
from tests.unit.engine.conftest import Crank, make_work
from tests.unit.engine.test_exactness import difference

CPU = Device("cpu", "cpu", 1 << 34, 1 << 34)
PLAIN = Loading()
GB = 1 << 30


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in ("edit", "causal")}
    return {"edit": tiny_1x(made["edit"], "edit_plus"), "causal": tiny_checkpoint(made["causal"])}


def checkpoint(folder: Path, loading: Loading) -> Checkpoint:
    native = Native(multiple=16)
    return Checkpoint("tiny", str(folder), native, Relation.MINIATURE, "Apache-2.0", loading=loading)


def family_of(folder: Path, loading: Loading = PLAIN, residence: Residence | None = None) -> Any:
    return load_family(checkpoint(folder, loading), CPU, residence=residence)


def drawn(folder: Path, family: Any, *, inputs: int = 1) -> Raster:
    models = {"*": Preset("tiny", 3, 2.0)}
    profile = Profile("tiny", "", {"tiny": checkpoint(folder, PLAIN)}, models)
    crank = Crank(profile, family)
    crank.start(make_work(inputs=inputs))
    crank.turn()
    (event,) = crank.of(ImageReady)
    raster: Raster = event.raster
    return raster


class Far:
    """A device double: what lies in main memory is made unusable, and only a copy brought from here is sound."""

    def __init__(self) -> None:
        self._sound: dict[int, torch.Tensor] = {}
        self.brought = 0

    def take(self, module: nn.Module) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            self._sound[tensor.data_ptr()] = tensor.data.clone()
            if tensor.is_floating_point():
                tensor.data.fill_(float("nan"))

    def bring(self, tensor: torch.Tensor) -> torch.Tensor:
        self.brought += 1
        return self._sound[tensor.data_ptr()].clone()


def size_of(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


@pytest.mark.parametrize("kind", ["edit", "causal"])
@pytest.mark.parametrize("room", ["one module", "all but one byte"])
def test_modules_that_come_and_go_draw_the_same_and_are_there_whenever_they_are_used(
    kind: str, room: str, folders: dict[str, Path]
) -> None:
    folder = folders[kind]
    plain = drawn(folder, family_of(folder))
    sizes = [size_of(module) for module in family_of(folder).modules.values()]
    limit = max(sizes) if room == "one module" else sum(sizes) - 1
    far, peak = Far(), 0
    residence = Residence(limit, far.bring)
    family = family_of(folder, Loading(offload="model"), residence)
    assert residence.size == 0
    for module in family.modules.values():
        far.take(module)
    need = residence.need

    def watched(module: nn.Module) -> None:
        nonlocal peak
        need(module)
        peak = max(peak, residence.size)

    residence.need = watched  # type: ignore[method-assign]
    assert drawn(folder, family) == plain
    assert 0 < peak <= limit
    assert far.brought > 0


def test_the_encoder_as_a_language_model_is_brought_too(folders: dict[str, Path]) -> None:
    far = Far()
    family = family_of(folders["edit"], Loading(offload="model"), Residence(1 << 40, far.bring))
    for module in family.modules.values():
        far.take(module)
    ids = torch.tensor([[1, 2, 3]])
    answer = family.encoder.model.language_model(input_ids=ids).last_hidden_state
    assert torch.isfinite(family.encoder.lm_head(answer)).all()


def test_a_module_is_sent_away_without_being_copied_back() -> None:
    one, other = nn.Linear(64, 64), nn.Linear(64, 64)
    own = [one.weight.data, other.weight.data]
    residence = Residence(size_of(one), lambda tensor: tensor.clone())
    for number, module in enumerate((one, other)):
        residence.add(str(number), module)
    probe = torch.ones(1, 64)
    one(probe)
    assert one.weight.data is not own[0]
    assert one.weight.data_ptr() != own[0].data_ptr()
    other(probe)
    assert one.weight.data_ptr() == own[0].data_ptr()
    assert other.weight.data_ptr() != own[1].data_ptr()
    assert residence.size == size_of(other)


def test_a_module_that_could_not_be_brought_is_brought_anew() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    own = [parameter.data_ptr() for parameter in module.parameters()]
    left = [2]

    def bring(tensor: torch.Tensor) -> torch.Tensor:
        left[0] -= 1
        if left[0] == 0:
            raise torch.OutOfMemoryError
        return tensor.clone()

    residence = Residence(size_of(module), bring)
    residence.add("it", module)
    probe = torch.ones(1, 8)
    with pytest.raises(torch.OutOfMemoryError):
        module(probe)
    assert [parameter.data_ptr() for parameter in module.parameters()] == own
    assert residence.size == 0
    assert torch.isfinite(module(probe)).all()
    assert not set(own) & {parameter.data_ptr() for parameter in module.parameters()}


def test_a_module_that_never_fits_is_refused_by_name(folders: dict[str, Path]) -> None:
    residence = Residence(1000, lambda tensor: tensor)
    with pytest.raises(TooLarge, match="the thing"):
        residence.add("the thing", nn.Linear(64, 64))
    with pytest.raises(BadCheckpoint, match="of tiny needs"):
        family_of(folders["edit"], Loading(offload="model"), residence)


@pytest.mark.parametrize(
    ("kind", "offloads", "sizes", "moving"),
    [
        ("cuda", ("none", "none"), (50, 50), set()),
        ("cuda", ("model", "none"), (5, 5), {"a"}),
        ("cuda", ("auto", "auto"), (30, 30), set()),
        ("cuda", ("auto", "auto"), (50, 50), {"a", "b"}),
        ("cuda", ("auto", "none"), (50, 50), {"a"}),
        ("cpu", ("model", "auto"), (50, 50), set()),
    ],
)
def test_who_comes_and_goes_follows_from_what_fits(
    kind: str, offloads: tuple[Any, Any], sizes: tuple[int, int], moving: set[str]
) -> None:
    loadings = {name: Loading(offload=one) for name, one in zip("ab", offloads, strict=True)}
    given = {name: size * GB for name, size in zip("ab", sizes, strict=True)}
    assert residence_for(loadings, given, kind=kind, free=80 * GB) == moving


def test_works_keep_a_part_of_a_device_on_which_modules_come_and_go() -> None:
    residence = open_residence("cpu", 80 * GB, 10 * GB)
    assert 55 * GB < residence.limit < 62 * GB


def test_weights_that_do_not_fit_are_refused_before_they_are_loaded(folders: dict[str, Path]) -> None:
    small = Device("cuda", "a small one", 1000, 1000)
    profile = Profile("p", "", {"tiny": checkpoint(folders["edit"], PLAIN)}, {"*": Preset("tiny", 3)})
    with pytest.raises(BadCheckpoint, match="layerwise_fp8"):
        residence_of(profile, small, None)
    assert residence_of(profile, CPU, None) == {}


@pytest.mark.parametrize(
    ("kind", "loading", "wide", "narrow"),
    [
        ("cuda", PLAIN, 2, 2),
        ("mps", PLAIN, 4, 4),
        ("cpu", Loading(dtype="bf16"), 2, 2),
        ("cuda", Loading(dtype="fp32"), 4, 4),
        ("cuda", Loading(layerwise_fp8=True), 2, 1),
    ],
)
def test_what_is_spare_is_what_weights_leave_in_the_format_that_they_will_have(
    kind: str, loading: Loading, wide: int, narrow: int, folders: dict[str, Path]
) -> None:
    """Whatever format their files are in."""
    profile = Profile("p", "", {"tiny": checkpoint(folders["edit"], loading)}, {"*": Preset("tiny", 3)})
    family = family_of(folders["edit"])
    numbers = {name: sum(p.numel() for p in part.parameters()) for name, part in family.modules.items()}
    device = Device(kind, "it", 80 * GB, 40 * GB)
    taken = device.free - spare_of(profile, device, None, {})
    # Of its convolutions over frames only the last slices are loaded, so its files are counted.
    vae = sum(_stored(file) for file in (folders["edit"] / "vae").glob("*.safetensors"))
    assert taken == wide * (numbers["encoder"] + vae) + narrow * numbers["transformer"]


def _stored(file: Path) -> int:
    return sum(tensor.numel() for tensor in load_file(file).values())


def test_what_is_remembered_is_no_room_for_works(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    device = Device("cpu", "cores", 8 * GB, 4 * GB)
    for place in (build, memory):
        monkeypatch.setattr(place, "find_device", lambda _: device)
    made = checkpoint(folders["edit"], PLAIN)
    profile = Profile("p", "", {"one": made, "two": replace(made, name="two")}, {"*": Preset("one", 3)})

    def room(remember: int | None) -> int:
        engine = open_engine(profile, "cpu", threads=1, remember=remember)
        engine.close()
        return engine._room.limit

    everything = room(0)
    assert everything == int(4 * GB * 0.85)
    assert everything - room(GB) == pytest.approx(2 * GB * 0.85, abs=2)
    assert everything - room(None) == pytest.approx(2 * (4 * GB // 40) * 0.85, rel=0.01)
    with pytest.raises(BadCheckpoint, match="nothing of the device"):
        room(2 * GB)


def test_modules_that_come_and_go_hold_no_more_than_there_is_of_them() -> None:
    residence = Residence(1 << 30, lambda tensor: tensor)
    residence.add("one", nn.Linear(8, 8, bias=False))
    residence.add("other", nn.Linear(8, 4, bias=False))
    assert residence.most == 4 * (64 + 32)
    assert Residence(0, lambda tensor: tensor).most == 0


@pytest.mark.parametrize("kind", ["edit", "causal"])
def test_float8_halves_the_transformer_and_stays_near(kind: str, folders: dict[str, Path]) -> None:
    folder = folders[kind]
    wide = family_of(folder, Loading(dtype="bf16"))
    narrow = family_of(folder, Loading(dtype="bf16", layerwise_fp8=True))
    linear = [name for name, m in wide.transformer.named_modules() if isinstance(m, nn.Linear)]
    kept = [
        name for name in linear if narrow.transformer.get_submodule(name).weight.dtype != torch.float8_e4m3fn
    ]
    assert all("norm" in name or name == "proj_out" for name in kept), kept
    shrunk = [name for name in linear if name not in kept]
    before = sum(size_of(wide.transformer.get_submodule(name)) for name in shrunk)
    assert sum(size_of(narrow.transformer.get_submodule(name)) for name in shrunk) * 2 == before
    assert before > 0.7 * size_of(wide.transformer)
    assert size_of(narrow.encoder) == size_of(wide.encoder)
    first, second = drawn(folder, wide), drawn(folder, narrow)
    mean = sum(abs(a - b) for a, b in zip(first.data, second.data, strict=True)) / len(first.data)
    assert 0 < mean < 16
    assert drawn(folder, narrow) == second
    assert narrow.transformer.get_submodule(shrunk[0]).weight.dtype == torch.float8_e4m3fn


def test_the_number_format_is_the_profile_s(folders: dict[str, Path]) -> None:
    assert family_of(folders["edit"]).transformer.dtype == torch.float32
    family = family_of(folders["edit"], Loading(dtype="bf16"))
    assert {module.dtype for module in family.modules.values()} == {torch.bfloat16}
    assert drawn(folders["edit"], family).size.area > 0


@pytest.mark.parametrize("kind", ["edit", "causal"])
def test_an_attention_backend_is_used(kind: str, folders: dict[str, Path]) -> None:
    folder = folders[kind]
    family = family_of(folder, Loading(attention="_native_math"))
    chosen = {
        str(m.processor._attention_backend.value)
        for m in family.transformer.modules()
        if hasattr(m, "processor")
    }
    assert chosen == {"_native_math"}
    assert difference(drawn(folder, family), drawn(folder, family_of(folder))) <= 1


def test_an_attention_backend_is_its_checkpoints_own(folders: dict[str, Path]) -> None:
    """The library makes it the process's: of other checkpoints, and of masked attention, which not every one takes."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry as registry

    before = registry._active_backend
    family_of(folders["edit"], Loading(attention="_native_math"))
    assert registry._active_backend is before


def test_a_backend_that_takes_no_mask_serves_where_none_is_needed(folders: dict[str, Path]) -> None:
    folder = folders["causal"]
    family = family_of(folder, Loading(attention="_native_flash"))
    assert difference(drawn(folder, family), drawn(folder, family_of(folder))) <= 1


def test_where_texts_of_unlike_lengths_go_together_a_mask_is_no_trouble(folders: dict[str, Path]) -> None:
    """Kernels that take none leave those steps to the default."""
    family = family_of(folders["edit"], Loading(attention="_native_flash"))
    works = [
        replace(make_work(token, inputs=1), prompt="cat " * (1 + 3 * place))
        for place, token in enumerate("ab")
    ]
    plans = [plan(work, Preset("tiny", 4), Native(multiple=16)) for work in works]
    lanes = [family.begin(made, family.prefill(made, family.encode(made)), 0) for made in plans]
    family.step(plans[0], lanes)
    alone = [family.begin(made, family.prefill(made, family.encode(made)), 0) for made in plans]
    for made, lane in zip(plans, alone, strict=True):
        family.step(made, [lane])
    for one, other in zip(lanes, alone, strict=True):
        assert float((one.latents - other.latents).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("loading", "contract"),
    [
        (Loading(), Contract.EXACT),
        (Loading(dtype="bf16", attention="_native_math"), Contract.EXACT),
        (Loading(layerwise_fp8=True), Contract.NARROWED),
        (Loading(attention="sage_varlen"), Contract.NARROWED),
        (Loading(attention="_sage_qk_int8_pv_fp8_cuda"), Contract.NARROWED),
    ],
)
def test_the_record_of_a_job_tells_of_narrowed_numbers(
    loading: Loading, contract: Contract, folders: dict[str, Path]
) -> None:
    models = {"*": Preset("tiny", 3, 2.0)}
    profile = Profile("tiny", "", {"tiny": checkpoint(folders["edit"], loading)}, models)
    crank = Crank(profile, family_of(folders["edit"]))
    crank.start(make_work())
    crank.turn()
    assert crank.of(Finished)[0].quality.contract is contract


@pytest.mark.parametrize(
    ("backend", "why"),
    [("quick", "must be one of"), ("flash", "cannot be had"), ("sage_hub", "code from a hub")],
)
def test_an_attention_backend_that_cannot_be_had_is_refused(
    backend: str, why: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(BadCheckpoint, match=why):
        family_of(folders["edit"], Loading(attention=backend))


def test_without_a_compiler_blocks_run_as_they_are_and_the_log_says_so(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with structlog.testing.capture_logs() as told:
        family = family_of(folders["edit"], Loading(compile="regional"))
    assert [line["event"] for line in told] == ["not compiled"]
    assert "C++" in told[0]["reason"]
    assert drawn(folders["edit"], family) == drawn(folders["edit"], family_of(folders["edit"]))


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("DANQING_TEST_COMPILE"),
    reason="compiling takes minutes; DANQING_TEST_COMPILE=1 runs it",
)
def test_compiled_blocks_draw_the_same(folders: dict[str, Path]) -> None:
    family = family_of(folders["edit"], Loading(compile="regional"))
    assert all(block._compiled_call_impl is not None for block in family.transformer.transformer_blocks)
    assert difference(drawn(folders["edit"], family), drawn(folders["edit"], family_of(folders["edit"]))) <= 1


@pytest.mark.parametrize("more", [{"layerwise_fp8": True}, {"offload": "model"}])
def test_what_cannot_be_compiled_is_not_asked_to_be(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="compile = regional"):
        replace(Loading(compile="regional"), **more)


def test_an_engine_opens_with_modules_that_are_asked_to_move_on_a_cpu(
    folders: dict[str, Path], one_thread: None
) -> None:
    asked = checkpoint(folders["edit"], Loading(offload="model"))
    engine = open_engine(Profile("p", "", {"tiny": asked}, {"*": Preset("tiny", 3)}), "cpu", threads=1)
    engine.close()


def test_by_default_a_family_is_what_it_is_without_being_settled(folders: dict[str, Path]) -> None:
    for kind, maker in (("edit", QwenImage1), ("causal", QwenImage21)):
        bare = maker(folders[kind], torch.device("cpu"), torch.float32)
        assert drawn(folders[kind], bare) == drawn(folders[kind], family_of(folders[kind]))
