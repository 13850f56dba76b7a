"""Operator commands: through the socket of a running server, else on the data folder itself under its lock.

The socket is the lease API's (`lease/server`), private to the owner of the data folder; its path is recorded there.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from danqing.cli.remote import CallFailed
from danqing.core.keys import IssuedKey
from danqing.lease import address

PATIENCE = 10.0
"""Seconds that a server which is starting has until it listens."""


class Operator(Protocol):
    """What an operator may do with keys."""

    def create_key(
        self, name: str, *, tenant: str, region: str | None = None, workspace: str = "", priority: int = 0
    ) -> IssuedKey:
        """A new key for the tenant, of this installation's region unless another is named. Raises ValueError."""
        ...

    def list_keys(self) -> list[dict[str, Any]]:
        """All keys, oldest first, without secrets."""
        ...

    def revoke_key(self, key_id: str) -> bool:
        """Revoke; False if there is no such key."""
        ...


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class SocketOperator:
    """Talks to a running server."""

    def __init__(self, path: str) -> None:
        """`path` of the lease socket."""
        self._path = path

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request; raises CallFailed with what the server said, OSError if nobody listens."""
        connection = _Unix(self._path)
        try:
            sent = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, body=sent, headers={"Content-Type": "application/json"})
            answer = connection.getresponse()
            told: dict[str, Any] = json.loads(answer.read() or b"{}")
        finally:
            connection.close()
        if answer.status >= 400 and answer.status != 404:
            raise CallFailed(str(told.get("error", f"the server answered {answer.status}")))
        return told

    def create_key(
        self, name: str, *, tenant: str, region: str | None = None, workspace: str = "", priority: int = 0
    ) -> IssuedKey:
        """See Operator."""
        place = {"region": region, "workspace": workspace}
        asked = {"name": name, "tenant": tenant, **place, "priority": priority}
        told = self.ask("POST", "/keys", asked)
        return IssuedKey(told["key_id"], told["key"])

    def list_keys(self) -> list[dict[str, Any]]:
        """See Operator."""
        keys: list[dict[str, Any]] = self.ask("GET", "/keys")["keys"]
        return keys

    def revoke_key(self, key_id: str) -> bool:
        """See Operator."""
        return bool(self.ask("DELETE", f"/keys/{key_id}").get("revoked", False))


@contextmanager
def operator(data: Path) -> Iterator[Operator]:
    """The operator of this data folder: its running server's, or the folder itself. Raises CallFailed."""
    with ExitStack() as stack:
        yield _reached(data, stack)


def _reached(data: Path, stack: ExitStack) -> Operator:
    """A server that is only starting is waited for: it holds the folder already, and is asked once it listens."""
    from danqing.app import StillStarting, folder_operator
    from danqing.app_worker import StartRefused

    until = time.monotonic() + PATIENCE
    while True:
        path = _socket(data)
        if path is not None:
            return SocketOperator(path)
        try:
            return stack.enter_context(folder_operator(data))
        except StartRefused as fault:
            if not isinstance(fault, StillStarting) or time.monotonic() > until:
                raise CallFailed(str(fault)) from fault
        time.sleep(0.1)


def _socket(data: Path) -> str | None:
    """The socket of a server that listens right now."""
    path = address.find(data)
    if path is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            probe.connect(str(path))
    except OSError:
        return None
    return str(path)
