"""Adapters: worn for the works that ask for them, and leaving nothing behind."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from danqing.core.events import ImageReady
from danqing.core.raster import Raster
from danqing.engine.adapters import Adapters
from danqing.engine.families.qwen_image_1 import QwenImage1
from danqing.engine.load import BadCheckpoint, Device, load_family
from danqing.engine.residence import Residence
from danqing.profiles.loader import (
    Adapter,
    BadProfile,
    Checkpoint,
    Native,
    Preset,
    Profile,
    Relation,
    load_profile,
)
from danqing.profiles.loading import Loading
from danqing.schedule.policy import by_turn
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_1x import tiny_1x
from tests.unit.engine.conftest import Crank, make_work
from tests.unit.engine.test_exactness import difference

STEPS, FEW = 4, 2
SCHEDULE = {"base_shift": math.log(3), "max_shift": math.log(3), "shift_terminal": 0.0}
LEVEL = 1
CPU = Device("cpu", "cpu", 1 << 34, 1 << 34)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    return tiny_1x(tmp_path_factory.mktemp("paint"), "paint")


@pytest.fixture(scope="module")
def lora(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on the attention of the tiny transformer, in the keys of diffusers."""
    transformer = QwenImageTransformer2DModel.from_pretrained(folder / "transformer")
    transformer.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "add_q_proj"]))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weights in transformer.named_parameters():
            if "lora_" in name:
                weights.normal_(std=3.0)
    state = {
        f"transformer.{name}": w.contiguous() for name, w in get_peft_model_state_dict(transformer).items()
    }
    file = tmp_path_factory.mktemp("lora") / "few-steps.safetensors"
    save_file(state, file)
    return file


def checkpoint(folder: Path, lora: Path | None) -> Checkpoint:
    adapters = {} if lora is None else {"few": Adapter("few", str(lora.parent), lora.name, schedule=SCHEDULE)}
    native = Native(multiple=16)
    return Checkpoint("tiny", str(folder), native, Relation.MINIATURE, "Apache-2.0", adapters=adapters)


@pytest.fixture(scope="module")
def profile(folder: Path, lora: Path) -> Profile:
    models = {"*": Preset("tiny", STEPS), "turbo": Preset("tiny", FEW, adapter="few")}
    return Profile("tiny", "", {"tiny": checkpoint(folder, lora)}, models)


@pytest.fixture(scope="module")
def family(profile: Profile) -> Any:
    return load_family(profile.checkpoints["tiny"], CPU)


def drawn(profile: Profile, family: Any, *models: str) -> dict[str, Raster]:
    made = Crank(profile, family, urgency=by_turn)
    made.start(*(replace(make_work(model), model=model) for model in models))
    made.turn()
    return {event.token: event.raster for event in made.of(ImageReady)}


def stock_picture(folder: Path, lora: Path | None) -> Raster:
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    work = make_work()
    if lora is not None:
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="few")
        config = {**pipeline.scheduler.config, **SCHEDULE, "shift_terminal": None}
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    image = pipeline(
        prompt=work.prompt,
        true_cfg_scale=1.0,
        height=work.size.height,
        width=work.size.width,
        num_inference_steps=STEPS if lora is None else FEW,
        generator=torch.Generator().manual_seed(work.seed),
    ).images[0]
    return Raster(work.size, 3, image.tobytes())


def test_with_and_without_an_adapter_pictures_are_the_stock_pipeline_s(
    folder: Path, lora: Path, profile: Profile, family: Any
) -> None:
    made = drawn(profile, family, "turbo", "plain")
    assert difference(made["turbo"], stock_picture(folder, lora)) <= LEVEL
    assert difference(made["plain"], stock_picture(folder, None)) <= LEVEL
    assert difference(made["plain"], made["turbo"]) > 8


def test_a_work_without_it_beside_one_with_it_is_as_if_there_were_none(
    folder: Path, profile: Profile, family: Any
) -> None:
    bare = QwenImage1(folder, torch.device("cpu"), torch.float32)
    alone = drawn(replace(profile, checkpoints={"tiny": checkpoint(folder, None)}), bare, "plain")
    assert drawn(profile, family, "plain", "turbo")["plain"] == alone["plain"]
    assert drawn(profile, family, "turbo", "plain")["plain"] == alone["plain"]


@pytest.mark.parametrize("kind", ["missing", "foreign", "pickle"])
def test_an_adapter_that_cannot_be_loaded_stops_the_start(kind: str, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / ("few.bin" if kind == "pickle" else "few.safetensors")
    if kind == "foreign":
        save_file({"transformer.nothing.here.lora_A.weight": torch.ones(2, 2)}, file)
    elif kind == "pickle":
        file.write_bytes(b"anything")
    with pytest.raises(BadCheckpoint, match="few"):
        load_family(checkpoint(folder, file), CPU)


def test_a_checkpoint_that_takes_none_says_so(tmp_path: Path, lora: Path) -> None:
    with pytest.raises(BadCheckpoint, match="takes no adapters"):
        load_family(checkpoint(tiny_checkpoint(tmp_path), lora), CPU)


PROFILE = """
[checkpoints.edit]
source = "/weights"
relation = "same"
licence = "Apache-2.0"
{adapter}

[models."*"]
checkpoint = "edit"
steps = 4
adapter = "few"
"""
ADAPTER = """
[checkpoints.edit.adapters.few]
source = "{source}"
file = "few.safetensors"
schedule = {{ base_shift = 1.0986, max_shift = 1.0986, shift_terminal = 0 }}
"""


def test_a_profile_declares_them(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PROFILE.format(adapter=ADAPTER.format(source="/loras")))
    profile = load_profile(tmp_path / "p.toml")
    few = profile.checkpoints["edit"].adapters["few"]
    assert few.folder == Path("/loras")
    assert few.schedule["max_shift"] == pytest.approx(1.0986)
    assert profile.models["*"].adapter == "few"


@pytest.mark.parametrize(
    ("adapter", "why"),
    [("", "which its checkpoint does not have"), (ADAPTER.format(source="who"), "no folder and no hub id")],
)
def test_a_profile_whose_adapters_do_not_fit_is_refused(adapter: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PROFILE.format(adapter=adapter))
    with pytest.raises(BadProfile, match=why):
        load_profile(tmp_path / "p.toml")


@pytest.mark.parametrize("how", ["float8", "coming and going"])
def test_adapters_are_worn_however_the_checkpoint_is_loaded(
    how: str, folder: Path, lora: Path, profile: Profile, family: Any
) -> None:
    narrow = how == "float8"
    loading = Loading(dtype="bf16", layerwise_fp8=True) if narrow else Loading(offload="model")
    residence = None if narrow else Residence(1 << 20, torch.Tensor.clone)
    moved = load_family(replace(checkpoint(folder, lora), loading=loading), CPU, residence=residence)
    made = drawn(profile, moved, "turbo", "plain")
    if not narrow:
        assert made == drawn(profile, family, "turbo", "plain")
        return
    weights = dict(moved.transformer.named_parameters())
    own = {name: tensor.dtype for name, tensor in weights.items() if "lora_" in name}
    assert set(own.values()) == {torch.bfloat16}
    worn = {name for name in weights if name.endswith("to_q.base_layer.weight")}
    assert {weights[name].dtype for name in worn} == {torch.float8_e4m3fn}
    assert difference(made["plain"], made["turbo"]) > 8


class Wardrobe:
    """A transformer that notes what is done to it, and breaks off where it is told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.breaks = False

    def disable_lora(self) -> None:
        self.done.append("off")

    def enable_lora(self) -> None:
        self.done.append("on")

    def set_adapters(self, name: str, _: float) -> None:
        if self.breaks:
            raise RuntimeError("out of memory")
        self.done.append(name)


class Schedule:
    config: ClassVar[dict[str, float]] = {}

    @classmethod
    def from_config(cls, _: Any) -> Schedule:
        return cls()


def test_a_change_that_broke_off_is_not_taken_for_one_that_never_began() -> None:
    transformer = Wardrobe()
    adapters = Adapters(transformer, Schedule(), lambda *_: None)
    adapters.add("few", Path("few"), {})
    transformer.breaks = True
    with pytest.raises(RuntimeError):
        adapters.wear("few")
    transformer.done.clear()
    adapters.wear(None)
    assert transformer.done == ["off"]
    adapters.wear(None)
    assert transformer.done == ["off"]
