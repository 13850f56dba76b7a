"""S7: connections that say nothing, or never finish saying it, are closed in time, and others do not notice."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.support.served import Served

HEAD_SECONDS = 10.0
PATH = b"/api/v1/services/aigc/multimodal-generation/generation"
FIRST = b"GET /health HTTP/1.1\r\nHost: x\r\n"


def connect(served: Served) -> socket.socket:
    parts = urlsplit(served.url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=3 * HEAD_SECONDS)


def seconds_until_closed(served: Served, said: bytes, *, answered: bool) -> float:
    """How long after its last sign of life the server hangs up."""
    with connect(served) as connection:
        connection.sendall(said)
        if answered:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        begun = time.monotonic()
        while connection.recv(65536):
            pass
        return time.monotonic() - begun


def test_s7_silent_half_said_and_idle_connections_are_closed_after_ten_seconds(served: Served) -> None:
    cases = [(b"", False), (FIRST, False), (FIRST + b"\r\n", True)]
    with ThreadPoolExecutor(len(cases)) as pool:
        waits = [
            pool.submit(seconds_until_closed, served, said, answered=answered) for said, answered in cases
        ]
        time.sleep(HEAD_SECONDS / 2)
        assert served.get("/health")[0] == 200
        assert all(HEAD_SECONDS - 1 < wait.result() < HEAD_SECONDS + 5 for wait in waits)


def test_s7_a_head_beyond_the_limit_is_refused_at_once(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(FIRST + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Transfer-Encoding: chunked", b"ZZ\r\n{}\r\n"),
        (b"Transfer-Encoding: chunked", b"2\r\n{}XX\r\n"),
        (b"Content-Length: 100", b'{"a"'),
    ],
    ids=["no length", "no end of a chunk", "half a body"],
)
def test_a_body_that_breaks_off_is_told_so_as_json(served: Served, head: bytes, body: bytes) -> None:
    key = served.key.encode()
    lines = [b"POST " + PATH + b" HTTP/1.1", b"Host: x", b"Authorization: Bearer " + key, head, b"", body]
    with connect(served) as connection:
        connection.sendall(b"\r\n".join(lines))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"application/json" in answer.lower()
    assert b"x-request-id" in answer.lower()
    assert b"Required body invalid" in answer
