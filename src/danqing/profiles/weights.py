"""Weights that were pulled: where they lie, and which they are to the byte. Knows no hub; reads no tensor.

    FOLDER/SOURCE.json                    the lock: source, revision, files with size and sha256
    FOLDER/SOURCE/REVISION/…              the files

A hub's `main` moves. So the revision is settled when weights are pulled and written down, and what is loaded later is
what was written down, whole, or nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from danqing.profiles.loader import Adapter, Checkpoint, Profile

VERSION = 1


class NotPulled(ValueError):
    """Weights that a profile wants are not here, or not whole."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a source: its path there, its bytes, and the sha256 they had when they were pulled."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was pulled of a source."""

    source: str
    revision: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Weights:
    """The folder of pulled weights; it need not exist."""

    def __init__(self, folder: Path) -> None:
        """Reads nothing yet."""
        self.folder = folder

    def place(self, source: str, revision: str) -> Path:
        """Where the files of a source at a revision lie or will lie."""
        return self.folder / _safe(source) / _safe(revision)

    def pulled(self, source: str) -> Pulled | None:
        """What the lock of a source says; None without one, or with one that cannot be read."""
        try:
            told = json.loads(self._lock(source).read_text("utf-8"))
            files = tuple(File(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in told["files"])
            return Pulled(source, str(told["revision"]), files) if told["version"] == VERSION else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def write(self, pulled: Pulled) -> None:
        """Write the lock, whole or not at all. Files pulled before at the same revision stay in it."""
        before = self.pulled(pulled.source)
        files = {file.path: file for file in pulled.files}
        if before is not None and before.revision == pulled.revision:
            files = {file.path: file for file in before.files} | files
        told = {
            "version": VERSION,
            "source": pulled.source,
            "revision": pulled.revision,
            "files": [asdict(files[path]) for path in sorted(files)],
        }
        lock = self._lock(pulled.source)
        lock.parent.mkdir(parents=True, exist_ok=True)
        fresh = lock.with_name(f"{lock.name}.{os.getpid()}")
        fresh.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        fresh.replace(lock)

    def find(self, wanted: Checkpoint | Adapter) -> Path:
        """The folder of a checkpoint's or an adapter's files on this machine. Raises NotPulled with the reason."""
        if wanted.folder is not None:
            return wanted.folder
        pulled = self.pulled(wanted.source)
        if pulled is None:
            raise NotPulled(f"the weights of {wanted.source} are not here")
        if wanted.revision is not None and wanted.revision != pulled.revision:
            raise NotPulled(
                f"of {wanted.source} the revision {pulled.revision} is here, but {wanted.revision} is wanted"
            )
        place = self.place(pulled.source, pulled.revision)
        files = {file.path: file for file in pulled.files}
        if isinstance(wanted, Adapter):
            if wanted.file not in files:
                raise NotPulled(f"{wanted.file} of {wanted.source} is not here")
            files = {wanted.file: files[wanted.file]}
        for file in files.values():
            if not _whole(place / file.path, file.size):
                raise NotPulled(f"{file.path} of {wanted.source} is not whole")
        return place

    def missing(self, profile: Profile) -> list[str]:
        """Why the profile's weights cannot be loaded, a reason each; empty if they can."""
        return list(self._reasons(profile))

    def _reasons(self, profile: Profile) -> Iterator[str]:
        for wanted in sources(profile):
            try:
                self.find(wanted)
            except NotPulled as fault:
                yield str(fault)

    def _lock(self, source: str) -> Path:
        return self.folder / f"{_safe(source)}.json"


def sources(profile: Profile) -> Iterator[Checkpoint | Adapter]:
    """All that a profile takes weights from."""
    for checkpoint in profile.checkpoints.values():
        yield checkpoint
        yield from checkpoint.adapters.values()


def _whole(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _safe(name: str) -> str:
    """A name for one entry of a folder; the sources' own characters leave no way out of it."""
    return name.replace("/", "--").replace(":", "--")
