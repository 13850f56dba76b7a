"""What a transcript cannot show: clients that leave, keys that come twice, errors nobody foresaw, limits on bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message
from structlog.testing import capture_logs

from danqing.core.errors import EngineFailed
from danqing.core.job import Job, State
from danqing.wire.guard import Crowd
from danqing.wire.http import build
from tests.wire import house as houses
from tests.wire.house import House

PATH = "/api/v1/services/aigc/multimodal-generation/generation"
BODY: dict[str, Any] = {
    "model": "qwen-image-2.0",
    "input": {"messages": [{"role": "user", "content": [{"text": "a red house"}]}]},
    "parameters": {"size": "512*512"},
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, decoders=0) as opened:
        yield opened


async def post(house: House, body: Any = None, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.client.post(
        PATH, json=BODY if body is None else body, headers={"Authorization": f"Bearer {house.key}", **names}
    )


class Caller:
    """A client of the bare ASGI application that sends what it likes and leaves when it likes."""

    def __init__(self, app: FastAPI, key: str, **more: str) -> None:
        self.app, self.sent, self.inbox = app, list[Message](), asyncio.Queue[Message]()
        headers = {"authorization": f"Bearer {key}", "host": "testserver", **more}
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "scheme": "http",
            "client": ("203.0.113.9", 1),
            "server": ("testserver", 80),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }

    def call(self) -> asyncio.Task[None]:
        async def send(message: Message) -> None:
            self.sent.append(message)

        return asyncio.create_task(self.app(self.scope, self.inbox.get, send))

    def send(self, data: bytes, *, more: bool = False) -> None:
        self.inbox.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.sent[1]["body"])


async def the_job(house: House) -> Job:
    """The only job there is."""
    (lease,) = house.seen or (await house.store.news("worker-9", room=1, seconds=1)).leases
    job = await house.store.get("acme", lease.job_id)
    assert job is not None
    return job


# clients that leave (K10)


async def waiting_caller(house: House, **headers: str) -> tuple[Caller, asyncio.Task[None]]:
    """A client whose job waits in the queue, and can be listened to by the call's own id: the row is there a moment
    before that."""
    await house.deed("worker stops")
    caller = Caller(build(house.desk), house.key, **headers)
    task = caller.call()
    caller.send(json.dumps(BODY).encode())
    async with asyncio.timeout(30):
        while not ((await house.store.figures()).get("queued") and house.desk.calls):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return caller, task


async def test_a_client_that_leaves_while_queued_cancels_its_job(house: House) -> None:
    caller, task = await waiting_caller(house)
    caller.leave()
    await task
    assert caller.sent == []
    assert (await house.store.figures())["cancelled"] == 1


async def test_a_client_that_leaves_while_its_job_runs_cancels_it(house: House) -> None:
    caller, task = await waiting_caller(house)
    (lease,) = (await house.store.news("worker-9", room=1, seconds=1)).leases
    caller.leave()
    await task
    job = await house.store.get("acme", lease.job_id)
    assert job is not None
    assert job.state is State.CANCELLED


async def test_a_call_whose_answer_is_stopped_from_inside_cancels_its_job_too(house: House) -> None:
    _, task = await waiting_caller(house)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await house.store.figures())["cancelled"] == 1


async def test_a_client_with_an_idempotency_key_can_come_back_for_its_pictures(house: House) -> None:
    caller, task = await waiting_caller(house, idempotency_key="k")
    caller.leave()
    await task
    assert (await house.store.figures())["queued"] == 1
    await house.deed("worker works")
    answer = await post(house, Idempotency_Key="k")
    assert answer.status_code == 200
    assert len(house.seen) == 1


async def test_a_client_that_leaves_while_sending_orders_nothing(house: House) -> None:
    caller = Caller(build(house.desk), house.key)
    task = caller.call()
    caller.send(b'{"model"', more=True)
    caller.leave()
    await task
    assert (caller.status, caller.body["code"]) == (400, "InvalidParameter")  # a bad chunk looks like leaving
    assert not house.seen


# idempotency (P5)


async def test_p5_the_same_key_and_body_give_the_same_answer_and_one_charge(house: House) -> None:
    answers = await asyncio.gather(*(post(house, Idempotency_Key="k") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({json.dumps(answer.json()["output"]) for answer in answers}) == 1
    assert len(house.seen) == 1
    account = await house.store.account("acme")
    assert account is not None
    assert (account.held, account.used) == (0, 1)


async def test_p5_a_replay_does_not_fetch_its_pictures_again(tmp_path: Path) -> None:
    async with houses.opened(tmp_path) as house:
        body = json.loads(json.dumps(BODY))
        body["input"]["messages"][0]["content"].append({"image": f"http://{house.place}/a.jpg"})
        first = await post(house, body, Idempotency_Key="k")
        assert first.status_code == 200
        house.intake._inputs = None  # type: ignore[assignment]
        again = await post(house, body, Idempotency_Key="k")
        assert again.json()["output"] == first.json()["output"]


async def test_p5_without_a_key_every_call_is_a_new_order(house: House) -> None:
    await post(house)
    await post(house)
    assert len(house.seen) == 2


async def test_p5_a_refused_request_does_not_use_its_key_up(house: House) -> None:
    refused = await post(house, {**BODY, "parameters": {"n": 99}}, Idempotency_Key="k")
    assert refused.status_code == 400
    assert (await post(house, Idempotency_Key="k")).status_code == 200


# what a job is told


async def test_a_brief_holds_every_default_and_the_prompt_cut(house: House) -> None:
    body = json.loads(json.dumps(BODY))
    body["input"]["messages"][0]["content"][0]["text"] = "雪" * 5000
    await post(house, body)
    brief = (await the_job(house)).brief
    assert brief.prompt == "雪" * 1300
    assert 0 <= brief.seed < 2**31
    assert dict(brief.knobs) == {"prompt_extend": True}
    assert brief.negative_prompt is None


async def test_a_given_seed_is_kept_and_drawn_ones_differ(house: House) -> None:
    await post(house, {**BODY, "parameters": {"size": "512*512", "seed": 0}})
    await post(house)
    await post(house)
    seeds = [lease.brief.seed for lease in house.seen]
    assert seeds[0] == 0
    assert len(set(seeds)) == 3


async def test_p3_a_call_out_of_time_is_not_charged(house: House) -> None:
    await house.deed("worker stops")
    await house.deed("patience 0.05")
    assert (await post(house)).status_code == 500
    account = await house.store.account("acme")
    assert account is not None
    assert (account.held, account.used) == (0, 0)
    assert not any((await house.store.audit()).values())


async def test_a_failed_picture_says_nothing_of_our_insides(house: House) -> None:
    await house.deed("worker stops")
    call = asyncio.create_task(post(house))
    (lease,) = (await house.store.news("worker-9", room=1, seconds=5)).leases
    await house.store.fail(lease.token, EngineFailed("CUDA error at /srv/secret"))
    answer = await call
    assert answer.status_code == 500
    assert answer.json()["code"] == "InternalError.Algo"
    assert "secret" not in answer.text


# a call that is watched


async def test_a_named_call_can_be_watched_by_its_tenant_alone(house: House) -> None:
    name = "01234567-89ab-cdef-0123-456789abcdef"
    await house.deed("worker stops")
    call = asyncio.create_task(post(house, X_Request_ID=name))
    (lease,) = (await house.store.news("worker-9", room=1, seconds=5)).leases
    assert lease.job_id != name
    house.desk.board.see(lease.job_id, 3, 20, 1.5)
    stranger = (await house.keys.create("other", tenant="evil")).secret
    mine = {"Authorization": f"Bearer {house.key}"}
    seen = await house.client.get(f"/progress/{name}", headers=mine)
    assert seen.json() == {"state": "running", "step": 3, "steps": 20, "left": 1.5}
    for path, key in ((name, stranger), (lease.job_id, stranger), ("nothing", house.key)):
        answer = await house.client.get(f"/progress/{path}", headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["code"]) == (404, "NotFound")
    assert (await house.client.get(f"/progress/{name}")).status_code == 401
    await house.store.release(lease.token)
    await house.deed("worker works")
    answer = await call
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == name
    assert (await house.client.get(f"/progress/{name}", headers=mine)).status_code == 404


async def test_a_name_used_twice_makes_two_jobs(house: House) -> None:
    name = "01234567-89ab-cdef-0123-456789abcdef"
    answers = await asyncio.gather(*(post(house, X_Request_ID=name) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(house.seen) == 2


@pytest.mark.parametrize("name", ["1", "x" * 36, "01234567-89AB-cdef-0123-456789abcdef", "a\u00e9"])
async def test_a_name_that_is_no_uuid_is_replaced(house: House, name: str) -> None:
    answer = await house.client.get("/health", headers={"X-Request-ID": name.encode("latin-1")})
    assert answer.headers["x-request-id"] != name


async def test_whether_it_is_well_can_be_asked_without_a_body(house: House) -> None:
    asked = await house.client.head("/health")
    assert asked.status_code == (await house.client.get("/health")).status_code


# what nobody foresaw


async def test_an_unexpected_error_is_json_without_its_trace(house: House) -> None:
    def broken() -> Any:
        raise RuntimeError("secret at line 7")

    app = build(replace(house.desk, vital=broken))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        with capture_logs() as lines:
            answer = await client.get("/health")
    assert [line["event"] for line in lines] == ["request failed", "request"]
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["code"] == "InternalError"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text


async def test_a_host_header_that_is_no_host_does_not_reach_a_link(house: House) -> None:
    answer = await post(house, Host='evil"<b>')
    assert answer.json()["output"]["choices"][0]["message"]["content"][0]["image"].startswith(
        "http://testserver"
    )


async def test_links_begin_with_the_public_url_where_there_is_one(house: House) -> None:
    app = build(replace(house.desk, public_url="https://pictures.example/danqing/"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inside") as client:
        answer = await client.post(PATH, json=BODY, headers={"Authorization": f"Bearer {house.key}"})
    image = answer.json()["output"]["choices"][0]["message"]["content"][0]["image"]
    assert image.startswith("https://pictures.example/danqing/results/")
    assert image.split("?")[0].endswith("-0.png")


# limits on bytes and calls (S6, S7)


async def test_s7_a_body_that_stops_is_given_up(house: House) -> None:
    caller = Caller(build(replace(house.desk, body_seconds=0.05)), house.key)
    task = caller.call()
    caller.send(b'{"model"', more=True)
    await task
    assert (caller.status, caller.body["code"]) == (408, "RequestTimeOut")


async def test_s6_a_body_that_says_it_is_too_large_is_not_read(house: House) -> None:
    caller = Caller(build(house.desk), house.key, content_length=str(200 * 1024 * 1024))
    await caller.call()
    assert (caller.status, caller.body["code"]) == (400, "BadRequest.TooLarge")


async def test_s6_hostile_bodies_leave_other_calls_unharmed(house: House) -> None:
    hostile = [
        b"[" * 5_000_000,
        b"[0," * 2_000_000,
        b'{"a":' * 1_000_000,
        b'{"model": "' + b"x" * 20_000_000 + b'"}',
    ]
    headers = {"Authorization": f"Bearer {house.key}"}
    bad = [house.client.post(PATH, content=body, headers=headers) for body in hostile]
    *refused, good = await asyncio.gather(*bad, post(house))
    assert [answer.status_code for answer in refused] == [400] * 4
    assert good.status_code == 200


async def test_too_many_calls_at_once_are_told_to_come_back(house: House) -> None:
    await house.deed("worker stops")
    app = build(replace(house.desk, crowd=Crowd(10, 2)))
    first, second, third = (Caller(app, house.key) for _ in range(3))
    tasks = [first.call(), second.call()]
    await asyncio.sleep(0)
    await third.call()
    assert (third.status, third.body["code"]) == (429, "Throttling")
    for caller in (first, second):
        caller.leave()
    await asyncio.gather(*tasks)
    again = Caller(app, house.key)
    again.send(b"{")
    await again.call()
    assert again.status == 400


# the page of the API


async def test_every_route_that_takes_a_body_declares_it(house: House) -> None:
    answer = await house.client.get("/openapi.json")
    assert answer.status_code == 200
    page = answer.json()
    posts = [(path, verbs["post"]) for path, verbs in page["paths"].items() if "post" in verbs]
    assert posts
    for path, operation in posts:
        (content,) = operation["requestBody"]["content"].values()
        assert content["schema"], path


async def test_every_reference_of_the_page_leads_somewhere(house: House) -> None:
    page = (await house.client.get("/openapi.json")).json()
    assert page["paths"]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    for reference in references(page):
        place: Any = page
        for part in reference.removeprefix("#/").split("/"):
            assert part in place, reference
            place = place[part]


async def test_metrics_count_calls_by_route_and_tell_the_audit(house: House) -> None:
    await post(house)
    house.desk.board.count("main-1", {"units_step": 12.0})
    page = (await house.client.get("/metrics")).text
    assert f'danqing_request_seconds_count{{method="POST",route="{PATH}",status="200"}} 1.0' in page
    assert 'danqing_figures{name="succeeded"} 1.0' in page
    assert "danqing_audit" in page
    assert 'danqing_work{name="engine_seconds"} 0.0' in page
    assert 'danqing_engine{name="units_step",worker="main-1"} 12.0' in page
    assert "danqing_ready 1.0" in page
    house.desk.board.gone("main-1")
    assert "main-1" not in (await house.client.get("/metrics")).text
