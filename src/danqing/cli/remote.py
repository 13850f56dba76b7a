"""A small client of a Danqing server's public API, for the command line. Knows HTTP and the answer's shape, no rooms.

It speaks the DashScope endpoint that every other client uses, so that a command line that works shows that the wire
works. Standard library only: a command must start quickly.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

GENERATION = "/api/v1/services/aigc/multimodal-generation/generation"
SECONDS = 310.0
POLL = 0.1
SILENT = 30.0
"""Seconds without a byte after which a stream is given up; a server sends a comment every ten."""
LARGEST_FILE = 7_864_000  # 10,485,760 characters of Base64, less the head of the data URI


class CallFailed(Exception):
    """The server refused or could not be reached; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as the command line understood it."""

    model: str
    prompt: str
    images: tuple[Path, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job: a name and what is told of it (docs/howto/watch.md)."""

    name: str
    told: dict[str, Any]


class Remote:
    """One server and one key."""

    def __init__(self, url: str, key: str, *, near: bool = False) -> None:
        """`url` is scheme and host, without `/api/v1`. From a server that is `near`, on this machine, pictures come
        directly, whatever address its links name for others. Raises CallFailed for a key that no header can carry."""
        if not (key.isascii() and key.isprintable()):
            raise CallFailed(
                "the key has characters that no key has: it is what `danqing keys create` printed"
            )
        self.url = url.rstrip("/").removesuffix("/api/v1")
        self._key, self._near = key, near
        # A proxy of the environment must not stand between this command and a server on this machine.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def _request(self, path: str, body: bytes | None = None, **headers: str) -> urllib.request.Request:
        url = path if path.startswith("http") else self.url + path
        found = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", **headers}
        return urllib.request.Request(url, data=body, headers=found)

    def make(self, ask: Ask, hear: Callable[[Event], None]) -> dict[str, Any]:
        """Send the request, tell what happens while it runs, and return the answer's JSON. Raises CallFailed."""
        request_id = str(uuid.uuid4())
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(request_id, hear, done), daemon=True)
        watcher.start()
        try:
            body = json.dumps(_body(ask), ensure_ascii=False).encode()
            return self._json(self._request(GENERATION, body, **{"X-Request-ID": request_id}), SECONDS)
        finally:
            done.set()
            watcher.join(timeout=2 * POLL)

    def _watch(self, request_id: str, hear: Callable[[Event], None], done: threading.Event) -> None:
        while not done.wait(POLL):
            try:
                for event in self.events(request_id):
                    if done.is_set():
                        return
                    hear(event)
            except CallFailed:
                continue  # not stored yet, or a server without this route: the bar just stands still

    def events(self, job: str) -> Iterator[Event]:
        """What happens to a job until it ends or the server does. Raises CallFailed."""
        try:
            with self._open(
                self._request(f"/danqing/v1/jobs/{quote(job, safe='')}/events"), timeout=SILENT
            ) as answer:
                name = ""
                for line in answer:
                    field, _, value = line.decode().rstrip("\n").partition(":")
                    if field == "event":
                        name = value
                    elif field == "data":
                        yield Event(name, json.loads(value))
        except urllib.error.HTTPError as fault:
            if fault.code == 404:  # said of any path; here it is the job that is not there
                why = f"there is no job {job} for this key: unknown, over for a day, or of another key's account"
                raise CallFailed(why) from fault
            raise CallFailed(_explain(fault)) from fault
        except (OSError, ValueError) as fault:
            raise CallFailed(f"no answer from {self.url}: {fault}") from fault

    def _json(self, request: urllib.request.Request, seconds: float) -> dict[str, Any]:
        try:
            with self._open(request, timeout=seconds) as answer:
                read: dict[str, Any] = json.load(answer)
                return read
        except urllib.error.HTTPError as fault:
            raise CallFailed(_explain(fault)) from fault
        except (OSError, ValueError) as fault:
            raise CallFailed(f"no answer from {self.url}: {fault}") from fault

    def download(self, url: str) -> bytes:
        """The bytes behind a result link. Raises CallFailed."""
        if self._near:
            link = urlsplit(url)
            url = f"{self.url}{link.path}?{link.query}"
        try:
            with self._open(urllib.request.Request(url), timeout=60.0) as answer:
                data: bytes = answer.read()
                return data
        except OSError as fault:
            raise CallFailed(f"the picture could not be downloaded: {fault}") from fault


def pictures(answer: dict[str, Any]) -> Iterator[str]:
    """The result links of an answer, in order."""
    for choice in answer["output"]["choices"]:
        for item in choice["message"]["content"]:
            if "image" in item:
                yield item["image"]


def _body(ask: Ask) -> dict[str, Any]:
    content: list[dict[str, str]] = [{"image": _data_uri(path)} for path in ask.images]
    content.append({"text": ask.prompt})
    messages = [{"role": "user", "content": content}]
    return {"model": ask.model, "input": {"messages": messages}, "parameters": ask.parameters}


def _data_uri(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise CallFailed(f"cannot read {path}: {fault.strerror}") from fault
    if len(data) > LARGEST_FILE:
        raise CallFailed(
            f"{path} has {len(data):,} bytes; at most {LARGEST_FILE:,} can be sent with the request"
        )
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _explain(fault: urllib.error.HTTPError) -> str:
    try:
        told = json.load(fault)
        if told["message"].startswith("url error"):
            return "this model is not called in the way in which the command line calls (docs/reference/models.md)"
        return f"{told['code']}: {told['message']} (HTTP {fault.code}, request {told['request_id']})"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {fault.code} from {fault.url}"
