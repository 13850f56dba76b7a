"""Uploads by callers who mean no good, or come at a bad moment: permits that were changed, files that are too large or
too many, forms that stop, and what stays in memory and on disk."""

from __future__ import annotations

import asyncio
import base64
import json
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from danqing.core.errors import Unavailable
from danqing.wire import body
from tests.support.folders import files_below
from tests.wire import house as houses
from tests.wire.house import House, form

PATH = "/api/v1/uploads"
MODEL = "qwen-image-edit-plus"
KIND = {"Content-Type": "multipart/form-data; boundary=edge"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, decoders=0) as opened:
        yield opened


async def permit(house: House, model: str = MODEL, key: str | None = None) -> dict[str, Any]:
    answer = await house.client.get(
        PATH,
        params={"action": "getPolicy", "model": model},
        headers={"Authorization": f"Bearer {key or house.key}"},
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


async def send(house: House, content: Any, **headers: str) -> httpx.Response:
    return await house.client.post(PATH, content=content, headers={**KIND, **headers})


def files(house: House) -> list[Path]:
    return files_below(house.blobs._root / "uploads")


async def refused(house: House, status: int, code: str, content: Any, **headers: str) -> None:
    """It is refused so, in XML, and leaves nothing behind."""
    before = len(files(house))
    answer = await send(house, content, **headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/xml"), answer.text
    assert f"<Code>{code}</Code>" in answer.text
    assert len(files(house)) == before


async def test_the_policy_is_the_object_store_s_kind(house: House) -> None:
    given = await permit(house)
    policy = json.loads(base64.b64decode(given["policy"]))
    assert policy["expiration"].endswith("Z")
    assert ["content-length-range", 0, 1024**3] in policy["conditions"]
    assert ["starts-with", "$key", given["upload_dir"]] in policy["conditions"]
    assert {"x-oss-forbid-overwrite": "true"} in policy["conditions"]
    assert given["upload_dir"].startswith("dashscope-instant/")
    assert "acme" not in given["upload_dir"]


async def test_a_permit_that_was_changed_anywhere_is_refused(house: House) -> None:
    given = await permit(house)
    policy = json.loads(base64.b64decode(given["policy"]))

    def changed(**members: Any) -> str:
        return base64.b64encode(json.dumps({**policy, **members}).encode()).decode()

    forged = (403, "SignatureDoesNotMatch")
    for wrong in (
        changed(expiration="2999-01-01T00:00:00.000000Z"),
        changed(**{"for": ["other", MODEL]}),
        changed(conditions=[]),
        "e30=",
        "nonsense",
        given["policy"] + "=",
    ):
        await refused(house, *forged, form(given, "a.png", b"x", policy=wrong))
    for wrong in ("AAAA", "", "ä", "=" * 44, given["signature"][:-4] + "AAA="):
        code = forged if wrong else (400, "InvalidArgument")
        await refused(house, *code, form(given, "a.png", b"x", Signature=wrong))
    await refused(house, 403, "InvalidAccessKeyId", form(given, "a.png", b"x", OSSAccessKeyId="LTAI"))


@pytest.mark.parametrize("field", ["OSSAccessKeyId", "Signature", "policy", "key"])
async def test_a_form_without_a_field_names_it(field: str, house: House) -> None:
    given = await permit(house)
    answer = await send(house, form(given, "a.png", b"x", **{field: ""}))
    assert (answer.status_code, f"<ArgumentName>{field}</ArgumentName>" in answer.text) == (400, True)


async def test_a_name_outside_the_permit_s_folder_is_refused(house: House) -> None:
    given, foreign = await permit(house), await permit(house, key=house.others["foreign"])
    folder = given["upload_dir"]
    for key in (
        folder,
        folder + "/",
        folder + "x/a.png",
        "a.png",
        "/" + folder + "/a.png",
        foreign["upload_dir"] + "/a",
    ):
        await refused(house, 403, "AccessDenied", form(given, "a.png", b"x", key=key))
    for key in (folder + "/" + "图" * 400, folder + "/a\0b", folder + "/a\tb", folder + "/a\x7f"):
        await refused(house, 400, "InvalidObjectName", form(given, "a.png", b"x", key=key))


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "a/b/c", "%2e%2e", "<Code>&", "';--", "CON", "\u202egnp"]
)
async def test_a_name_is_a_name_and_never_a_path(name: str, house: House, tmp_path: Path) -> None:
    given = await permit(house)
    answer = await send(house, form(given, "x.png", b"x", key=f"{given['upload_dir']}/{name}"))
    assert (answer.status_code, answer.content) == (200, b"")
    (kept,) = files(house)
    assert kept.parent.parent == tmp_path / "blobs" / "uploads"
    assert len(kept.name) == 32


async def test_a_file_larger_than_the_permit_allows_leaves_nothing(house: House) -> None:
    house.desk.uploads.terms = replace(house.desk.uploads.terms, most=1024 * 1024)
    given = await permit(house)
    assert given["max_file_size_mb"] == 1
    assert (await send(house, form(given, "a.png", bytes(1024 * 1024)))).status_code == 200
    await refused(house, 400, "EntityTooLarge", form(given, "b.png", bytes(1024 * 1024 + 1)))
    await refused(house, 400, "EntityTooLarge", form(given, "b.png", bytes(2 * 1024 * 1024)))


async def parts(data: bytes, *, size: int = 50_000, wait: float = 0.0) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(wait)


async def test_an_account_has_so_much_room_whoever_comes_at_once(house: House) -> None:
    house.desk.uploads.terms = replace(house.desk.uploads.terms, most=400_000, capacity=1_000_000)
    given, foreign = await permit(house), await permit(house, key=house.others["foreign"])
    forms = [form(given, f"{n}.png", bytes([n]) * 300_000) for n in range(6)]
    answers = await asyncio.gather(*(send(house, parts(one, wait=0.001)) for one in forms))
    taken = [answer.status_code for answer in answers]
    assert set(taken) == {200, 403}
    assert len(files(house)) == taken.count(200) <= 3
    assert (await send(house, form(foreign, "a.png", bytes(300_000)))).status_code == 200
    house.clock.ahead += 49 * 3600.0
    await house.blobs.remove(await house.store.sweep())
    assert files(house) == []
    again = await permit(house)
    assert (await send(house, form(again, "a.png", bytes(300_000)))).status_code == 200


async def test_a_large_file_is_never_in_memory_as_a_whole(house: House) -> None:
    given = await permit(house)
    head, tail = form(given, "big.png", b"|").split(b"|")
    size = 48 * 1024 * 1024

    async def big() -> AsyncIterator[bytes]:
        yield head
        for _ in range(size // 65_536):
            yield bytes(65_536)
        yield tail

    tracemalloc.start()
    try:
        answer = await send(house, big())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code == 200
    assert [path.stat().st_size for path in files(house)] == [size]
    assert peak < 12 * 1024 * 1024


async def test_a_form_that_stops_or_breaks_off_is_refused_and_leaves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = await permit(house)
    whole = form(given, "a.png", bytes(200_000))
    await refused(house, 400, "MalformedPOSTRequest", whole[:150_000])
    await refused(house, 400, "MalformedPOSTRequest", parts(whole[:-20]))
    real = body.Limits

    def hasty(**more: Any) -> body.Limits:
        return real(**{**more, "seconds": 0.2, "grace": 0.2})

    monkeypatch.setattr(body, "Limits", hasty)
    await refused(house, 400, "RequestTimeout", parts(whole, size=20_000, wait=0.1))


async def test_a_client_that_leaves_leaves_nothing(house: House) -> None:
    given = await permit(house)
    whole = form(given, "a.png", bytes(3_000_000))
    sending = asyncio.ensure_future(send(house, parts(whole, size=500_000, wait=0.2)))
    await asyncio.sleep(0.3)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert files(house) == []
    assert house.desk.uploads._arriving == {}


async def test_of_two_files_neither_is_taken(house: House) -> None:
    given = await permit(house)
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="b.png"\r\n\r\n'
    whole = form(given, "a.png", b"first").removesuffix(b"--edge--\r\n") + head + b"second\r\n--edge--\r\n"
    await refused(house, 400, "IncorrectNumberOfFilesInPOSTRequest", whole)


@pytest.mark.parametrize("field", ["x-oss-object-acl", "x-oss-forbid-overwrite"])
async def test_a_field_that_the_permit_fixes_says_that_or_nothing(house: House, field: str) -> None:
    given = await permit(house)
    await refused(house, 403, "AccessDenied", form(given, "a.png", b"x", **{field: "public-read"}))
    assert (await send(house, form(given, "a.png", b"x", **{field: ""}))).status_code == 200


async def test_a_form_ends_before_its_file(house: House) -> None:
    given = await permit(house)
    whole = form(given, "a.png", b"x")
    cut = whole.index(b'--edge\r\nContent-Disposition: form-data; name="file"')
    await refused(house, 400, "IncorrectNumberOfFilesInPOSTRequest", whole[:cut] + b"--edge--\r\n")


async def test_a_full_disk_is_told_as_such(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any) -> None:
        raise Unavailable

    given = await permit(house)
    monkeypatch.setattr(house.blobs, "pour", full)
    await refused(house, 503, "ServiceUnavailable", form(given, "a.png", b"x"))


async def test_permits_are_a_hundred_a_second_for_each_model(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = house.clock.monotonic()
    monkeypatch.setattr(house.clock, "monotonic", lambda: now)
    headers = {"Authorization": f"Bearer {house.key}"}
    query = {"action": "getPolicy", "model": MODEL}
    answers = [await house.client.get(PATH, params=query, headers=headers) for _ in range(101)]
    assert [answer.status_code for answer in answers] == [200] * 100 + [429]
    assert answers[-1].json()["code"] == "Throttling.RateQuota"
    assert answers[-1].headers["retry-after"] == "1"
    await permit(house, "qwen-image-edit-max")
    await permit(house, key=house.others["foreign"])


async def test_a_public_url_is_where_forms_go(house: House) -> None:
    desk = replace(house.desk, public_url="https://images.example.com/danqing/")
    from danqing.wire.http import build

    transport = httpx.ASGITransport(build(desk))
    async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
        answer = await client.get(
            "/x" + PATH,
            params={"action": "getPolicy", "model": MODEL},
            headers={"Authorization": f"Bearer {house.key}"},
        )
    assert answer.json()["data"]["upload_host"] == "https://images.example.com/danqing/api/v1/uploads"


async def test_the_sweep_takes_the_bytes_and_leaves_those_still_named(house: House) -> None:
    given = await permit(house)
    for name in ("a", "b"):
        assert (await send(house, form(given, name, name.encode()))).status_code == 200
    (house.blobs._root / "uploads" / "stray").mkdir()
    before = files(house)
    assert (
        sorted(await house.store.unnamed([str(path.relative_to(house.blobs._root)) for path in before])) == []
    )
    assert list(await house.store.sweep()) == []
    house.clock.ahead += 48 * 3600.0
    await house.blobs.remove(await house.store.sweep())
    assert files(house) == []


async def test_a_form_as_the_java_sdk_writes_it(house: House) -> None:
    given = await permit(house)
    fields = {
        "OSSAccessKeyId": given["oss_access_key_id"],
        "Signature": given["signature"],
        "policy": given["policy"],
        "key": given["upload_dir"] + "/图 a.png",
        "x-oss-object-acl": given["x_oss_object_acl"],
        "x-oss-forbid-overwrite": given["x_oss_forbid_overwrite"],
        "success_action_status": "200",
        "x-oss-content-type": "image/png",
    }
    edge = "7f3c2c1e-9a7b-4c5e-8f1d-2b6f1f0a9d3e"
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        f"Content-Length: {len(value.encode())}\r\n\r\n{value}\r\n"
        for name, value in fields.items()
    ]
    head = (
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="图 a.png"\r\n'
        "Content-Type: image/png\r\nContent-Length: 4\r\n\r\n"
    )
    whole = "".join([*parts, head]).encode() + b"\0\r\n\xff" + f"\r\n--{edge}--\r\n".encode()
    answer = await send(house, whole, **{"Content-Type": f"multipart/form-data; boundary={edge}"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert [path.read_bytes() for path in files(house)] == [b"\0\r\n\xff"]


async def test_a_form_as_httpx_writes_it_with_its_fields_in_another_order(house: House) -> None:
    given = await permit(house)
    data = {
        "success_action_status": "200",
        "key": given["upload_dir"] + "/a.png",
        "policy": given["policy"],
        "Signature": given["signature"],
        "OSSAccessKeyId": given["oss_access_key_id"],
    }
    answer = await house.client.post(PATH, data=data, files={"file": ("a.png", b"abc", "image/png")})
    assert (answer.status_code, answer.content) == (200, b"")
    assert [path.read_bytes() for path in files(house)] == [b"abc"]
