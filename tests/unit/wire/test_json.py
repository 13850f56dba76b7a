"""Hostile JSON (threat S6): refused, and refused cheaply."""

from __future__ import annotations

import pytest

from danqing.core.errors import NotJson
from danqing.wire.json import MAX_DEPTH, MAX_MEMBERS, parse


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1,}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1} {"b": 2}',
        b"[" * 100_000,
        b"[" * 2000 + b"]" * 2000,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b"[" + b"0," * MAX_MEMBERS + b"0]",
    ],
)
def test_what_is_no_json_of_ours_is_refused(body: bytes) -> None:
    with pytest.raises(NotJson):
        parse(body)


def test_depth_and_members_up_to_the_limit_pass() -> None:
    parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert len(parse(b"[" + b"0," * (MAX_MEMBERS - 1) + b"0]")) == MAX_MEMBERS


def test_the_last_of_duplicate_members_counts() -> None:
    assert parse(b'{"a": 1, "a": 2}') == {"a": 2}
