"""What every store of bytes promises: the same bytes back, keys of one grammar, links that open one thing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from danqing.blobs.folder import FolderBlobs
from danqing.core.blobkeys import input_key
from danqing.core.ports import BlobStore, LinkDead, LinkExpired, LinkForged
from tests.support.folders import files_below
from tests.support.jobs import digest, pictures

NOW = 1_790_000_000.0
KEY = pictures("job-a")[0].key
OTHER = pictures("job-b")[0].key
INPUT = input_key("ann", digest("one"))

Aged = tuple[BlobStore, Callable[[str, float], None]]


@pytest.fixture(params=["folder"])
def aged(request: pytest.FixtureRequest, tmp_path: Path) -> Aged:
    """A store, and a way to make one of its objects older by seconds."""
    assert request.param == "folder"
    root = tmp_path / "blobs"

    def age(key: str, seconds: float) -> None:
        then = time.time() - seconds
        os.utime(root / key, (then, then))

    return FolderBlobs(root, tmp_path / "secrets"), age


@pytest.fixture
def blobs(aged: Aged) -> BlobStore:
    return aged[0]


def split(link: str) -> tuple[str, str]:
    parts = urlsplit(link)
    return parts.path, parts.query


async def test_bytes_read_back_as_written(blobs: BlobStore) -> None:
    for key, data in ((KEY, b"\x89PNG" + bytes(range(256)) * 999), (INPUT, b"")):
        assert await blobs.read(key) is None
        assert not await blobs.has(key)
        await blobs.write(key, data)
        assert await blobs.has(key)
        assert await blobs.read(key) == data
    await blobs.write(KEY, b"again")
    assert await blobs.read(KEY) == b"again"


async def test_removed_objects_are_gone_and_unknown_ones_are_ignored(blobs: BlobStore) -> None:
    await blobs.write(KEY, b"a")
    await blobs.write(OTHER, b"b")
    await blobs.remove([KEY, pictures("job-c")[0].key, "../../etc/passwd"])
    assert await blobs.read(KEY) is None
    assert await blobs.read(OTHER) == b"b"
    await blobs.write(KEY, b"anew")
    assert await blobs.read(KEY) == b"anew"


async def test_writes_and_removals_at_once_leave_every_object_written(blobs: BlobStore) -> None:
    neighbours = [key.key for key in pictures("job-a", 6)]  # one folder for all
    for _ in range(10):
        await asyncio.gather(
            *(blobs.write(key, b"x") for key in neighbours[:3]), blobs.remove(neighbours[3:])
        )
        await asyncio.gather(
            *(blobs.write(key, b"x") for key in neighbours[3:]), blobs.remove(neighbours[:3])
        )
        assert [await blobs.read(key) for key in neighbours[3:]] == [b"x"] * 3


@pytest.mark.parametrize(
    "key",
    [
        "", "/", ".", "..", "a", "results/x.png", "../" + KEY, "/" + KEY, KEY + "/", KEY + "/..", KEY + "\0",
        KEY + "\n",
        KEY.replace("/", "//", 1), KEY.replace("/", "/./", 1), KEY.replace("/", "\\", 1), KEY.replace(".png", ".html"),
        KEY.upper(), INPUT + ".png", INPUT[:-1], "inputs/../" + KEY, "%2e%2e/" + KEY, KEY.replace("job", "jöb"),
    ],
)  # fmt: skip
async def test_s8_a_key_outside_the_grammar_touches_nothing(
    key: str, blobs: BlobStore, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await blobs.write(key, b"x")
    with pytest.raises(ValueError, match="not a key"):
        await blobs.read(key)
    with pytest.raises(ValueError, match="not the key of a result"):
        blobs.link(key, base="http://host", expires=1)
    assert files_below(tmp_path / "blobs") == []


async def test_stale_names_what_has_not_been_written_for_that_long(aged: Aged) -> None:
    blobs, age = aged
    for key in (KEY, OTHER, INPUT):
        await blobs.write(key, b"x")
    assert await blobs.stale(100.0) == []
    age(KEY, 101.0)
    age(INPUT, 101.0)
    age(OTHER, 99.0)
    assert sorted(await blobs.stale(100.0)) == sorted([KEY, INPUT])
    await blobs.write(INPUT, b"x")
    assert list(await blobs.stale(100.0)) == [KEY]


# links


async def test_a_link_opens_its_object_until_its_time_is_up(blobs: BlobStore) -> None:
    await blobs.write(KEY, b"pixels")
    link = blobs.link(KEY, base="https://danqing.example/", expires=int(NOW) + 60)
    path, query = split(link)
    assert link.startswith(f"https://danqing.example/results/{KEY}?Expires={int(NOW) + 60}&OSSAccessKeyId=")
    assert path.rsplit("/", 1)[-1] == "job-a-0.png", "clients name their file by the last part of the path"
    for when in (NOW - 1e6, NOW, NOW + 59.99):
        assert await blobs.follow(path, query, when) == b"pixels"
    for when in (NOW + 60, NOW + 1e6):
        with pytest.raises(LinkExpired) as over:
            await blobs.follow(path, query, when)
        assert over.value.expires == int(NOW) + 60


async def test_a_good_link_to_a_gone_object_is_dead(blobs: BlobStore) -> None:
    path, query = split(blobs.link(KEY, base="http://host", expires=int(NOW) + 60))
    with pytest.raises(LinkDead):
        await blobs.follow(path, query, NOW)


async def test_an_input_cannot_be_linked(blobs: BlobStore) -> None:
    await blobs.write(INPUT, b"somebody's photograph")
    with pytest.raises(ValueError, match="not the key of a result"):
        blobs.link(INPUT, base="http://host", expires=int(NOW))
    _, query = split(blobs.link(KEY, base="http://host", expires=int(NOW) + 60))
    with pytest.raises(LinkForged):
        await blobs.follow(f"/results/{INPUT}", query, NOW)
