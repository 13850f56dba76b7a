"""Tasks where a transcript is not enough: how often one may ask, and what a restart leaves."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from danqing.core.job import State
from tests.wire import house as houses
from tests.wire.house import House

SYNTHESIS = "/api/v1/services/aigc/text2image/image-synthesis"
EDITING = "/api/v1/services/aigc/image2image/image-synthesis"
TASKS = "/api/v1/tasks"


def drawn(prompt: str = "a red circle") -> dict[str, Any]:
    return {
        "model": "wan2.2-t2i-flash",
        "input": {"prompt": prompt},
        "parameters": {"n": 1, "size": "512*512"},
    }


async def submit(house: House, body: dict[str, Any], path: str = SYNTHESIS, key: str = "") -> str:
    headers = {"Authorization": f"Bearer {key or house.key}", "X-DashScope-Async": "enable"}
    answer = await house.client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["output"]["task_id"])


async def ask(house: House, path: str, key: str = "", method: str = "GET") -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key or house.key}"}
    answer = await house.client.request(method, path, headers=headers)
    return answer.status_code, answer.json()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, decoders=1) as opened:
        yield opened


# 109 and 108


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/x"), ("GET", ""), ("POST", "/x/cancel")], ids=["query", "list", "cancel"]
)
async def test_109_an_account_that_asks_thirty_times_in_a_second_is_slowed(
    house: House, method: str, path: str
) -> None:
    house.clock.stop()
    keys = [house.key, house.others["second"]]
    answers = [await ask(house, TASKS + path, keys[n % 2], method) for n in range(30)]
    assert [status == 429 for status, _ in answers] == [False] * 20 + [True] * 10
    assert {body["code"] for _, body in answers[20:]} == {"Throttling.RateQuota"}
    assert (await ask(house, TASKS + path, house.others["foreign"], method))[0] != 429
    house.clock.ahead += 1.0
    assert (await ask(house, TASKS + path, method=method))[0] != 429


async def test_108_a_client_that_waits_as_the_sdk_does_is_never_slowed(house: House) -> None:
    await houses.DEEDS["worker"](house, "stops")
    name = await submit(house, drawn())
    for pause in (1, 1, 2, 2, 2, 4, 4, 4, 5, 5):
        status, body = await ask(house, f"{TASKS}/{name}")
        assert (status, body["output"]["task_status"]) == (200, "PENDING")
        house.clock.ahead += pause


# restarts


async def test_tasks_survive_a_restart_of_everything(tmp_path: Path) -> None:
    async with houses.opened(tmp_path) as house:
        done = await submit(house, drawn())
        await houses.DEEDS["settle"](house)
        await houses.DEEDS["worker"](house, "stops")
        failed = await submit(house, {**drawn(), "parameters": {"size": "9*9"}})
        waiting = await submit(house, drawn("it waits"))
        running = await submit(house, drawn("it runs"))
        while (await house.store.figures())["queued"] < 2:  # noqa: ASYNC110 (a count, no event)
            await asyncio.sleep(0.01)
        house.arrivals.cancel()
        accepted = await submit(house, drawn("nobody has looked at it"))
        await houses.DEEDS["begin"](house)
        before = {name: await ask(house, f"{TASKS}/{name}", house.key) for name in (done, failed)}
        figures = await house.store.figures()
        assert (figures["accepted"], figures["queued"], figures["running"]) == (1, 1, 1)
        key = house.key
    async with houses.opened(tmp_path) as house:
        for name, (status, body) in before.items():
            again = await ask(house, f"{TASKS}/{name}", key)
            assert again[0] == status == 200
            assert again[1]["output"] == body["output"], "links and times included"
        house.clock.ahead += 40.0  # the lease of the worker that is gone
        await houses.DEEDS["settle"](house)
        for name in (waiting, running, accepted):
            _, body = await ask(house, f"{TASKS}/{name}", key)
            assert body["output"]["task_status"] == "SUCCEEDED"
        assert (await ask(house, f"{TASKS}?status=SUCCEEDED", key))[1]["total"] == 4


async def test_a_picture_is_fetched_after_the_answer_to_the_submit(house: House) -> None:
    house.arrivals.cancel()
    body = {
        "model": "wan2.5-i2i-preview",
        "input": {"prompt": "make it winter", "images": [f"http://{house.place}/a.jpg"]},
        "parameters": {"n": 1, "size": "768*768"},
    }
    name = await submit(house, body, EDITING)
    job = await house.store.get("acme", name)
    assert job is not None
    assert (job.state, job.brief.inputs) == (State.ACCEPTED, ())
    house.arrivals = asyncio.ensure_future(house.intake.arrivals.run())
    await houses.DEEDS["settle"](house)
    job = await house.store.get("acme", name)
    assert job is not None
    assert (job.state, len(job.brief.inputs)) == (State.SUCCEEDED, 1)
    house.arrivals.cancel()


async def test_an_order_that_cannot_be_read_ends_its_task_and_no_other(house: House, tmp_path: Path) -> None:
    house.arrivals.cancel()
    broken, whole = await submit(house, drawn()), await submit(house, drawn())
    with closing(sqlite3.connect(tmp_path / "danqing.sqlite3")) as connection, connection:
        connection.execute("UPDATE job SET body_ref = '{\"shape\": 1}' WHERE id = ?", (broken,))
    house.arrivals = asyncio.ensure_future(house.intake.arrivals.run())
    await houses.DEEDS["settle"](house)
    seen = [(await ask(house, f"{TASKS}/{name}"))[1]["output"]["task_status"] for name in (broken, whole)]
    assert seen == ["FAILED", "SUCCEEDED"]


async def test_a_refused_task_counts_the_pictures_that_were_asked_for(house: House) -> None:
    for n, pictures in ((1, 1), (3, 3), (99, 4)):
        body = drawn()
        body["parameters"] |= {"n": n, "seed": -1}
        output = (await ask(house, f"{TASKS}/{await submit(house, body)}"))[1]["output"]
        assert output["task_status"] == "FAILED"
        assert output["task_metrics"] == {"TOTAL": pictures, "SUCCEEDED": 0, "FAILED": pictures}


async def test_submitting_with_an_idempotency_key_gives_the_same_task(house: House) -> None:
    headers = {
        "Authorization": f"Bearer {house.key}",
        "X-DashScope-Async": "enable",
        "Idempotency-Key": "once",
    }
    first, second = [(await house.client.post(SYNTHESIS, json=drawn(), headers=headers)).json() for _ in "ab"]
    assert first["output"] == second["output"]
    assert first["request_id"] != second["request_id"]


async def test_a_key_of_another_call_is_refused_whichever_route_that_came_by(house: House) -> None:
    first = {"Authorization": f"Bearer {house.key}", "X-DashScope-Async": "enable", "Idempotency-Key": "once"}
    assert (await house.client.post(SYNTHESIS, json=drawn(), headers=first)).status_code == 200
    picture = {
        "model": "wan2.5-i2i-preview",
        "input": {"prompt": "a", "images": ["https://example.org/a.png"]},
    }
    other = await house.client.post(EDITING, json=picture, headers=first)
    assert (other.status_code, other.json()["code"]) == (422, "InvalidParameter")
