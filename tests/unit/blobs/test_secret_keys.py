"""Signing keys: made once, kept from others, rotated by adding a file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from danqing.blobs import secret_keys
from danqing.blobs.folder import FolderBlobs


def test_the_first_start_makes_a_key_that_later_starts_read(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first = secret_keys.load(folder)
    assert len(first) == 1
    assert len(first[0].secret) == 32
    assert secret_keys.load(folder) == first
    assert secret_keys.load(tmp_path / "other") != first


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    secret_keys.load(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_a_rotated_key_comes_last_and_signs(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    (old,) = secret_keys.load(folder)
    new = secret_keys.add(folder)
    assert list(secret_keys.load(folder)) == [old, new]
    key = "ab/cd/20261121/abcd0000000000000000000000000000/job-0.png"
    assert new.id in FolderBlobs(tmp_path / "blobs", folder).link(key, base="", expires=1)


def test_a_key_is_never_written_over_another(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    (first,) = secret_keys.load(folder)
    secret_keys.create(folder / "link-0001.json", b"{}")
    assert list(secret_keys.load(folder)) == [first]


DAMAGED = ["", "{}", "[]", '{"id": "a", "secret": "00"}', '{"id": "a|b", "secret": "' + "00" * 32 + '"}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_key_stops_the_start_and_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "link-0001.json").write_text(text)
    with pytest.raises(ValueError, match=r"link-0001\.json is not a link key"):
        secret_keys.load(tmp_path)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text("x")
    assert len(secret_keys.load(tmp_path)) == 1
    assert (tmp_path / "pepper").read_text() == "x"
