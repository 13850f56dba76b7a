"""Files of a repository of weights: which there are at which revision, and one of them, to the byte. Knows no profile.

The address is the operator's own choice, as a rule the Hugging Face hub, a mirror of it, or ModelScope. Files are large
and lines break, so a file grows beside its place as `NAME.part`, goes on from where it was in this run or a later one,
is hashed as it comes, and takes its place only when it is what the hub said it is. (The hub's own library deletes what
it has when a line breaks.) The token is sent to the hub alone, never to where the hub redirects to.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import aiohttp

MODELSCOPE = "modelscope:"
"""Sources with this prefix name a repository of ModelScope; other ids are of the Hugging Face hub, or its mirror."""
TRIES = 5
"""So often a file is asked for again without a single new byte before we give up."""
_PAUSE = 1.0
_SILENCE = 60.0
_CHUNK = 1 << 20
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')


class HubFault(Exception):
    """A hub that cannot be reached, does not have what was asked for, or sends something else. The message says which;
    it never holds a token."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file there: its path, its bytes, and its sha256 or, for small text files, git's own hash, where told."""

    path: str
    size: int
    url: str
    sha256: str | None = None
    git: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """All files of a source at one revision. `fixed`: the revision names these files for ever."""

    source: str
    revision: str
    files: tuple[Remote, ...]
    fixed: bool = True


@dataclass(frozen=True, slots=True)
class Places:
    """Where the hubs are, and the token of the first."""

    hub: str = "https://huggingface.co"
    modelscope: str = "https://www.modelscope.cn"
    token: str = ""
    offline: bool = False


Tell = Callable[[int], None]
"""Hears how many bytes more there are, or, negative, that some were thrown away."""


class Hubs:
    """Both hubs. Use as `async with`."""

    def __init__(self, places: Places, *, pause: float = _PAUSE) -> None:
        """Connects with the first question; `pause` in seconds between two tries."""
        self._places, self._pause = places, pause
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Hubs:
        patience = aiohttp.ClientTimeout(total=None, sock_connect=20.0, sock_read=_SILENCE)
        self._session = aiohttp.ClientSession(timeout=patience, trust_env=True, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.close()

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("used outside its `async with`")
        return self._session

    async def listing(self, source: str, revision: str | None) -> Listing:
        """The files of a source, a branch settled to the revision it is at now. Raises HubFault."""
        if self._places.offline:
            raise HubFault(f"{source} is not asked for: HF_HUB_OFFLINE is set")
        if source.startswith(MODELSCOPE):
            return await self._modelscope(source, revision or "master")
        return await self._hub(source, revision or "main")

    async def _hub(self, source: str, revision: str) -> Listing:
        models = f"{self._places.hub}/api/models/{source}"
        told, _ = await self._json(f"{models}/revision/{quote(revision, safe='')}", source)
        settled = str(told["sha"])
        files: list[Remote] = []
        url: str | None = f"{models}/tree/{settled}?recursive=true"
        while url is not None:
            entries, url = await self._json(url, source)
            for entry in entries:
                if entry.get("type") != "file":
                    continue
                path, large = str(entry["path"]), entry.get("lfs")
                where = f"{self._places.hub}/{source}/resolve/{settled}/{quote(path)}"
                sha256 = None if large is None else str(large["oid"])
                git = None if large is not None else str(entry["oid"])
                files.append(Remote(path, int(entry["size"]), where, sha256, git))
        return Listing(source, settled, tuple(files))

    async def _modelscope(self, source: str, revision: str) -> Listing:
        """ModelScope tells no commit for a branch: what pins the files there is their sha256."""
        name = source.removeprefix(MODELSCOPE)
        models = f"{self._places.modelscope}/api/v1/models/{name}/repo"
        told, _ = await self._json(f"{models}/files?Revision={quote(revision)}&Recursive=true", source)
        files = [
            Remote(
                str(entry["Path"]),
                int(entry["Size"]),
                f"{models}?Revision={quote(revision)}&FilePath={quote(str(entry['Path']), safe='')}",
                str(entry["Sha256"]) if entry.get("Sha256") else None,
            )
            for entry in told["Data"]["Files"]
            if entry.get("Type") != "tree"
        ]
        return Listing(source, revision, tuple(files), fixed=False)

    async def _json(self, url: str, source: str) -> tuple[Any, str | None]:
        """What a hub answers, and where it goes on."""
        try:
            async with self._open.get(url, headers=self._headers(url)) as answer:
                _refused(answer, source)
                try:
                    told = await answer.json(content_type=None)
                    following = _NEXT.search(answer.headers.get("Link", ""))
                    return told, None if following is None else following[1]
                except (ValueError, UnicodeDecodeError) as fault:
                    raise HubFault(f"{source}: the hub's answer is not JSON") from fault
        except (aiohttp.ClientError, OSError, TimeoutError) as fault:
            raise HubFault(f"{source}: the hub cannot be reached ({_said(fault)})") from fault

    def _headers(self, url: str) -> dict[str, str]:
        headers = {"User-Agent": "Danqing", "Accept-Encoding": "identity"}
        if self._places.token and url.startswith(f"{self._places.hub}/"):
            headers["Authorization"] = f"Bearer {self._places.token}"
        return headers

    async def fetch(self, remote: Remote, into: Path, tell: Tell) -> str:
        """Bring one file to its place and answer its sha256. What is there of it already is kept and hashed. Raises
        HubFault, a full disk included; what came is kept then."""
        growing = Growing(into, remote)
        await asyncio.to_thread(growing.recall, tell)
        try:
            await self._grow(remote, growing, tell)
            return await asyncio.to_thread(growing.settle)
        except OSError as fault:
            full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
            raise HubFault(f"{remote.path}: {'the disk is full' if full else fault}") from fault
        finally:
            with suppress(OSError):
                growing.close()

    async def _grow(self, remote: Remote, growing: Growing, tell: Tell) -> None:
        """Until all of it is there. An answer that ends before its time is a line that broke, if it says so or not."""
        idle = 0
        while growing.size < remote.size or not growing.begun:
            before, broke = growing.size, "the answer was too short"
            try:
                await self._more(remote, growing, tell)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as fault:
                broke = _said(fault)
            else:
                if growing.size == remote.size:
                    return
            idle = 0 if growing.size > before else idle + 1
            if idle >= TRIES:
                raise HubFault(f"{remote.path}: the line broke {TRIES} times ({broke})")
            await asyncio.sleep(self._pause)

    async def _more(self, remote: Remote, growing: Growing, tell: Tell) -> None:
        headers = self._headers(remote.url)
        if growing.size:
            headers["Range"] = f"bytes={growing.size}-"
        async with self._open.get(remote.url, headers=headers) as answer:
            if answer.status != 416:
                _refused(answer, remote.path)
            if growing.size and not _goes_on(answer, growing.size):
                tell(-growing.size)
                growing.restart()
                if answer.status != 200:
                    return
            growing.begin()
            async for chunk in answer.content.iter_chunked(_CHUNK):
                growing.add(chunk)
                tell(len(chunk))


class Growing:
    """A file on its way: what there is of it, beside its place, and the hashes of that."""

    def __init__(self, into: Path, remote: Remote) -> None:
        """Touches nothing yet."""
        self._into, self._remote = into, remote
        self._part = into.with_name(into.name + ".part")
        self._file: Any = None
        self._forget()

    @property
    def begun(self) -> bool:
        """Whether there is a file at all; an empty one is whole as soon as there is."""
        return self._part.exists()

    def _forget(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % self._remote.size, usedforsecurity=False)

    def recall(self, tell: Tell) -> None:
        """Hash what an earlier run left."""
        if not self._part.exists() or self._part.stat().st_size > self._remote.size:
            self._part.unlink(missing_ok=True)
            return
        with self._part.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self._hash(chunk)
                tell(len(chunk))

    def _hash(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        if self._remote.git is not None:
            self._git.update(chunk)
        self.size += len(chunk)

    def begin(self) -> None:
        """Open the file to add to it."""
        if self._file is None:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("ab")

    def add(self, chunk: bytes) -> None:
        """Write what came. Raises HubFault for more than there may be."""
        if self.size + len(chunk) > self._remote.size:
            self.restart()
            raise HubFault(f"{self._remote.path}: more came than the {self._remote.size} bytes it has")
        self._file.write(chunk)
        self._hash(chunk)

    def close(self) -> None:
        """Keep what there is for a later run."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def restart(self) -> None:
        """Throw away what there is."""
        self.close()
        self._part.unlink(missing_ok=True)
        self._forget()

    def settle(self) -> str:
        """Move the whole file to its place, safe on the disk, and answer its sha256. Raises HubFault if it is not what
        it should be; then nothing is kept of it."""
        sha256, remote = self._sha256.hexdigest(), self._remote
        right = sha256 == remote.sha256 if remote.sha256 else self._git.hexdigest() == (remote.git or "")
        if not right and (remote.sha256 or remote.git):
            self.restart()
            raise HubFault(
                f"{remote.path}: what came is not what the hub said it would be (its hash is another)"
            )
        self.close()
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self._into)
        return sha256


def safe(path: str) -> bool:
    """Whether a path that a hub names stays within the folder it is put in."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and not path.startswith("/")
        and ".." not in parts
        and "\\" not in path
        and "\0" not in path
    )


def _refused(answer: aiohttp.ClientResponse, what: str) -> None:
    if answer.status in (200, 206):
        return
    reasons = {
        401: "the hub does not know it, or wants a token (HF_TOKEN)",
        403: "the hub refuses it: its conditions must be accepted there, with the account of HF_TOKEN",
        404: "the hub does not have it",
    }
    if answer.status in reasons:
        raise HubFault(f"{what}: {reasons[answer.status]}")
    raise aiohttp.ClientResponseError(answer.request_info, (), status=answer.status, message="refused")


def _goes_on(answer: aiohttp.ClientResponse, at: int) -> bool:
    """Whether the answer is the rest from there on, and not the whole file again."""
    return answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {at}-")


def _said(fault: BaseException) -> str:
    if isinstance(fault, aiohttp.ClientResponseError):
        return f"status {fault.status}"
    return str(fault) or type(fault).__name__
