"""Mutated forms and permits: whatever the mutation, the answer is the form or a refusal, and little is kept."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import AsyncIterator, Mapping

import pytest

from danqing.core.ports import Seal
from danqing.core.uploads import Grant, UploadRefused, Why
from danqing.wire.dashscope import permits
from danqing.wire.form import MOST_FIELDS, MOST_HEAD, MOST_VALUE, Form, Malformed, NoFile

MUTANTS = 4000
GRANT = Grant("acme", "qwen-image-edit", 2e9, 1024, 4096)
WHERE = "dashscope-instant/0/2026-11-21/0"
FIELDS = {
    "OSSAccessKeyId": "DQ",
    "Signature": "AAAA",
    "policy": permits.policy(GRANT, WHERE),
    "key": WHERE + "/a b.png",
}
PIECES = (
    b"--edge",
    b"\r\n",
    b"\r\n\r\n",
    b"--",
    b"name=",
    b'"',
    b"\0",
    b"\xff",
    b"Content-Disposition:",
    b'name="file"',
)


def whole() -> bytes:
    heads = [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in FIELDS.items()
    ]
    file = '--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return "".join([*heads, file]).encode() + bytes(range(256)) * 4 + b"\r\n--edge--\r\n"


def mutate(data: bytes, dice: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(found) + 1)
        match dice.randrange(4):
            case 0:
                found[at:at] = dice.choice(PIECES) * dice.choice((1, 1, 2, 3000))
            case 1:
                del found[at : at + dice.choice((1, 2, 40, 400))]
            case 2:
                found[at : at + 1] = bytes([dice.randrange(256)])
            case _:
                found = found[at:] + found[:at]
    return bytes(found)


async def cut(data: bytes, dice: random.Random) -> AsyncIterator[bytes]:
    at = 0
    while at < len(data):
        step = dice.choice((1, 7, 64, 1000))
        yield data[at : at + step]
        at += step


async def test_p10_a_mutated_form_reads_or_is_refused() -> None:
    dice, read = random.Random(11), 0
    original = whole()
    for _ in range(MUTANTS):
        form = Form(cut(mutate(original, dice), dice), b"edge")
        try:
            fields = await form.fields()
            async for _piece in form.file():
                assert len(form._held) <= MOST_HEAD + MOST_VALUE
        except (Malformed, NoFile):
            continue
        read += 1
        assert len(fields) <= MOST_FIELDS
        assert all(len(value.encode()) <= MOST_VALUE for value in fields.values())
    assert 0 < read < MUTANTS


def refuses(text: str, seal: Seal) -> None:
    if (text, seal) != (FIELDS["policy"], Seal("DQ", b"\0\0\0")):
        raise UploadRefused(Why.FORGED)


def test_p10_mutated_fields_allow_nothing_but_names_in_the_folder() -> None:
    dice, taken = random.Random(12), 0
    for _ in range(MUTANTS):
        name = dice.choice(list(FIELDS))
        value = mutate(FIELDS[name].encode(), dice).decode("utf-8", "replace")
        try:
            allowed = permits.allowance({**FIELDS, name: value}, 1e9, refuses)
        except (UploadRefused, permits.FieldMissing):
            continue
        taken += 1
        assert (allowed.tenant, allowed.model, allowed.most) == ("acme", "qwen-image-edit", 1024)
        assert allowed.key.startswith(WHERE + "/")
        assert len(allowed.key.encode()) <= permits.LONGEST_KEY
    assert taken


def test_nothing_of_a_policy_is_read_before_its_seal() -> None:
    def never(*_: object) -> None:
        raise UploadRefused(Why.FORGED)

    bomb = base64.b64encode(json.dumps([[]] * 10).encode()).decode()
    fields: Mapping[str, str] = {**FIELDS, "policy": bomb}
    with pytest.raises(UploadRefused):
        permits.allowance(fields, 1e9, never)
