"""Brings the weights of a profile to this machine: from a hub, or from a folder. Loads none of them.

Only what a loader reads is taken: safetensors, and the text files beside them. A source whose weights are pickles alone
is refused, as loading those would run what is in them. What came is written down in the lock of `profiles.weights`,
source by source, and that is what is loaded from then on.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from danqing.outbound.hub import HubFault, Hubs, Remote, Tell, safe
from danqing.profiles.loader import Adapter, Checkpoint, Profile
from danqing.profiles.weights import File, NotPulled, Pulled, Weights, sources

WANTED = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model"})
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt"})
AT_ONCE = 4
SPARE = 1 << 30
"""Bytes of the disk that a pull leaves free."""
_CHUNK = 1 << 22

Free = Callable[[Path], int]


class PullFault(Exception):
    """The weights could not be brought; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a profile takes from one source at one revision. `here` are bytes that lie here already, finished or
    not."""

    source: str
    revision: str
    files: tuple[Remote, ...]
    here: int
    fixed: bool = True

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Inside, no other pull writes to the folder. Raises PullFault if one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".pulling").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            raise PullFault(f"another pull is writing to {folder}") from fault
        yield


def free_bytes(folder: Path) -> int:
    """What the disk under a folder has left, whether the folder is there yet or not."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


# -- from a hub


async def survey(profile: Profile, weights: Weights, hubs: Hubs, *, update: bool = False) -> list[Share]:
    """What is to be brought, source by source, as the hub tells sizes and hashes. The revision is the profile's, else
    the one that was pulled before, else (and with `update`) the newest. Raises PullFault."""
    shares = []
    for source, wanted in _by_source(profile).items():
        before = weights.pulled(source)
        revision = _pinned(source, wanted)
        if revision is None and before is not None and not update:
            revision = before.revision
        try:
            listing = await hubs.listing(source, revision)
        except HubFault as fault:
            raise PullFault(str(fault)) from fault
        files = tuple(chosen(source, wanted, listing.files))
        if before is not None and not listing.fixed and not update:
            _unmoved(before, files)
        place = weights.place(source, listing.revision)
        here = sum(min(_there(place / file.path), file.size) for file in files)
        shares.append(Share(source, listing.revision, files, here, fixed=listing.fixed))
    return shares


def whole(profile: Profile, weights: Weights) -> bool:
    """Whether all is here as it was pulled, so that no hub need be asked."""
    return not weights.missing(profile)


def room_for(shares: Sequence[Share], weights: Weights, free: Free = free_bytes) -> None:
    """Raises PullFault if the disk is too small for what is still to come."""
    left, has = sum(share.size - share.here for share in shares), free(weights.folder)
    if left and left + SPARE > has:
        raise PullFault(
            f"{gigabytes(left)} are still to come, and the disk of {weights.folder} has {gigabytes(has)} free "
            f"({gigabytes(SPARE)} are left to others)"
        )


async def bring(share: Share, weights: Weights, hubs: Hubs, tell: Tell) -> Pulled:
    """All files of a share, then its lock; cut short, the next call goes on. `tell` hears of every byte, those that
    were here among them. Raises PullFault."""
    place, turns = weights.place(share.source, share.revision), asyncio.Semaphore(AT_ONCE)

    async def one(remote: Remote) -> File:
        into = place / remote.path
        async with turns:
            found = await asyncio.to_thread(_settled, into, remote)
            if found is None:
                found = await hubs.fetch(remote, into, tell)
            else:
                tell(remote.size)
        return File(remote.path, remote.size, found)

    try:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(one(remote)) for remote in share.files]
    except* (HubFault, OSError) as faults:
        raise PullFault(_first(faults)) from faults
    pulled = Pulled(share.source, share.revision, tuple(task.result() for task in made))
    weights.write(pulled)
    return pulled


def _first(faults: BaseExceptionGroup[BaseException]) -> str:
    """The first of them in words."""
    fault: BaseException = faults
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; what came is kept, and the next pull goes on there"
    return str(fault)


def _settled(file: Path, remote: Remote) -> str | None:
    """The sha256 of a file that an earlier run finished, if it is what it should be."""
    if _there(file, parts=False) != remote.size or not file.is_file():
        return None
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % remote.size, usedforsecurity=False)
    with file.open("rb") as read:
        while chunk := read.read(_CHUNK):
            sha256.update(chunk)
            git.update(chunk)
    right = remote.sha256 in (None, sha256.hexdigest()) and remote.git in (None, git.hexdigest())
    return sha256.hexdigest() if right else None


def _there(file: Path, *, parts: bool = True) -> int:
    """Bytes of a file, finished or on its way."""
    for place in (file, file.with_name(file.name + ".part")) if parts else (file,):
        if place.is_file():
            return place.stat().st_size
    return 0


def _unmoved(before: Pulled, files: Sequence[Remote]) -> None:
    known = {file.path: file.sha256 for file in before.files}
    moved = [f.path for f in files if f.sha256 is not None and known.get(f.path, f.sha256) != f.sha256]
    if moved:
        raise PullFault(
            f"{before.source} has other files now than were pulled ({moved[0]} among them); --update takes them"
        )


# -- from a folder


def copy_from(
    folder: Path, profile: Profile, weights: Weights, tell: Tell, free: Free = free_bytes
) -> list[Pulled]:
    """The same from a folder that holds OWNER/NAME or NAME for every source, or is the one source itself. Files are
    linked where the disk is the same, and copied elsewhere. Raises PullFault."""
    made = []
    groups = _by_source(profile)
    for source, wanted in groups.items():
        at = _held(folder, source, alone=len(groups) == 1)
        found = [_local(at, path) for path in sorted(at.rglob("*")) if path.is_file()]
        files = list(chosen(source, wanted, found))
        sizes = sum(file.size for file in files)
        if not _same_disk(at, weights.folder) and sizes + SPARE > free(weights.folder):
            raise PullFault(
                f"{source} is {gigabytes(sizes)}, more than the disk of {weights.folder} has free"
            )
        hashed = [File(file.path, file.size, _hashed(at / file.path, tell)) for file in files]
        revision = _named(at, source, wanted, hashed)
        try:
            for file in hashed:
                _take(at / file.path, weights.place(source, revision) / file.path)
        except OSError as fault:
            raise PullFault(f"{source}: {fault}") from fault
        pulled = Pulled(source, revision, tuple(hashed))
        weights.write(pulled)
        made.append(pulled)
    return made


def _held(folder: Path, source: str, *, alone: bool) -> Path:
    name = source.partition(":")[2] or source
    for place in (folder / name, folder / name.rpartition("/")[2]):
        if place.is_dir():
            return place
    if alone and folder.is_dir():
        return folder
    raise PullFault(f"{folder} holds no {name}, and no {name.rpartition('/')[2]}")


def _local(at: Path, path: Path) -> Remote:
    return Remote(path.relative_to(at).as_posix(), path.stat().st_size, "")


def _named(at: Path, source: str, wanted: Sequence[Checkpoint | Adapter], files: Sequence[File]) -> str:
    """The revision of a folder: that of the hub's own cache, whose folders are called by it, else one made of what the
    files hold. Raises PullFault where the profile pins one and the folder is not called by it."""
    pinned = _pinned(source, wanted)
    if pinned is None:
        digest = hashlib.sha256("".join(f"{file.path}\0{file.sha256}\n" for file in files).encode())
        return f"local-{digest.hexdigest()[:16]}"
    if at.name != pinned:
        raise PullFault(
            f"the profile pins {source} at {pinned}, and {at} does not say which revision it holds"
        )
    return pinned


def _hashed(file: Path, tell: Tell) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as read:
        while chunk := read.read(_CHUNK):
            digest.update(chunk)
            tell(len(chunk))
    return digest.hexdigest()


def _same_disk(one: Path, other: Path) -> bool:
    while not other.exists():
        other = other.parent
    return one.stat().st_dev == other.stat().st_dev


def _take(file: Path, into: Path) -> None:
    if into.is_file():
        return
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), into)
    except OSError:
        part = into.with_name(into.name + ".part")
        shutil.copyfile(file, part)
        part.replace(into)


# -- what is taken


def chosen(source: str, wanted: Sequence[Checkpoint | Adapter], files: Sequence[Remote]) -> Iterator[Remote]:
    """Of all files of a source those that a profile's entries read. Raises PullFault where that cannot be."""
    for file in files:
        if not safe(file.path):
            raise PullFault(f"{source} has a file that would lie outside its folder: {file.path!r}")
    by_path = {file.path: file for file in files}
    for adapter in (one for one in wanted if isinstance(one, Adapter)):
        if Path(adapter.file).suffix != ".safetensors":
            raise PullFault(f"only safetensors are taken; an adapter of {source} is {adapter.file}")
        if adapter.file not in by_path:
            raise PullFault(f"{source} has no {adapter.file}")
    alone = {one.file for one in wanted if isinstance(one, Adapter)}
    modules = any(isinstance(one, Checkpoint) for one in wanted)
    taken = [file for file in files if file.path in alone or (modules and _read(file.path))]
    if modules and not any(Path(file.path).suffix == ".safetensors" for file in taken):
        pickles = [file.path for file in files if Path(file.path).suffix in PICKLES]
        why = f"its weights are pickles ({pickles[0]})" if pickles else "it holds no weights"
        raise PullFault(f"{source} is not taken: {why}; only safetensors are")
    yield from taken


def _read(path: str) -> bool:
    """Whether the loader of a diffusers folder reads that file: weights lie with their parts, never beside the
    index."""
    suffix = Path(path).suffix
    hidden = any(part.startswith(".") for part in path.split("/"))
    return suffix in WANTED and not hidden and ("/" in path or suffix != ".safetensors")


def _by_source(profile: Profile) -> dict[str, list[Checkpoint | Adapter]]:
    """What is wanted of every source that is no folder."""
    groups: dict[str, list[Checkpoint | Adapter]] = {}
    for one in sources(profile):
        if one.folder is None:
            groups.setdefault(one.source, []).append(one)
    return groups


def _pinned(source: str, wanted: Sequence[Checkpoint | Adapter]) -> str | None:
    pins = {one.revision for one in wanted if one.revision is not None}
    if len(pins) > 1:
        raise PullFault(f"the profile pins {source} at more than one revision: {', '.join(sorted(pins))}")
    return next(iter(pins), None)


def gigabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


__all__ = ["NotPulled", "PullFault", "Share", "alone", "bring", "copy_from", "room_for", "survey", "whole"]
