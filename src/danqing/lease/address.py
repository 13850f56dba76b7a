"""Where the lease socket lies: a private folder with a short path, recorded in the data folder.

The path of a Unix socket ends at 107 bytes on Linux and 103 elsewhere (`sun_path` less its NUL); a data folder may
lie deeper than that, so the socket never lies in it. The folder is ours alone (0700): whoever reaches the socket is us.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

RECORD = "lease.socket.path"
PREFIX = "dq-"
LONGEST = 107 if sys.platform == "linux" else 103


class NoShortPlace(Exception):
    """No writable folder has a path short enough for a Unix socket."""


def places() -> tuple[Path, ...]:
    """Folders to try, best first: the user's runtime folder, the system's temporary one, /tmp."""
    return Path(f"/run/user/{os.getuid()}"), Path(tempfile.gettempdir()), Path("/tmp")  # noqa: S108 (mkdtemp inside)


def new_socket(candidates: Iterable[Path] | None = None) -> Path:
    """A path for a new socket in a new private folder; raises NoShortPlace. `close` removes both."""
    for place in places() if candidates is None else candidates:
        if len(os.fsencode(place / f"{PREFIX}12345678" / "lease")) > LONGEST or not os.access(
            place, os.W_OK | os.X_OK
        ):
            continue
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place)) / "lease"
    raise NoShortPlace("no writable folder is short enough for a Unix socket")


def record(data: Path, socket: Path) -> None:
    """Write down in the data folder where the socket is, for operator commands; readable by its owner only. Whoever
    calls this holds the folder's lock, so a socket recorded before is a dead server's, and is removed."""
    before = find(data)
    if before is not None and before != socket and before.parent.name.startswith(PREFIX):
        _remove(before)
    written = data / f"{RECORD}.{os.getpid()}"
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{socket}\n")
    written.replace(data / RECORD)


def find(data: Path) -> Path | None:
    """The socket of the server that runs on this data folder, or None. A record left by a dead server reads as None
    as soon as its socket file is gone; else the connection is refused."""
    try:
        path = Path((data / RECORD).read_text(encoding="utf-8").strip())
        found = path.lstat()
    except (OSError, ValueError):
        return None
    return path if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid() else None


def close(data: Path, socket: Path) -> None:
    """Remove the record (if it still names this socket), the socket and its folder."""
    if find(data) == socket:
        (data / RECORD).unlink(missing_ok=True)
    _remove(socket)


def _remove(socket: Path) -> None:
    socket.unlink(missing_ok=True)
    with suppress(OSError):  # gone already, or somebody put something else there
        socket.parent.rmdir()
