"""The keys that sign links, as files in the secrets folder: made once, readable by their owner only. Knows no link.

    link-0001.json  {"id": "DQ…", "secret": "<64 hex>"}

The highest number signs, all of them read. To rotate, add one (`add`); to end the links of an old one, remove its file.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from danqing.blobs.links import LinkKey

_NAME = re.compile(r"link-([0-9]{4})\.json")


def load(folder: Path) -> Sequence[LinkKey]:
    """All keys, oldest first; the first call makes one. Raises ValueError on a damaged file."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _files(folder):
        add(folder)
    return [_read(path) for path in _files(folder)]


def add(folder: Path) -> LinkKey:
    """Make a newer key. Of two processes at it at once, both get the one that was there first."""
    numbers = [int(path.stem.removeprefix("link-")) for path in _files(folder)]
    path = folder / f"link-{max(numbers, default=0) + 1:04d}.json"
    key = LinkKey("DQ" + secrets.token_hex(8).upper(), secrets.token_bytes(32))
    create(path, json.dumps({"id": key.id, "secret": key.secret.hex()}).encode())
    return _read(path)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _read(path: Path) -> LinkKey:
    try:
        held = json.loads(path.read_bytes())
        key = LinkKey(held["id"], bytes.fromhex(held["secret"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a link key") from error
    if len(key.secret) != 32 or "|" in key.id:
        raise ValueError(f"{path} is not a link key")
    return key


def create(path: Path, data: bytes) -> None:
    """A secret's file, readable by its owner only: whole or not at all, and never over another. Written beside,
    synced, then linked to its name."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
