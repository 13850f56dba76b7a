"""A server for the length of a command, and what is said where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from danqing.cli import local
from danqing.cli.local import elsewhere, started
from danqing.cli.remote import CallFailed

TALKATIVE = f"""#!{sys.executable}
import http.server, json, pathlib, sys
data = pathlib.Path(sys.argv[sys.argv.index("--data") + 1])
sys.stderr.write("a line of a log\\n" * 20_000)
sys.stderr.flush()

class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

server = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
(data / "server.json").write_text(json.dumps({{"url": f"http://127.0.0.1:{{server.server_port}}"}}))
server.serve_forever()
"""
DYING = f"""#!{sys.executable}
import sys
sys.exit("first line\\ndanqing: the disk is full")
"""
NEVER_READY = f"""#!{sys.executable}
import sys, time
sys.stderr.write("danqing worker: x is no safetensors file\\nsomething else\\n")
sys.stderr.flush()
time.sleep(60)
"""


def stand_in(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else is started where a server should be."""
    file = folder / "python"
    file.write_text(program)
    file.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(file))


def test_a_server_that_says_a_lot_is_not_stopped_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "START_SECONDS", 30.0)
    stand_in(TALKATIVE, tmp_path, monkeypatch)
    with started(tmp_path) as url:
        assert url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (DYING, "the server did not start: danqing: the disk is full"),
        (NEVER_READY, "the server was not ready after 5 s: danqing worker: x is no safetensors file"),
    ],
)
def test_why_there_is_no_server_is_said(
    program: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "START_SECONDS", 5.0 if program is NEVER_READY else 30.0)
    stand_in(program, tmp_path, monkeypatch)
    with pytest.raises(CallFailed) as said, started(tmp_path):
        pass
    assert str(said.value) == why


@pytest.mark.parametrize("server", ["foo", "localhost:8000", "ftp://here"])
def test_a_server_is_named_by_its_url(server: str) -> None:
    with pytest.raises(CallFailed, match="expected http://HOST:PORT"):
        elsewhere(server, "sk-x")
