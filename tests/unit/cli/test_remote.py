"""Pictures of a server on this machine are taken from it, whatever its links say."""

from __future__ import annotations

import io
from typing import Any

import pytest

from danqing.cli.remote import CallFailed, Remote

LINK = "https://pictures.example.org/results/a/b.png?Expires=1&Signature=x%2Fy"


@pytest.mark.parametrize(
    ("near", "asked"),
    [(False, LINK), (True, "http://127.0.0.1:8000/results/a/b.png?Expires=1&Signature=x%2Fy")],
)
def test_where_a_picture_is_taken_from(near: bool, asked: str) -> None:
    remote, seen = Remote("http://127.0.0.1:8000", "k", near=near), []

    def opened(request: Any, timeout: float) -> io.BytesIO:
        seen.append(request.full_url)
        return io.BytesIO(b"png")

    remote._open = opened  # type: ignore[method-assign]
    assert remote.download(LINK) == b"png"
    assert seen == [asked]


@pytest.mark.parametrize("key", ["sk-…", "sk-钥匙", "sk-a\nb"])
def test_a_key_that_no_header_can_carry_is_told_as_that(key: str) -> None:
    with pytest.raises(CallFailed, match="danqing keys create"):
        Remote("http://127.0.0.1:9", key)
