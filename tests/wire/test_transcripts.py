"""Every transcript in `cases/`, against the real routes, intake, store and decoders."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.wire import house as houses
from tests.wire.house import House
from tests.wire.transcript import UUID, Exchange, compare, matches, read

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
async def test_the_service_answers_as_the_transcript_says(path: Path, tmp_path: Path) -> None:
    async with houses.opened(tmp_path) as house:
        for exchange in read(path):
            answer = await _send(house, exchange)
            problems = _problems(_named(house, exchange), answer)
            assert not problems, f"{path.name}:{exchange.line} {exchange.title}\n" + "\n".join(problems)


def _named(house: House, exchange: Exchange) -> Exchange:
    """The exchange with its tasks' ids where the wanted answer names them."""
    wanted = exchange.wanted_body
    if wanted is None:
        return exchange
    ids = {f"<task {number}>": name for number, name in enumerate(house.tasks, 1)}
    for mark, name in ids.items():
        wanted = wanted.replace(mark, name)
    return replace(exchange, wanted_body=wanted)


async def _send(house: House, exchange: Exchange) -> httpx.Response:
    for deed in exchange.deeds:
        await house.deed(deed)
    headers = {"Authorization": "Bearer <key>", "Content-Type": "application/json"}
    named = {name.lower() for name in exchange.headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in named}
    headers |= {name: value for name, value in exchange.headers.items() if value}
    answer = await house.client.request(
        exchange.method,
        house.fill(exchange.path),
        headers={name: house.fill(value) for name, value in headers.items()},
        content=house.fill(exchange.body).encode("utf-8", "surrogateescape"),
    )
    found = (
        re.findall(r'"(?:image|url)":"(http[^"]+)"', answer.text)
        if answer.headers.get("content-type", "").startswith("application/json")
        else []
    )
    house.links = found or house.links
    house.note(answer)
    house.tasks += re.findall(r'"task_status":"PENDING","task_id":"([^"]+)"', answer.text)
    return answer


def _problems(exchange: Exchange, answer: httpx.Response) -> list[str]:
    if answer.status_code != exchange.status:
        return [f"status {answer.status_code}, not {exchange.status}: {answer.content[:500]!r}"]
    problems = [
        f"{name}: {answer.headers.get(name)!r} is not {wanted!r}"
        for name, wanted in exchange.wanted_headers.items()
        if not matches(wanted, answer.headers.get(name, ""))
    ]
    problems += _always(answer)
    wanted = exchange.wanted_body
    if wanted is None:
        return problems
    if wanted.startswith("<png "):
        return problems + houses.looks_like(answer.content, wanted)
    return problems + compare(wanted, answer.text)


def _always(answer: httpx.Response) -> list[str]:
    """What holds for every answer (cases 148, 149): the id in the header is the body's; a success has no error's
    members."""
    if not re.fullmatch(UUID, answer.headers.get("x-request-id", "")):
        return ["X-Request-ID: missing"]
    if (
        not answer.headers.get("content-type", "").startswith("application/json")
        or "request_id" not in answer.json()
    ):
        return []
    body = answer.json()
    problems = []
    if body["request_id"] != answer.headers["x-request-id"]:
        problems.append("X-Request-ID: not the body's request_id")
    if answer.status_code == 200 and body.keys() & {"code", "message", "status_code"}:
        problems.append("a success with an error's members")
    return problems
