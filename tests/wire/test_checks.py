"""What is kept of a request that was refused for one of its pictures: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.folders import files_below
from tests.wire import house as houses
from tests.wire.house import House

EDIT = "/api/v1/services/aigc/multimodal-generation/generation"
TASK = "/api/v1/services/aigc/image2image/image-synthesis"


def stored(folder: Path) -> list[Path]:
    """Pictures of any kind that lie in the store."""
    return files_below(folder / "blobs")


async def post(house: House, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    headers["Authorization"] = f"Bearer {house.key}"
    answer: dict[str, Any] = (await house.client.post(path, json=body, headers=headers)).json()
    return answer


def edit(*images: str) -> dict[str, Any]:
    content = [*({"image": image} for image in images), {"text": "make it winter"}]
    return {"model": "qwen-image-edit-plus", "input": {"messages": [{"role": "user", "content": content}]}}


def task(*images: str) -> dict[str, Any]:
    given = {"prompt": "make it winter", "images": list(images)}
    return {"model": "wan2.5-i2i-preview", "input": given, "parameters": {"n": 1}}


@pytest.mark.parametrize("checker", ["red", "away"])
async def test_nothing_of_a_call_is_stored_or_charged(tmp_path: Path, checker: str) -> None:
    async with houses.opened(tmp_path) as house:
        await house.deed(f"checker {checker}")
        before = stored(tmp_path)
        answer = await post(
            house, EDIT, edit(house.fill("<png 512x512 blue>"), house.fill("<png 512x512 red>"))
        )
        assert answer.get("code") == {"red": "DataInspectionFailed", "away": "ModelUnavailable"}[checker]
        assert stored(tmp_path) == before
        account = await house.store.account("acme")
        assert account is None or (account.used, account.held) == (0, 0)
        assert house.seen == []


async def test_nothing_of_a_task_is_stored_once_one_of_its_pictures_is_refused(tmp_path: Path) -> None:
    """The blue one came with the request and was fine; the red one is fetched later."""
    async with houses.opened(tmp_path) as house:
        await house.deed("checker red")
        before = stored(tmp_path)
        images = house.fill("<png 512x512 blue>"), house.fill("<host>/512x512/red.png")
        submitted = await post(house, TASK, task(*images), **{"X-DashScope-Async": "enable"})
        task_id = submitted["output"]["task_id"]
        await house.deed("settle")
        await eventually(lambda: stored(tmp_path) == before)
        job = await house.store.get("acme", task_id)
        assert job is not None
        assert type(job.fault).__name__ == "InputRefused"
        account = await house.store.account("acme")
        assert account is None or (account.used, account.held) == (0, 0)
        assert not any((await house.store.audit()).values())


async def test_what_another_task_has_stays(tmp_path: Path) -> None:
    async with houses.opened(tmp_path) as house:
        await house.deed("checker red")
        blue = house.fill("<png 512x512 blue>")
        await post(house, TASK, task(blue), **{"X-DashScope-Async": "enable"})
        await house.deed("settle")
        kept = stored(tmp_path)
        refused = task(blue, house.fill("<png 512x512 green>"), house.fill("<host>/512x512/red.png"))
        await post(house, TASK, refused, **{"X-DashScope-Async": "enable"})
        assert len(stored(tmp_path)) == len(kept) + 1
        await house.deed("settle")
        await eventually(lambda: sorted(stored(tmp_path)) == sorted(kept))
