"""Bytes in a folder, durable when `write` returns. Knows no job; a link is `links`' business.

A file is written beside its place under a name no key can have, synced, renamed, and its folder synced, as is every
folder made for it, so that a power loss leaves the whole object or none.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from danqing.blobs import secret_keys
from danqing.blobs.links import Links
from danqing.core.blobkeys import is_input, is_result, is_upload
from danqing.core.errors import Unavailable
from danqing.core.ports import LinkDead, Poured, Seal

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_DRAFT = ".draft-"
_LUMP = 1024 * 1024
"""Bytes that `pour` gathers before it writes them."""
_GONE = (FileNotFoundError, FileExistsError)
"""Of a folder that is taken away while it is made; the second where `mkdir` found it, and looked again too late."""
_TRIES = 3
"""Of a write against a `remove` that takes the emptied folder away in between."""


class FolderBlobs:
    """`core.ports.BlobStore` under `root`, on a local disk; the keys of its links lie in `secrets_folder`."""

    def __init__(self, root: Path, secrets_folder: Path) -> None:
        """Makes both folders, and the first link key."""
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._links = Links(secret_keys.load(secrets_folder))

    async def write(self, key: str, data: bytes) -> None:
        """See `BlobStore`. Raises ValueError for a key outside the grammar of `core.blobkeys`."""
        await asyncio.to_thread(self._write, self._path(key), data)

    async def pour(self, key: str, parts: AsyncIterator[bytes]) -> Poured:
        """See `BlobStore`. Raises ValueError for a key outside the grammar."""
        path = self._path(key)
        draft = await asyncio.to_thread(self._begin, path)
        try:
            poured = await _poured(draft, parts)
            await asyncio.to_thread(self._finish, draft, path)
        except BaseException as error:
            draft.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in _FULL:
                raise Unavailable from error
            raise
        return poured

    async def read(self, key: str) -> bytes | None:
        """See `BlobStore`. Raises ValueError for a key outside the grammar."""
        return await asyncio.to_thread(_read, self._path(key))

    async def has(self, key: str) -> bool:
        """See `BlobStore`. Raises ValueError for a key outside the grammar."""
        return await asyncio.to_thread(self._path(key).is_file)

    async def remove(self, keys: Iterable[str]) -> None:
        """See `BlobStore`. A key outside the grammar is unknown."""
        paths = [self._path(key) for key in keys if _is_key(key)]
        await asyncio.to_thread(self._remove, paths)

    async def stale(self, seconds: float) -> Sequence[str]:
        """See `BlobStore`. Age is since the last write, by the file system's own times. Drafts that a crash left
        behind are removed on the way."""
        return await asyncio.to_thread(self._stale, time.time() - seconds)

    def link(self, key: str, *, base: str, expires: int) -> str:
        """See `BlobStore`. Raises ValueError for a key that is not a result's."""
        return self._links.sign(key, base=base, expires=expires)

    def seal(self, text: str) -> Seal:
        """See `BlobStore`."""
        return self._links.seal(text)

    def knows(self, key_id: str) -> bool:
        """See `BlobStore`."""
        return self._links.knows(key_id)

    def sealed(self, text: str, seal: Seal) -> bool:
        """See `BlobStore`."""
        return self._links.sealed(text, seal)

    async def follow(self, path: str, query: str, now: float) -> bytes:
        """See `BlobStore`."""
        data = await self.read(self._links.read(path, query, now))
        if data is None:
            raise LinkDead
        return data

    def _path(self, key: str) -> Path:
        if not _is_key(key):
            raise ValueError(f"{key!r} is not a key")
        return self._root / key

    def _write(self, path: Path, data: bytes) -> None:
        try:
            for _ in range(_TRIES - 1):
                with suppress(*_GONE):
                    return self._place(path, data)
            return self._place(path, data)
        except OSError as error:
            if error.errno in _FULL:
                raise Unavailable from error
            raise

    def _place(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(_DRAFT + secrets.token_hex(8))
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._settle(path)

    def _begin(self, path: Path) -> Path:
        """A new draft of what will be there, which keeps the folder from being taken away."""
        for left in reversed(range(_TRIES)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                draft = path.with_name(_DRAFT + secrets.token_hex(8))
                draft.open("xb").close()
                break
            except _GONE:
                if not left:
                    raise
            except OSError as error:
                if error.errno in _FULL:
                    raise Unavailable from error
                raise
        return draft

    def _finish(self, draft: Path, path: Path) -> None:
        with draft.open("ab") as file:
            os.fsync(file.fileno())
        draft.replace(path)
        self._settle(path)

    def _settle(self, path: Path) -> None:
        # Every folder on the way, new or not: it may be one that another write has made and not synced yet. From the
        # leaf up, because the first sync usually takes the others along.
        for folder in [*self._folders(path), self._root]:
            _sync(folder)

    def _folders(self, path: Path) -> list[Path]:
        """The folders of an object below the root, innermost first."""
        return [*path.parents][: len(path.relative_to(self._root).parts) - 1]

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # the first folder that is not empty ends the walk
                for folder in self._folders(path):
                    folder.rmdir()

    def _stale(self, before: float) -> list[str]:
        found = []
        for path in _files(self._root):
            with suppress(FileNotFoundError):  # removed meanwhile
                if path.stat().st_mtime >= before:
                    continue
                if path.name.startswith(_DRAFT):
                    path.unlink()
                elif _is_key(key := path.relative_to(self._root).as_posix()):
                    found.append(key)
        return found


def _files(root: Path) -> Iterator[Path]:
    """Every file below `root`. Not by `Path.rglob`: that raises where a folder goes before it is entered."""
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in names)


def _is_key(key: str) -> bool:
    return is_result(key) or is_input(key) or is_upload(key)


async def _poured(draft: Path, parts: AsyncIterator[bytes]) -> Poured:
    """The bytes to the draft, a lump at a time."""
    seen, size = hashlib.sha256(), 0
    lump = bytearray()

    def write(file: BinaryIO) -> None:
        seen.update(lump)
        file.write(lump)
        file.flush()
        lump.clear()

    with draft.open("ab") as file:
        async for part in parts:
            size += len(part)
            lump += part
            if len(lump) >= _LUMP:
                await asyncio.to_thread(write, file)
        if lump:
            await asyncio.to_thread(write, file)
    return Poured(size, seen.hexdigest())


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
