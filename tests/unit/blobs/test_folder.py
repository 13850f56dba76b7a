"""What the folder store asks of the disk: everything synced before it answers, nothing half-written, a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from danqing.blobs.folder import FolderBlobs
from danqing.core.errors import Unavailable
from tests.support.folders import files_below
from tests.support.jobs import pictures

KEY = pictures("job-a")[0].key


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs", tmp_path / "secrets")


def files(root: Path) -> list[str]:
    return [path.name for path in files_below(root)]


async def test_p6_file_and_every_folder_on_the_way_are_synced_before_a_write_returns(
    blobs: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        log.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        log.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    await blobs.write(KEY, b"x")
    place = tmp_path / "blobs" / KEY
    draft, renamed, *folders = log
    assert draft.startswith(str(place.parent / ".draft-"))
    assert renamed == "rename"
    assert folders == [str(folder) for folder in place.parents[:5]]
    assert folders[-1] == str(tmp_path / "blobs")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_k5_a_full_disk_is_unavailable_leaves_nothing_and_heals(
    code: int, blobs: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(Unavailable):
            await blobs.write(KEY, b"x" * 100)
    assert files(tmp_path / "blobs") == []
    assert await blobs.read(KEY) is None
    await blobs.write(KEY, b"x")
    assert await blobs.read(KEY) == b"x"


async def test_drafts_of_a_crash_are_no_objects_and_go_when_they_are_old(
    blobs: FolderBlobs, tmp_path: Path
) -> None:
    await blobs.write(KEY, b"x")
    root = tmp_path / "blobs"
    for age, name in ((10, ".draft-young"), (1000, ".draft-old")):
        path = (root / KEY).with_name(name)
        path.write_bytes(b"half")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    (root / "README").write_text("put here by hand")
    os.utime(root / "README", (1, 1))
    assert await blobs.stale(100) == []
    assert sorted(files(root)) == [".draft-young", "README", "job-a-0.png"]


async def test_removing_the_last_object_of_a_folder_removes_the_folder(
    blobs: FolderBlobs, tmp_path: Path
) -> None:
    await blobs.write(KEY, b"x")
    await blobs.remove([KEY])
    assert list((tmp_path / "blobs").iterdir()) == []


async def test_a_disk_that_cannot_be_read_is_unavailable(
    blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Path) -> bytes:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(Unavailable):
        await blobs.read(KEY)


async def test_a_folder_that_goes_while_old_files_are_looked_for_ends_no_sweep(
    blobs: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job's files are removed, folders and all, after the sweep has seen the folders and before it enters."""
    keys = [pictures(f"job-{name}")[0].key for name in "abcdefgh"]
    for key in keys:
        await blobs.write(key, b"x")
        os.utime(tmp_path / "blobs" / key, (0, 0))
    first: list[str] = []
    stat = Path.stat

    def seen(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        told = stat(self, follow_symlinks=follow_symlinks)
        if self.suffix == ".png" and not first:
            first.append(self.relative_to(tmp_path / "blobs").as_posix())
            blobs._remove([tmp_path / "blobs" / key for key in keys if key != first[0]])
        return told

    monkeypatch.setattr(Path, "stat", seen)
    assert await blobs.stale(1.0) == first


@pytest.mark.parametrize("gone", [FileNotFoundError, FileExistsError])
async def test_a_folder_that_is_taken_away_while_it_is_made_is_made_again(
    gone: type[OSError], blobs: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, taken = Path.mkdir, [gone()]

    def late(self: Path, *args: object, **named: object) -> None:
        if taken:
            raise taken.pop()
        mkdir(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", late)
    await blobs.write(KEY, b"x")
    assert (tmp_path / "blobs" / KEY).read_bytes() == b"x"
