from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from danqing.lease import address


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


def bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


def test_the_socket_lies_in_a_private_folder_with_a_short_path(data: Path) -> None:
    path = address.new_socket()
    assert len(os.fsencode(path)) <= 103
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    address.close(data, path)
    assert not path.parent.exists()


def test_a_place_whose_path_is_too_long_is_passed_over(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    path = address.new_socket([deep, Path("/tmp")])
    assert path.parent.parent == Path("/tmp")
    path.parent.rmdir()


def test_no_short_place_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(address.NoShortPlace):
        address.new_socket([tmp_path / ("x" * 120), Path("/nowhere")])


def test_a_recorded_socket_is_found_and_the_record_is_private(data: Path) -> None:
    path = address.new_socket()
    with bound(path):
        address.record(data, path)
        assert address.find(data) == path
        assert stat.S_IMODE((data / address.RECORD).stat().st_mode) == 0o600
        address.close(data, path)
    assert address.find(data) is None
    assert list(data.iterdir()) == []


def test_the_socket_of_a_dead_predecessor_is_removed(data: Path) -> None:
    old, new = address.new_socket(), address.new_socket()
    bound(old).close()
    address.record(data, old)
    address.record(data, new)
    assert not old.parent.exists()
    new.parent.rmdir()


def test_the_record_of_another_server_is_left_alone(data: Path) -> None:
    old, new = address.new_socket(), address.new_socket()
    with bound(old), bound(new):
        address.record(data, old)
        address.record(data, new)
        address.close(data, old)
        assert address.find(data) == new
        address.close(data, new)


@pytest.mark.parametrize("text", ["", "/nowhere/lease", "\x00"])
def test_a_record_that_leads_nowhere_is_no_record(data: Path, text: str) -> None:
    (data / address.RECORD).write_text(text)
    assert address.find(data) is None


def test_a_plain_file_is_no_socket(data: Path) -> None:
    (data / "file").write_text("")
    (data / address.RECORD).write_text(str(data / "file"))
    assert address.find(data) is None
