"""One worker for each GPU, which sees no other."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from danqing.app import gpus, worker_commands
from danqing.settings import Settings, load
from danqing.work.gpus import listed_gpus

TOOL = "#!/bin/sh\nprintf 'GPU-aaa\\nGPU-bbb\\nGPU-ccc\\n'\n"


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three GPUs, as the driver's tool tells it."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(TOOL)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(metadata, "version", lambda _: "2.13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def settings(tmp_path: Path, **engine: object) -> Settings:
    return load(data=tmp_path, engine=engine)


def seen(tmp_path: Path, **engine: object) -> dict[str, str | None]:
    """By device: the one GPU that its worker sees, or None if nothing is kept from it."""
    chosen = settings(tmp_path, **engine)
    commands = worker_commands(chosen, tmp_path / "s", gpus(chosen.engine))
    found = {}
    for device, command in commands.items():
        words = command("a-name")
        assert words[-2:] == ["--name", "a-name"]
        found[device] = words[1].partition("=")[2] if words[0] == "env" else None
    return found


def test_each_gpu_has_a_worker_that_sees_it_alone(three: None, tmp_path: Path) -> None:
    assert seen(tmp_path) == {"gpu0": "GPU-aaa", "gpu1": "GPU-bbb", "gpu2": "GPU-ccc"}


def test_fewer_may_be_used(three: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(tmp_path, gpus=2) == {"gpu0": "GPU-aaa", "gpu1": "GPU-bbb"}
    assert seen(tmp_path, gpus=1) == {"gpu0": "GPU-aaa"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert seen(tmp_path) == {"gpu0": "2", "gpu1": "0"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert seen(tmp_path) == {"main": None}


def test_without_gpus_there_is_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(metadata, "version", lambda _: "2.13.0")
    assert listed_gpus() == ()
    assert seen(tmp_path) == {"main": None}


def test_a_cpu_asked_for_is_one_worker_on_any_machine(three: None, tmp_path: Path) -> None:
    assert seen(tmp_path, device="cpu") == {"main": None}


def test_a_tensor_library_without_cuda_has_no_gpus(three: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "2.13.0+cpu")
    assert listed_gpus() == ()
    assert listed_gpus(("0", "1")) == ()
