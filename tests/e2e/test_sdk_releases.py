"""The same calls through other releases of the official SDK, each in an environment of its own.

DANQING_TEST_SDKS names their interpreters, separated by colons; `make sdks` makes some and runs this file. The release
installed beside the project is tried in any case.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support import sdk_calls
from tests.support.open_house import OpenHouse, open_house
from tests.wire.house import COLOURS

NAMED = [path for path in os.environ.get("DANQING_TEST_SDKS", "").split(":") if path]
LATER = {
    "edit_with_asyncio": (1, 24, 3),
    "task_with_asyncio": (1, 24, 3),
    "task_with_local_pictures": (1, 24, 7),
    "generation_class": (1, 25, 7),
}
"""Calls that an older release than this may lack."""


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenHouse]:
    with open_house(tmp_path_factory.mktemp("painted")) as house:
        yield house


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("图 pictures")
    for name in ("red", "green", "blue"):
        Image.new("RGB", (640, 800), COLOURS[name]).save(folder / f"{name}.png")
    return folder


def called(python: str, house: OpenHouse, pictures: Path, names: list[str]) -> dict[str, str]:
    """How each call went."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DASHSCOPE", "PYTHON"))}
    found = {
        **kept,
        "DASHSCOPE_HTTP_BASE_URL": house.url + "/api/v1",
        "DASHSCOPE_API_KEY": house.key,
    }
    command = [python, sdk_calls.__file__, str(pictures), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=found, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["call"]: line["found"] for line in lines}


def release(python: str) -> tuple[int, ...]:
    asked = [python, "-c", "from dashscope.version import __version__; print(__version__)"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=True)
    return tuple(int(number) for number in done.stdout.split("."))


def went_well(python: str, house: OpenHouse, pictures: Path) -> None:
    found_release, names = release(python), sdk_calls.CALLS
    absent = {name for name, since in LATER.items() if found_release < since}
    found = called(python, house, pictures, names)
    house.deed("worker stops")
    try:
        found |= called(python, house, pictures, sdk_calls.IDLE)
    finally:
        house.deed("worker works")
    assert set(found) == {*names, *sdk_calls.IDLE}
    wrong = {
        name: why for name, why in found.items() if why != "ok" and not (why == "absent" and name in absent)
    }
    assert not wrong, f"dashscope {found_release}\n" + "\n".join(
        f"{name}: {why}" for name, why in wrong.items()
    )


@pytest.mark.slow
def test_the_release_beside_the_project(painted: OpenHouse, pictures: Path) -> None:
    went_well(sys.executable, painted, pictures)


@pytest.mark.slow
@pytest.mark.parametrize(
    "python",
    NAMED or [pytest.param("", marks=pytest.mark.skip(reason="DANQING_TEST_SDKS names no interpreters"))],
)
def test_another_release(python: str, painted: OpenHouse, pictures: Path) -> None:
    went_well(python, painted, pictures)
