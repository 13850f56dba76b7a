"""Downloads of pictures from addresses that callers chose. Knows bytes and limits; what the bytes are is for others.

Every connection passes `guard.is_public` at the moment its socket is made, after all resolving, so neither a literal
address nor a name that changes its mind gets by. Redirects are followed by hand, each as suspicious as the first URL.
Nothing is decompressed, kept or remembered between two downloads: no cookies, no cache of names, no connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from danqing.core.errors import InputFault, InputForbidden, InputTooLarge, InputUnreachable
from danqing.outbound.guard import PORTS, Target, is_public, parse

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
Resolve = Callable[[str, int], Sequence[str]]
"""Host and port to addresses as text; may block and runs in a thread. Raises OSError."""

MAX_REDIRECTS = 3
_MAX_ADDRESSES = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "Danqing"}


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, until the first byte and between two reads, and for one download in all, redirects and
    resolving included."""

    connect: float = 3.0
    silence: float = 5.0
    total: float = 15.0


class Getter:
    """Downloads under the rules above: at most `total` at a time, and `per_tenant` of them for one tenant."""

    def __init__(
        self,
        *,
        allow: AbstractSet[str] = frozenset(),
        ports: AbstractSet[int] = PORTS,
        patience: Patience = Patience(),
        total: int = 16,
        per_tenant: int = 4,
        resolve: Resolve | None = None,
        make_socket: Callable[[int, int, int], socket.socket] = socket.socket,
    ) -> None:
        """`allow` holds "host:port" as they stand in a URL: places of the operator's own network that may be reached
        although they are not public. `resolve` and `make_socket` are replaced in tests."""
        self._allow = frozenset(place.lower() for place in allow)
        self._ports = frozenset(ports)
        self._patience = patience
        self._total = asyncio.Semaphore(total)
        self._per_tenant = per_tenant
        self._tenants: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()
        # Threads of our own: a name server that never answers must not use up those of the rest of the server.
        self._threads = ThreadPoolExecutor(max_workers=2 * total, thread_name_prefix="resolve")
        self._resolver = _Resolver(self._threads, resolve or _look_up)
        self._make_socket = make_socket

    def check(self, url: str) -> None:
        """Read a URL without touching the network; raises InputMalformed or InputForbidden as `guard.parse` does."""
        parse(url, ports=self._ports, trusted=self._allow)

    async def get(self, tenant: str, url: str, limit: int) -> bytes:
        """The body of the answer to a GET, at most `limit` bytes.

        Raises InputMalformed (not such a URL), InputForbidden (the URL, a redirect or a resolved address points where
        nobody may go), InputTooLarge, and InputUnreachable for everything that the other side may do wrong: no such
        name, refused, too slow, another status than 200, too many redirects, a body cut short.
        """
        target = parse(url, ports=self._ports, trusted=self._allow)
        async with self._turn(tenant), self._total:
            try:
                async with asyncio.timeout(self._patience.total):
                    return await self._follow(target, limit)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
                raise InputUnreachable from problem

    async def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _turn(self, tenant: str) -> AsyncIterator[None]:
        """A place among the tenant's own downloads; its queue is forgotten when nobody stands in it."""
        self._users[tenant] += 1
        queue = self._tenants.setdefault(tenant, asyncio.Semaphore(self._per_tenant))
        try:
            async with queue:
                yield
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant], self._tenants[tenant]

    async def _follow(self, target: Target, limit: int) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            found = await self._hop(target, limit)
            if isinstance(found, bytes):
                return found
            try:
                target = parse(urljoin(target.url, found), ports=self._ports, trusted=self._allow)
            except InputFault as problem:
                raise InputForbidden from problem
        raise InputUnreachable

    async def _hop(self, target: Target, limit: int) -> bytes | str:
        """One request: the body, or the location of a redirect."""
        door = _Door(trusted=target.place in self._allow, make_socket=self._make_socket)
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            socket_factory=door.open,
            use_dns_cache=False,
            force_close=True,
            happy_eyeballs_delay=None,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._patience.connect, sock_read=self._patience.silence
            ),
        )
        try:
            async with session, session.get(URL(target.url, encoded=True), allow_redirects=False) as answer:
                if answer.status in _REDIRECTS and "Location" in answer.headers:
                    return answer.headers["Location"]
                if answer.status != 200:
                    raise InputUnreachable
                return await _body(answer, limit)
        except aiohttp.ClientConnectorError as problem:
            if door.refused:
                raise InputForbidden from problem
            raise


class _Door:
    """Makes the sockets of one hop, and none to an address that is not allowed."""

    def __init__(self, *, trusted: bool, make_socket: Callable[[int, int, int], socket.socket]) -> None:
        self._trusted = trusted
        self._make_socket = make_socket
        self.refused = False

    def open(self, info: AddressInfo) -> socket.socket:
        """A socket for aiohttp to connect to `info`; PermissionError if that is not to happen."""
        family, kind, protocol, _, place = info
        if not self._trusted and not self._passes(family, str(place[0]), place):
            self.refused = True
            raise PermissionError("this address may not be reached from here")
        return self._make_socket(family, kind, protocol)

    @staticmethod
    def _passes(family: int, host: str, place: object) -> bool:
        if family not in (socket.AF_INET, socket.AF_INET6):
            return False
        return is_public(ip_address(host)) and not _is_own(family, place)


def _is_own(family: int, place: object) -> bool:
    """Whether an address belongs to this machine: then the kernel would send from the address it sends to. Connecting
    a datagram socket only asks the routing table; nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(place)  # type: ignore[arg-type]  # the place is the tuple that getaddrinfo gave
        except OSError:
            return False
        return bool(probe.getsockname()[0] == probe.getpeername()[0])


class _Resolver(AbstractResolver):
    """Names to addresses in threads of our own; at most eight addresses a name."""

    def __init__(self, threads: ThreadPoolExecutor, look_up: Resolve) -> None:
        self._threads = threads
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host, of either family if none is asked for."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._look_up, host, port)
        results = [_result(host, port, address) for address in found[:_MAX_ADDRESSES]]
        wanted = [result for result in results if family in (socket.AF_UNSPEC, result["family"])]
        if not wanted:
            raise OSError("the name has no address")
        return wanted

    async def close(self) -> None:
        """Called by each connector that used it; the threads stay with the Getter."""


def _result(host: str, port: int, address: str) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


def _look_up(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(place[0]) for _, _, _, _, place in found]


async def _body(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    if answer.content_length is not None and answer.content_length > limit:
        raise InputTooLarge
    parts: list[bytes] = []
    length = 0
    async for part in answer.content.iter_any():
        length += len(part)
        if length > limit:
            raise InputTooLarge
        parts.append(part)
    return b"".join(parts)
