"""S1 and S3 without a network: every notation of a forbidden place, and every URL that two parsers could read apart."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from danqing.core.errors import InputForbidden, InputMalformed
from danqing.outbound.guard import MAX_URL, is_public, parse
from tests.support import places


@pytest.mark.parametrize("address", places.FORBIDDEN)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", places.PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("host", places.NOTATIONS)
def test_no_notation_of_a_private_address_passes_the_grammar(host: str) -> None:
    with pytest.raises((InputMalformed, InputForbidden)):
        parse(f"http://{host}/x.png")


@pytest.mark.parametrize("url", places.MALFORMED)
def test_a_url_outside_the_grammar_is_malformed(url: str) -> None:
    with pytest.raises(InputMalformed):
        parse(url)


@pytest.mark.parametrize("port", [0, 1, 22, 25, 79, 81, 442, 444, 6379, 8080, 65535, 99999])
def test_a_port_that_is_not_the_webs_is_forbidden(port: int) -> None:
    with pytest.raises(InputForbidden):
        parse(f"http://example.com:{port}/")


@pytest.mark.parametrize(
    ("url", "host", "port", "sent"),
    [
        ("http://example.com", "example.com", 80, "http://example.com/"),
        ("HTTPS://EXAMPLE.com/A/b.PNG", "example.com", 443, "https://example.com/A/b.PNG"),
        (
            "https://example.com:443/a?b=c%2Bd&e=%E4%B8%AD",
            "example.com",
            443,
            "https://example.com/a?b=c%2Bd&e=%E4%B8%AD",
        ),
        ("http://example.com:443/a", "example.com", 443, "http://example.com:443/a"),
        ("http://example.com?x=1#part", "example.com", 80, "http://example.com/?x=1"),
        ("http://a_b.example/图 1.png", "a_b.example", 80, "http://a_b.example/%E5%9B%BE%201.png"),
        ("http://8.8.8.8/x", "8.8.8.8", 80, "http://8.8.8.8/x"),
        ("http://[2606:4700::1111]/x", "2606:4700::1111", 80, "http://[2606:4700::1111]/x"),
        ("http://例え.jp/", "xn--r8jz45g.jp", 80, "http://xn--r8jz45g.jp/"),
        (
            "http://b.oss-cn-beijing.aliyuncs.com/x?Signature=a%2Fb%3D",
            "b.oss-cn-beijing.aliyuncs.com",
            80,
            "http://b.oss-cn-beijing.aliyuncs.com/x?Signature=a%2Fb%3D",
        ),
    ],
)
def test_an_ordinary_url_is_read_and_sent_as_given(url: str, host: str, port: int, sent: str) -> None:
    target = parse(url)
    assert (target.host, target.port, target.url) == (host, port, sent)


def test_a_url_may_be_as_long_as_the_limit_and_no_longer() -> None:
    url = "http://example.com/"
    assert parse(url.ljust(MAX_URL - 1, "a")).host == "example.com"
    assert parse(url.ljust(MAX_URL, "a")).host == "example.com"
    with pytest.raises(InputMalformed):
        parse(url.ljust(MAX_URL + 1, "a"))


def test_a_host_name_may_be_as_long_as_names_get() -> None:
    label = "a" * 63
    assert parse(f"http://{label}.{label}.{label}.{'b' * 61}/").host.endswith("b")
    for host in (f"{'a' * 64}.com", f"{label}.{label}.{label}.{'b' * 62}"):
        with pytest.raises(InputMalformed):
            parse(f"http://{host}/")


def test_a_place_the_operator_trusts_is_let_through_exactly_as_named() -> None:
    trusted = frozenset({"10.0.0.5:9000", "minio.internal:9000"})
    assert parse("http://10.0.0.5:9000/a", trusted=trusted).port == 9000
    assert parse("http://MinIO.internal:9000/a", trusted=trusted).port == 9000
    for url in (
        "http://10.0.0.5/a",
        "http://10.0.0.6:9000/",
        "http://other.internal:9000/",
        "http://10.0.0.5:9001/",
    ):
        with pytest.raises(InputForbidden):
            parse(url, trusted=trusted)
