"""Result links beyond one whole picture: parts of it, for downloads that broke off and for readers that seek."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.wire import house as houses
from tests.wire.house import House
from tests.wire.test_behaviour import post


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, decoders=0) as opened:
        yield opened


async def link(house: House) -> str:
    """Where a finished picture is."""
    answer = await post(house)
    return str(answer.json()["output"]["choices"][0]["message"]["content"][0]["image"])


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=10-", slice(10, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=5-99999999999", slice(5, None)),
        ("bytes=-99999999999", slice(0, None)),
    ],
)
async def test_a_part_is_answered_with_where_it_lies(house: House, asked: str, part: slice) -> None:
    url = await link(house)
    whole = (await house.client.get(url)).content
    begin, end, _ = part.indices(len(whole))
    answer = await house.client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, whole[part])
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(whole)}"
    assert int(answer.headers["content-length"]) == end - begin
    assert answer.headers["content-type"] == "image/png"


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=a-b", ""])
async def test_what_is_no_range_of_this_server_gets_everything(house: House, asked: str) -> None:
    url = await link(house)
    answer = await house.client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.headers["accept-ranges"]) == (200, "bytes")
    assert answer.content == (await house.client.get(url)).content


async def test_a_part_of_another_picture_is_never_sent(house: House) -> None:
    headers = {"Range": "bytes=0-9", "If-Range": '"an earlier one"'}
    assert (await house.client.get(await link(house), headers=headers)).status_code == 200


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
async def test_a_part_behind_the_end_is_refused_with_the_size(house: House, asked: str) -> None:
    url = await link(house)
    size = len((await house.client.get(url)).content)
    answer = await house.client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
    assert "<Code>InvalidRange</Code>" in answer.text


async def test_a_link_that_nobody_signed_has_no_parts(house: House) -> None:
    url = (await link(house)).replace("Signature=", "Signature=x")
    assert (await house.client.get(url, headers={"Range": "bytes=0-9"})).status_code == 403
