"""Finds the server of this machine, or starts one for the length of a command. Knows its data folder, not its rooms.

A running server leaves `server.json` in its data folder (its URL and process id) and removes it when it stops; the
command line's own key lies beside the other secrets, readable by the owner alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from danqing.cli.operate import Operator, operator
from danqing.cli.remote import CallFailed, Remote
from danqing.settings import SERVER_NOTE, default_data, key_of_environment

START_SECONDS = 240.0
POLL = 0.25


def running(data: Path) -> str | None:
    """The URL of the server that holds this data folder, or None if none answers."""
    url = _noted(data)
    return url if url is not None and _answers(url) is not None else None


def _noted(data: Path) -> str | None:
    """What the last server of this data folder has left there."""
    try:
        return str(json.loads((data / SERVER_NOTE).read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError):
        return None


def _answers(url: str) -> int | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url + "/health", timeout=5.0) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as fault:
        return fault.code
    except OSError:
        return None


@contextmanager
def reach(
    server: str | None, key: str | None, data: Path | None, *, tell: Callable[[str], None]
) -> Iterator[Remote]:
    """A client of the named server, of the running local one, or of one started for this call. Raises CallFailed."""
    if server is not None:
        yield elsewhere(server, key)
        return
    folder = data or default_data()
    url = running(folder)
    if url is not None:
        yield Remote(url, key or own_key(folder), near=True)
        return
    tell("no server is running: starting one for this call (`danqing serve` keeps one)")
    with started(folder) as url:
        yield Remote(url, key or own_key(folder), near=True)


def elsewhere(server: str, key: str | None) -> Remote:
    """A client of the named server. The key of the environment is for those alone: where it is set, it is nearly always
    the hosted service's, which a server on this machine would refuse. Raises CallFailed where there is none, and for
    what is no URL."""
    if not server.startswith(("http://", "https://")):
        raise CallFailed(f"--server {server} is no URL: expected http://HOST:PORT")
    key = key or key_of_environment()
    if not key:
        raise CallFailed("a server elsewhere needs a key: --key, or DASHSCOPE_API_KEY in the environment")
    return Remote(server, key)


@contextmanager
def started(data: Path) -> Iterator[str]:
    """A server of its own on a free port, stopped at the end. Yields its URL once it can make pictures."""
    command = [sys.executable, "-m", "danqing.cli", "serve", "--tied", "--port", "0", "--data", str(data)]
    # What it says goes to a file: a pipe that nobody empties would stop it when it is full.
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        try:
            yield _ready(process, data, said)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _ready(process: subprocess.Popen[bytes], data: Path, said: IO[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CallFailed(f"the server did not start: {_last(said) or f'exit {process.returncode}'}")
        url = _noted(data)
        if url is not None and _answers(url) == 200:
            return url
        time.sleep(POLL)
    why = _last(said, "danqing") or "`danqing serve` shows why"
    raise CallFailed(f"the server was not ready after {START_SECONDS:.0f} s: {why}")


def _last(said: IO[bytes], beginning: str = "") -> str:
    """The last line of what a server said, of those that begin so."""
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return next((line for line in reversed(lines) if line.startswith(beginning)), "")


def own_key(data: Path) -> str:
    """The command line's own key, made on first use; a revoked one is replaced by hand (delete the file)."""
    path = data / "secrets" / "cli.key"
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        pass
    with operator(data) as talk:
        key = _make_key(talk)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key + "\n")
    return key


def _make_key(talk: Operator) -> str:
    return talk.create_key("command line", tenant="local").secret
