"""What stores of jobs and of bytes promise about files that callers send ahead."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from danqing.blobs.folder import FolderBlobs
from danqing.core.blobkeys import new_nonce, upload_key
from danqing.core.ports import JobStore, Seal
from danqing.core.uploads import Kept
from tests.support.clock import VirtualClock
from tests.support.folders import files_below
from tests.support.jobs import sent

DAY = 24 * 3600.0
PLENTY = 10**12


async def test_an_upload_is_found_by_its_owner_within_its_life(store: JobStore, clock: VirtualClock) -> None:
    new = sent("dir/图 1.png", clock.wall())
    assert await store.keep_upload(new, PLENTY) is Kept.KEPT
    assert await store.upload("ann", new.key) == new
    assert await store.upload("bob", new.key) is None
    assert await store.upload("ann", "dir/other") is None
    clock.advance(2 * DAY - 1)
    assert await store.upload("ann", new.key) == new
    clock.advance(1)
    assert await store.upload("ann", new.key) is None


async def test_a_name_is_given_once_and_the_same_bytes_find_it_again(
    store: JobStore, clock: VirtualClock
) -> None:
    first = sent("k", clock.wall(), content="a")
    assert await store.keep_upload(first, PLENTY) is Kept.KEPT
    assert await store.keep_upload(sent("k", clock.wall(), content="a"), PLENTY) is Kept.SAME
    assert await store.keep_upload(sent("k", clock.wall(), content="b"), PLENTY) is Kept.TAKEN
    assert await store.keep_upload(sent("k", clock.wall(), tenant="bob", content="a"), PLENTY) is Kept.TAKEN
    assert await store.upload("ann", "k") == first


async def test_of_many_at_once_one_is_kept(store: JobStore, clock: VirtualClock) -> None:
    tries = [sent("k", clock.wall(), content=str(n)) for n in range(20)]
    kept = await asyncio.gather(*(store.keep_upload(one, PLENTY) for one in tries))
    assert sorted(kept) == [Kept.KEPT] + [Kept.TAKEN] * 19


async def test_a_tenant_has_so_many_bytes_and_gets_them_back(store: JobStore, clock: VirtualClock) -> None:
    assert await store.uploaded("ann") == 0
    assert await store.keep_upload(sent("a", clock.wall(), size=60), 100) is Kept.KEPT
    assert await store.keep_upload(sent("b", clock.wall(), size=41), 100) is Kept.FULL
    assert await store.keep_upload(sent("c", clock.wall(), size=40), 100) is Kept.KEPT
    assert await store.keep_upload(sent("d", clock.wall(), tenant="bob", size=41), 100) is Kept.KEPT
    assert (await store.uploaded("ann"), await store.uploaded("bob")) == (100, 41)
    clock.advance(2 * DAY)
    await store.sweep()
    assert await store.uploaded("ann") == 0


async def test_the_sweep_names_the_bytes_of_what_is_past_its_life(
    store: JobStore, clock: VirtualClock
) -> None:
    old = [sent(f"old-{n}", clock.wall()) for n in range(250)]
    for one in old:
        await store.keep_upload(one, PLENTY)
    clock.advance(DAY)
    young = sent("young", clock.wall())
    await store.keep_upload(young, PLENTY)
    assert list(await store.sweep()) == []
    clock.advance(DAY)
    assert sorted(await store.sweep()) == sorted(one.blob for one in old)
    assert await store.upload("ann", "young") == young
    unnamed = await store.unnamed([young.blob, old[0].blob])  # type: ignore[attr-defined]
    assert unnamed == [old[0].blob]


# bytes as they come


async def parts(*pieces: bytes, end: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if end is not None:
        raise end


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs", tmp_path / "secrets")


def files(folder: Path) -> list[Path]:
    return files_below(folder / "blobs")


@pytest.mark.parametrize("pieces", [(), (b"",), (b"a", b"", b"bc"), (b"x" * 700_000,) * 5])
async def test_poured_bytes_read_back(pieces: tuple[bytes, ...], blobs: FolderBlobs) -> None:
    key, whole = upload_key("ann", new_nonce()), b"".join(pieces)
    poured = await blobs.pour(key, parts(*pieces))
    assert (poured.size, poured.digest) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert await blobs.read(key) == whole


async def test_what_ends_early_leaves_nothing(blobs: FolderBlobs, tmp_path: Path) -> None:
    key = upload_key("ann", new_nonce())
    with pytest.raises(RuntimeError):
        await blobs.pour(key, parts(b"x" * 3_000_000, end=RuntimeError()))
    assert (await blobs.has(key), files(tmp_path)) == (False, [])

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        await asyncio.sleep(3600)

    task = asyncio.ensure_future(blobs.pour(key, endless()))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await blobs.has(key), files(tmp_path)) == (False, [])


async def test_an_upload_has_no_link(blobs: FolderBlobs) -> None:
    key = upload_key("ann", new_nonce())
    await blobs.pour(key, parts(b"x"))
    with pytest.raises(ValueError, match="not the key of a result"):
        blobs.link(key, base="http://host", expires=1)


def test_a_seal_holds_for_its_text_alone(blobs: FolderBlobs, tmp_path: Path) -> None:
    seal = blobs.seal("policy")
    assert blobs.sealed("policy", seal)
    assert blobs.knows(seal.key_id)
    assert not blobs.knows("DQ")
    assert not blobs.sealed("policy ", seal)
    assert not blobs.sealed("policy", Seal("DQ", seal.code))
    assert not blobs.sealed("policy", Seal(seal.key_id, seal.code[:-1]))
    assert not FolderBlobs(tmp_path / "other", tmp_path / "others").sealed("policy", seal)
    again = FolderBlobs(tmp_path / "blobs", tmp_path / "secrets")
    assert again.sealed("policy", seal)
