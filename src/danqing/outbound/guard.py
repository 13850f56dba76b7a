"""Which addresses and URLs may be reached from here. Pure: resolves no name and opens no socket.

Two checks that do not lean on each other. `parse` reads a URL by a grammar of its own, narrower than the standards:
whatever two parsers could read differently is refused. `is_public` judges the address a socket is about to connect to,
whatever name or notation led there; only it keeps private networks safe, because names mean what their owner says,
and mean something else a second later.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import quote

from danqing.core.errors import InputForbidden, InputMalformed

MAX_URL = 2048
PORTS = frozenset({80, 443})
Address = IPv4Address | IPv6Address

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(?i:(https?))://([^/?#]*)(/[^?#]*)?(\?[^#]*)?(?:#.*)?", re.DOTALL)
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@%]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"(?!-)[0-9a-z_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Reserved characters of RFC 3986, and "%": what is escaped stays as it is, or signatures would break.
_AS_IS = "%!$&'()*+,/:;=?@[]~|"

_REFUSED_V4 = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10")))
_REFUSED_V6 = tuple(
    map(ip_network, ("2001::/23", "2002::/16", "64:ff9b::/96", "64:ff9b:1::/48", "3fff::/20"))
)
_GLOBAL_V6 = ip_network("2000::/3")
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that passed the grammar. `host` is lower-case ASCII, a literal IPv6 address without brackets; `url` is
    ASCII and means the same to every parser; `place` is "host:port"."""

    scheme: str
    host: str
    port: int
    url: str

    @property
    def place(self) -> str:
        """Host and port, as the list of trusted places spells them."""
        return f"{self.host}:{self.port}"


def parse(url: str, *, ports: AbstractSet[int] = PORTS, trusted: AbstractSet[str] = frozenset()) -> Target:
    """Read an absolute http or https URL.

    Refused as InputMalformed: more than 2,048 characters, other schemes, user-info, backslashes, white space and
    control characters, zone ids, and hosts that are neither a name nor an address in its usual notation (so no
    decimal, hexadecimal, octal or short forms). Refused as InputForbidden: other ports than `ports`, and literal
    addresses that are not public; unless "host:port" is in `trusted`.
    """
    if len(url) > MAX_URL or "\\" in url or any(_is_control(char) for char in url):
        raise InputMalformed
    match = _URL.fullmatch(url)
    place = _PLACE.fullmatch(match[2]) if match else None
    if match is None or place is None:
        raise InputMalformed
    scheme = match[1].lower()
    host = _host(place[1])
    port = int(place[2]) if place[2] else _DEFAULT_PORTS[scheme]
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port != _DEFAULT_PORTS[scheme] else "")
    rest = quote((match[3] or "/") + (match[4] or ""), safe=_AS_IS)
    target = Target(scheme, host, port, f"{scheme}://{netloc}{rest}")
    if target.place not in trusted and (port not in ports or not _may_be_public(host)):
        raise InputForbidden
    return target


def is_public(address: Address) -> bool:
    """Whether a socket may connect there: unicast, reachable for everybody, and not a tunnel to somewhere else."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, IPv4Address):
        return not address.is_reserved and not any(address in network for network in _REFUSED_V4)
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return False
    return address in _GLOBAL_V6 and not any(address in network for network in _REFUSED_V6)


def _is_control(char: str) -> bool:
    """White space, control characters and lone surrogates; a plain space inside a path is somebody's file name."""
    return char != " " and (char.isspace() or not char.isprintable())


def _host(text: str) -> str:
    """The host in lower-case ASCII. International names are mapped first, because that turns digits and dots of other
    scripts into the ones that addresses are made of."""
    if text.startswith("["):
        return str(_literal(text[1:-1], IPv6Address))
    try:
        name = text.encode("idna").decode("ascii").lower()
    except UnicodeError as problem:
        raise InputMalformed from problem
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InputMalformed
    if _NUMBER.fullmatch(
        labels[-1]
    ):  # then every resolver takes the whole for an address, whatever its notation
        return str(_literal(name, IPv4Address))
    return name


def _literal(text: str, kind: type[Address]) -> Address:
    try:
        return kind(text)
    except ValueError as problem:
        raise InputMalformed from problem


def _may_be_public(host: str) -> bool:
    """False for a literal address that is not public; names are judged when they have been resolved."""
    try:
        return is_public(ip_address(host))
    except ValueError:
        return True
