"""What is loaded and what is refused, and that importing does no work."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

from danqing.engine.build import open_engine, order_for
from danqing.engine.cache import Budget
from danqing.engine.families.qwen_image_21 import QwenImage21
from danqing.engine.load import BadCheckpoint, Device, check_folder, load_family
from danqing.engine.memory import find_device, make_room
from danqing.profiles.loader import Checkpoint, Native, Profile, Relation

CPU = Device("cpu", "a CPU", 1 << 30, 1 << 30)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def checkpoint(source: str, revision: str | None = None) -> Checkpoint:
    return Checkpoint("one", source, Native(), Relation.MINIATURE, "Apache-2.0", revision)


def test_the_class_in_the_index_chooses_the_family(tiny: Path) -> None:
    assert check_folder(tiny) == "QwenImage21Pipeline"
    assert isinstance(load_family(checkpoint(str(tiny)), CPU), QwenImage21)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "vae/model.pt", "x.ckpt", "deep/er/x.PKL", "modeling.py"]
)
def test_a_folder_with_files_that_could_run_code_is_refused(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).touch()
    with pytest.raises(BadCheckpoint, match="only safetensors"):
        check_folder(copy)


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ({"_class_name": "QwenImage21Pipeline", "vae": ["my_code", "Vae"]}, "my_code"),
        ({"_class_name": "QwenImage21Pipeline", "vae": [["pipeline.py"], "Vae"]}, "libraries"),
        ({"_class_name": ["pipeline.py", "Own"]}, "libraries"),
        ({"_class_name": "StableDiffusionPipeline"}, "no family"),
        ([], "not a pipeline"),
    ],
)
def test_an_index_that_names_other_code_is_refused(copy: Path, index: object, why: str) -> None:
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BadCheckpoint, match=why):
        load_family(checkpoint(str(copy)), CPU)


def test_a_folder_without_an_index_or_with_a_broken_one_is_refused(copy: Path) -> None:
    (copy / "model_index.json").write_text("{")
    with pytest.raises(BadCheckpoint, match="not JSON"):
        check_folder(copy)
    (copy / "model_index.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"no model_index\.json"):
        check_folder(copy)


def test_a_folder_with_a_part_missing_is_refused_in_words(copy: Path) -> None:
    (copy / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="cannot be loaded"):
        load_family(checkpoint(str(copy)), CPU)


def test_an_engine_opens_from_a_profile_and_names_its_device(profile: Profile, one_thread: None) -> None:
    engine = open_engine(profile, "cpu", threads=1)
    engine.close()
    assert torch.get_num_threads() == 1
    device = find_device("cpu")
    assert device.kind == "cpu"
    assert 0 < device.free <= device.memory
    assert device.dtype == torch.float32
    assert 0 < make_room("cpu").limit <= device.memory


def test_unknown_devices_and_policies_are_refused() -> None:
    with pytest.raises(ValueError, match="toaster"):
        find_device("toaster")
    with pytest.raises(ValueError, match="whim"):
        order_for("cpu", "whim")


@pytest.mark.parametrize("name", ["build", "cache", "canvas", "load", "loop", "memory", "families.contract"])
def test_only_families_import_the_model_libraries_and_only_when_one_is_wanted(name: str) -> None:
    spec = importlib.util.find_spec(f"danqing.engine.{name}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    named = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    named |= {one.name for node in tree.body if isinstance(node, ast.Import) for one in node.names}
    assert not {word.split(".")[0] for word in named} & {"diffusers", "transformers", "torchvision"}
    assert "danqing.engine.families.qwen_image_21" not in named


def test_how_much_may_be_remembered_is_what_was_asked_for_or_suits_the_device() -> None:
    card, laptop = Device("cuda", "a card", 80 << 30, 40 << 30), Device("cpu", "cores", 8 << 30, 2 << 30)
    assert card.keep() == Budget(2 << 30, 8 << 30)
    assert (card.keep(5), card.keep(0)) == (Budget(5, 20), Budget())
    assert (laptop.keep(), laptop.keep(7)) == (Budget((2 << 30) // 20, 0), Budget(7, 0))
