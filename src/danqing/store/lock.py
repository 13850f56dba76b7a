"""One server process a data folder: an advisory lock on `lock`, whose text says who holds it. Knows no database.

The operating system drops the lock with its process, so a crash leaves nothing to clean up. Local disks only: a
network file system may not keep its promise.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

STARTING = "starting"
OPERATOR = "an operator command"
"""What holders say of themselves that will soon say something else, or be gone."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a folder: process, host, since when (ISO 8601, UTC), and what it says of itself (its address)."""

    pid: int
    host: str
    since: str
    about: str = ""

    def __str__(self) -> str:
        at = f", {self.about}" if self.about else ""
        return f"process {self.pid} on {self.host}{at}, since {self.since}"


class FolderHeld(Exception):
    """Another process holds the data folder."""

    def __init__(self, folder: Path, holder: Holder | None) -> None:
        """`holder` is None when the other process has not said who it is yet."""
        self.folder = folder
        self.holder = holder
        self.about = holder.about if holder is not None else ""
        who = str(holder) if holder is not None else "another process"
        super().__init__(
            f"{folder} is in use by {who}. One server process uses a data folder at a time: stop it, or choose another."
        )


class FolderLock:
    """A lock held; `release` gives it back."""

    def __init__(self, descriptor: int, path: Path) -> None:
        """Made by `lock`."""
        self._descriptor = descriptor
        self.path = path

    def tell(self, about: str) -> None:
        """Write down who holds the folder; called again when the address is known."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps(asdict(Holder(os.getpid(), socket.gethostname(), since, about))) + "\n"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Let another process have the folder. The file stays: removing it would let two hold two files."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def lock(folder: Path, about: str = "") -> FolderLock:
    """Take the folder for this process. Raises FolderHeld, which names the holder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FolderHeld(folder, holder(folder)) from None
    taken = FolderLock(descriptor, path)
    taken.tell(about)
    return taken


def holder(folder: Path) -> Holder | None:
    """Who wrote the lock file last, or None if it says nothing."""
    try:
        return Holder(**json.loads((folder / "lock").read_text()))
    except (OSError, ValueError, TypeError):
        return None
