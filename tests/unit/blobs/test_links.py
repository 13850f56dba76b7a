"""S8: everything but the very link that was signed is refused, before storage is touched."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from danqing.blobs.links import LinkKey, Links
from danqing.core.ports import LinkExpired, LinkForged
from tests.support.jobs import pictures

NOW = 1_790_000_000
FIRST = LinkKey("DQ01", b"\x01" * 32)
SECOND = LinkKey("DQ02", b"\x02" * 32)
KEY = pictures("job-a")[0].key
OTHER = pictures("job-b")[0].key
LINKS = Links([FIRST])


def parts(links: Links = LINKS, key: str = KEY, expires: int = NOW + 60) -> tuple[str, str]:
    link = urlsplit(links.sign(key, base="https://host", expires=expires))
    return link.path, link.query


PATH, QUERY = parts()
EXPIRES, ACCESS, SIGNATURE = QUERY.split("&")
RAW = unquote(SIGNATURE.partition("=")[2])
MAC = base64.b64decode(RAW)

Change = Callable[[str, str], tuple[str, str]]


def signed(mac: bytes) -> str:
    return f"{EXPIRES}&{ACCESS}&Signature={quote(base64.b64encode(mac).decode(), safe='')}"


FORGERIES: dict[str, tuple[str, str]] = {
    "no query": (PATH, ""),
    "another object": (f"/results/{OTHER}", QUERY),
    "another index": (PATH.replace("-0.png", "-1.png"), QUERY),
    "later": (PATH, QUERY.replace(str(NOW + 60), str(NOW + 61))),
    "much later": (PATH, QUERY.replace(str(NOW + 60), "9" * 12)),
    "too many digits": (PATH, QUERY.replace(str(NOW + 60), "9" * 13)),
    "leading zero": (PATH, QUERY.replace(str(NOW + 60), f"0{NOW + 60}")),
    "plus sign": (PATH, QUERY.replace(str(NOW + 60), f"%2B{NOW + 60}")),
    "space": (PATH, QUERY.replace(str(NOW + 60), f"{NOW + 60}%20")),
    "other digits": (PATH, QUERY.replace("1", "١")),
    "negative": (PATH, QUERY.replace(str(NOW + 60), "-1")),
    "no moment": (PATH, QUERY.replace(str(NOW + 60), "")),
    "unknown key id": (PATH, QUERY.replace("DQ01", "DQ99")),
    "empty key id": (PATH, QUERY.replace("DQ01", "")),
    "no signature": (PATH, f"{EXPIRES}&{ACCESS}"),
    "empty signature": (PATH, f"{EXPIRES}&{ACCESS}&Signature="),
    "one bit": (PATH, signed(bytes([MAC[0] ^ 1]) + MAC[1:])),
    "last bit": (PATH, signed(MAC[:-1] + bytes([MAC[-1] ^ 1]))),
    "cut": (PATH, signed(MAC[:-1])),
    "cut text": (PATH, QUERY[:-4]),
    "longer": (PATH, signed(MAC + b"\0")),
    "zeros": (PATH, signed(bytes(32))),
    "not Base64": (PATH, f"{EXPIRES}&{ACCESS}&Signature={'*' * 44}"),
    "not ASCII": (PATH, f"{EXPIRES}&{ACCESS}&Signature={'é' * 44}"),
    "hexadecimal": (PATH, f"{EXPIRES}&{ACCESS}&Signature={MAC.hex()}"),
    "unpadded": (PATH, f"{EXPIRES}&{ACCESS}&Signature={RAW.rstrip('=')}"),
    "spare bits": (PATH, f"{EXPIRES}&{ACCESS}&Signature={RAW[:-2]}{chr(ord(RAW[-2]) + 1)}%3D"),
    "repeated name": (PATH, f"{QUERY}&{EXPIRES}"),
    "repeated, other value": (PATH, f"Expires={NOW + 600}&{QUERY}"),
    "name too many": (PATH, f"{QUERY}&x-oss-process=image"),
    "ampersand too many": (PATH, f"{QUERY}&"),
    "semicolons": (PATH, QUERY.replace("&", ";")),
    "lower case names": (PATH, QUERY.lower()),
    "encoded names": (PATH, QUERY.replace("Expires", "%45xpires")),
    "very long": (PATH, QUERY + "A" * 10_000),
    "null character": (PATH, QUERY + "%00"),
    "path in capitals": (PATH.upper(), QUERY),
    "prefix twice": (f"/results{PATH}", QUERY),
    "no prefix": (PATH.removeprefix("/results"), QUERY),
    "other prefix": (PATH.replace("/results/", "/result/"), QUERY),
    "slash twice": (PATH.replace("/results/", "/results//"), QUERY),
    "dot": (PATH.replace("/results/", "/results/./"), QUERY),
    "up and down": (PATH.replace("/results/", "/results/x/../"), QUERY),
    "up": ("/results/../danqing.sqlite3", QUERY),
    "up encoded": ("/results/%2e%2e/danqing.sqlite3", QUERY),
    "encoded slash": (PATH.replace("/results/", "/results%2F"), QUERY),
    "trailing slash": (PATH + "/", QUERY),
    "trailing newline": (PATH + "\n", QUERY),
    "parameters": (PATH + ";a=b", QUERY),
    "nothing": ("", ""),
    "the prefix": ("/results/", QUERY),
}


@pytest.mark.parametrize(("path", "query"), FORGERIES.values(), ids=FORGERIES.keys())
def test_s8_a_forged_link_is_refused(path: str, query: str) -> None:
    with pytest.raises(LinkForged):
        LINKS.read(path, query, NOW)


def test_s8_no_two_links_can_be_mixed() -> None:
    good = [parts(key=KEY), parts(key=OTHER), parts(expires=NOW + 99), parts(Links([SECOND]))]
    both = Links([FIRST, SECOND])
    for path, query in good:
        both.read(path, query, NOW)
        for _, other in good:
            mixed = "&".join([query.split("&")[0], query.split("&")[1], other.split("&")[2]])
            if mixed != query:
                with pytest.raises(LinkForged):
                    both.read(path, mixed, NOW)


def test_a_forged_link_that_is_also_too_late_is_called_forged() -> None:
    with pytest.raises(LinkForged):
        LINKS.read(PATH, QUERY.replace("DQ01", "DQ02"), NOW + 1000)
    with pytest.raises(LinkExpired):
        LINKS.read(PATH, QUERY, NOW + 1000)


@pytest.mark.parametrize("safe", ["", "/", "/=", "/=+"])
def test_a_client_may_encode_the_signature_more_or_less(safe: str) -> None:
    for second in range(40):
        path, query = parts(expires=NOW + 60 + second)
        raw = unquote(query.rpartition("=")[2])
        again = query.rpartition("=")[0] + "=" + quote(raw, safe=safe)
        assert LINKS.read(path, again, NOW) == KEY


def test_the_order_of_the_query_does_not_matter() -> None:
    assert LINKS.read(PATH, "&".join([SIGNATURE, EXPIRES, ACCESS]), NOW) == KEY


def test_a_new_key_signs_and_the_old_one_still_reads() -> None:
    rotated = Links([FIRST, SECOND])
    assert rotated.read(PATH, QUERY, NOW) == KEY
    path, query = parts(rotated)
    assert "OSSAccessKeyId=DQ02" in query
    with pytest.raises(LinkForged):
        LINKS.read(path, query, NOW)
    with pytest.raises(LinkForged):
        Links([SECOND]).read(PATH, QUERY, NOW)
    with pytest.raises(ValueError, match="a key"):
        Links([])


def test_the_query_has_the_names_and_order_of_the_hosted_service() -> None:
    assert list(parse_qs(QUERY)) == ["Expires", "OSSAccessKeyId", "Signature"]
    assert len(RAW) == 44


def test_a_key_does_not_show_its_secret() -> None:
    assert "\\x01" not in repr(FIRST)
