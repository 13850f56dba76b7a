"""Who answers an operator's command: a server that listens, one that will soon, or the folder itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from danqing.cli import operate
from danqing.cli.operate import SocketOperator, operator
from danqing.cli.remote import CallFailed
from danqing.lease import address
from danqing.store.lock import STARTING, lock


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Path]:
    """A data folder that a server holds which does not listen yet."""
    taken = lock(tmp_path, STARTING)
    yield tmp_path
    taken.release()


def test_a_server_that_starts_is_asked_once_it_listens(starting: Path) -> None:
    where = address.new_socket()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:

        def listen() -> None:
            listening.bind(str(where))
            listening.listen()
            address.record(starting, where)

        later = threading.Timer(0.3, listen)
        later.start()
        with operator(starting) as found:
            assert isinstance(found, SocketOperator)
        later.join()
        address.close(starting, where)


def test_a_server_that_never_listens_is_named(starting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operate, "PATIENCE", 0.2)
    with pytest.raises(CallFailed, match="starting, since"), operator(starting):
        pass


def test_a_server_that_holds_the_folder_and_says_more_is_not_waited_for(tmp_path: Path) -> None:
    taken = lock(tmp_path, "http://127.0.0.1:8000")
    with pytest.raises(CallFailed, match=r"http://127\.0\.0\.1:8000"), operator(tmp_path):
        pass
    taken.release()


def test_a_folder_that_nobody_holds_is_operated_on_itself(tmp_path: Path) -> None:
    with operator(tmp_path) as found:
        key = found.create_key("mine", tenant="default")
        assert [row["name"] for row in found.list_keys()] == ["mine"]
        assert found.revoke_key(key.key_id)
