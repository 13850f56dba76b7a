"""Forms, cut anywhere: the same fields and bytes, whatever the cuts; anything else is refused and bounded."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from danqing.wire.form import MOST_FIELDS, MOST_VALUE, Form, Malformed, NoFile, boundary

EDGE = b"edge"
DATA = b"\r\n--edg\r\n--\r\n\r\n--edgf" + bytes(range(256)) * 3 + b"\r\n"


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


WHOLE = b"".join(
    [
        part("policy", b"abc"),
        part("key", "dir/图 a.png".encode()),
        part("empty", b""),
        part("file", DATA, '; filename="a b.png"\r\nContent-Type: image/png'),
        part("after", b"ignored"),
        b"--edge--\r\n",
    ]
)


async def cut(body: bytes, places: list[int]) -> AsyncIterator[bytes]:
    for start, end in zip([0, *places], [*places, len(body)], strict=True):
        yield body[start:end]


async def read(body: bytes, places: list[int] | None = None) -> tuple[dict[str, str], bytes]:
    form = Form(cut(body, places or []), EDGE)
    fields = await form.fields()
    return fields, b"".join([piece async for piece in form.file()])


WANTED = ({"policy": "abc", "key": "dir/图 a.png", "empty": ""}, DATA)


async def test_a_form_reads_the_same_however_it_is_cut() -> None:
    assert await read(WHOLE) == WANTED
    assert await read(WHOLE, list(range(1, len(WHOLE)))) == WANTED
    dice = random.Random(1)
    for _ in range(200):
        places = sorted(dice.sample(range(len(WHOLE)), dice.randint(1, 9)))
        assert await read(WHOLE, places) == WANTED
    for place in range(len(WHOLE)):
        assert await read(WHOLE, [place]) == WANTED


async def test_what_stands_before_the_first_boundary_is_dropped() -> None:
    assert await read(b"\r\n" + WHOLE) == WANTED
    assert await read(b"a preamble\r\n" + WHOLE) == WANTED


@pytest.mark.parametrize(
    "head",
    ["Content-Disposition: form-data; name=key", 'content-disposition:form-data;filename="x";name="key"'],
)
async def test_names_in_other_spellings(head: str) -> None:
    body = f"--edge\r\n{head}\r\n\r\nv\r\n".encode() + part("file", b"x") + b"--edge--"
    assert await read(body) == ({"key": "v"}, b"x")


async def test_every_beginning_of_a_form_is_no_form() -> None:
    end = WHOLE.index(b'\r\n--edge\r\nContent-Disposition: form-data; name="after"') + len(b"\r\n--edge\r\n")
    for length in range(end):
        with pytest.raises(Malformed):
            await read(WHOLE[:length])


async def test_a_form_without_a_file_says_so() -> None:
    with pytest.raises(NoFile):
        await read(part("key", b"x") + b"--edge--\r\n")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--other\r\n",
        b"--edge",
        b"--edgex",
        part("a", b"1") + part("a", b"2") + part("file", b"x"),
        part("a", b"\xff") + part("file", b"x"),
        part("a", b"x" * (MOST_VALUE + 1)) + part("file", b"x"),
        b"--edge\r\nContent-Type: text/plain\r\n\r\nv\r\n" + part("file", b"x"),
        b"--edge\r\n" + b"X: y\r\n" * 4000 + part("file", b"x"),
        b"".join(part(str(n), b"") for n in range(MOST_FIELDS + 1)) + part("file", b"x"),
        b"x" * 100_000,
    ],
)  # fmt: skip
async def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        await read(body)


async def test_a_body_without_an_end_is_refused_early() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"a" * 1024

    with pytest.raises(Malformed):
        await Form(endless(), EDGE).fields()
    assert taken < 32


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("multipart/form-data; boundary=edge", b"edge"),
        ('Multipart/Form-Data;charset=utf-8; Boundary="a b:c"', b"a b:c"),
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA4", b"----WebKitFormBoundary7MA4"),
    ],
)  # fmt: skip
def test_boundaries(header: str, wanted: bytes) -> None:
    assert boundary(header) == wanted


@pytest.mark.parametrize(
    "header", [None, "", "application/json", "multipart/form-data", "multipart/form-data; boundary=",
               "multipart/form-data; boundary=" + "x" * 71, 'multipart/form-data; boundary="a\r\nb"'],
)  # fmt: skip
def test_headers_without_a_boundary(header: str | None) -> None:
    with pytest.raises(Malformed):
        boundary(header)
