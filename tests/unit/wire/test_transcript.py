"""The transcripts' own reader: it must see what differs, or the transcripts prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.transcript import compare, read

ID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    ("wanted", "seen", "agrees"),
    [
        ('{"a": 1}', '{"a":1}', True),
        ('{"a": 1}', '{"a":2}', False),
        ('{"a": 1}', '{"a":true}', False),
        ('{"a": 1}', '{"a":1,"b":2}', False),
        ('{"a": 1, "b": 2}', '{"a":1}', False),
        ('{"a": "<id>"}', f'{{"a":"{ID}"}}', True),
        ('{"a": "<id>"}', '{"a":"x"}', False),
        ('{"a": "<any>"}', '{"a":{"b":[1]}}', True),
        ('{"a": "x <id> y"}', f'{{"a":"x {ID} y"}}', True),
        ('{"a": "<width>*<height>"}', '{"a":"<width>*<height>"}', True),
        ('{"a": "a.b"}', '{"a":"axb"}', False),
        ("[1, 2]", "[1]", False),
        ('{"a": 1}', "<html>", False),
        ("<E><id></E>", f"<E>{ID}</E>", True),
        ("<E><id></E>", "<E></E>", False),
    ],
)
def test_a_difference_is_seen_and_a_likeness_too(wanted: str, seen: str, agrees: bool) -> None:
    assert (compare(wanted, seen) == []) is agrees


def test_an_exchange_has_deeds_headers_and_bodies(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(
        '=== one\n% advance 3\nPOST /p\nA-B: c\n\n{"x":\n 1}\n--- 200\nD: <id>\n\n{}\n\n=== two\nGET /q\n--- 404\n'
    )
    one, two = read(path)
    assert (one.title, one.deeds, one.method, one.path, one.headers) == (
        "one",
        ("advance 3",),
        "POST",
        "/p",
        {"A-B": "c"},
    )
    assert (one.body, one.status, one.wanted_headers, one.wanted_body) == (
        '{"x":\n 1}',
        200,
        {"D": "<id>"},
        "{}",
    )
    assert (two.status, two.body, two.wanted_body) == (404, "", None)
