from __future__ import annotations

import asyncio
import io
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from danqing.core.errors import BadKey, InputUnreachable, Unavailable
from danqing.core.job import Closing, Lease
from danqing.core.raster import Raster, Size
from danqing.core.writing import Panel
from danqing.lease import address
from danqing.lease.client import LeaseClient, ServerAway
from danqing.lease.messages import BadMessage, Claim, End, Gone, ImagesMissing, Outcome, TokenGone
from danqing.lease.server import LeaseServer
from tests.support.clock import RealClock, VirtualClock
from tests.support.eventually import eventually
from tests.support.lease_place import HELLO, Place, lease_place, raster


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with lease_place(tmp_path) as made:
        yield made


@pytest.fixture
async def client(place: Place) -> AsyncIterator[LeaseClient]:
    made = place.client()
    yield made
    await made.close()


async def claim(client: LeaseClient, seconds: float = 5.0) -> Lease:
    [lease] = (await client.claim(Claim(HELLO, 1, seconds))).leases
    return lease


async def ask(place: Place, method: str, path: str, **more: Any) -> tuple[int, bytes]:
    connector = aiohttp.UnixConnector(str(place.socket))
    async with (
        aiohttp.ClientSession("http://lease", connector=connector) as session,
        session.request(method, path, **more) as answer,
    ):
        return answer.status, await answer.read()


async def test_the_six_verbs_over_the_socket(place: Place, client: LeaseClient) -> None:
    given = raster("given")
    await place.submit(inputs=(given,))
    lease = await claim(client)
    assert await client.input(lease.token, given.digest()) == given
    assert await client.beat("w1", ()) == Gone()
    panels = (Panel("Once.", "a fox"),)
    assert await client.script(lease.token, panels) == panels
    with pytest.raises(ImagesMissing):
        await client.end(End(lease.token, Outcome.SUCCEEDED))
    await client.image(lease.token, 0, raster("made"))
    assert await client.end(End(lease.token, Outcome.SUCCEEDED)) is Closing.DONE
    with pytest.raises(TokenGone):
        await client.image(lease.token, 0, raster("made"))
    with pytest.raises(TokenGone):
        await client.input(lease.token, given.digest())


async def test_only_its_owner_reaches_the_socket(place: Place) -> None:
    assert stat.S_IMODE(place.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.socket.parent.stat().st_mode) == 0o700


async def test_what_is_not_a_message_is_refused(place: Place, client: LeaseClient) -> None:
    assert (await ask(place, "POST", "/claim", data=b"{}"))[0] == 400
    assert (await ask(place, "POST", "/beat", data=io.BytesIO(b" " * (1024 * 1024 + 1))))[0] == 413
    assert (await ask(place, "PUT", "/image/token/x", data=b""))[0] == 400
    assert (await ask(place, "GET", "/nothing"))[0] == 404
    await place.submit()
    with pytest.raises(BadMessage):
        await client.image((await claim(client)).token, 5, raster("x"))


async def test_a_picture_of_many_megabytes_goes_through(tmp_path: Path) -> None:
    async with lease_place(tmp_path) as place:
        big = raster("big", size := Size(2048, 2048))
        client = place.client()
        await place.submit(inputs=(big,))
        lease = await claim(client)
        assert (await client.input(lease.token, big.digest())).size == size
        with pytest.raises(BadMessage, match="was ordered"):
            await client.image(lease.token, 0, big)
        await client.close()


async def test_a_worker_that_dies_while_it_polls_is_given_no_job(place: Place) -> None:
    dying, alive = place.client(), place.client()
    poll = asyncio.ensure_future(dying.claim(Claim(HELLO, 1, 20.0)))
    await eventually(place.desk.workers)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    await dying.close()
    await asyncio.sleep(0.1)
    await place.submit()
    assert (await claim(alive)).attempt == 1
    await alive.close()


async def test_an_upload_is_finished_even_if_the_worker_hangs_up(tmp_path: Path) -> None:
    """The picture is in the hands of the disk: whoever asks next must find it whole, counted or gone."""
    began = asyncio.Event()
    async with lease_place(tmp_path) as place:
        write = place.blobs.write

        async def slow(key: str, data: bytes) -> None:
            began.set()
            await asyncio.sleep(0.1)
            await write(key, data)

        client = place.client()
        await place.submit()
        lease = await claim(client)
        place.blobs.write = slow  # type: ignore[method-assign]
        upload = asyncio.ensure_future(client.image(lease.token, 0, raster("x")))
        await began.wait()
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
        await asyncio.sleep(0.3)
        assert await client.end(End(lease.token, Outcome.SUCCEEDED)) is Closing.DONE
        await client.close()


async def test_operator_commands_come_through_the_same_socket(place: Place, tmp_path: Path) -> None:
    async def revoke(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        if asked["key_id"] == "none":
            raise BadKey("no such key")
        if asked["key_id"] == "later":
            raise Unavailable("not now")
        return {"revoked": True, "asked": dict(asked)}

    socket = address.new_socket()
    server = LeaseServer(
        place.desk, operator={("DELETE", "/keys/{key_id}"): revoke, ("POST", "/keys"): revoke}
    )
    await server.start(socket)
    place.socket = socket
    assert await ask(place, "DELETE", "/keys/k1") == (200, b'{"revoked":true,"asked":{"key_id":"k1"}}')
    assert await ask(place, "DELETE", "/keys/none") == (400, b'{"error":"no such key"}')
    assert (await ask(place, "DELETE", "/keys/later"))[0] == 503
    assert (await ask(place, "POST", "/keys", data=b"[]"))[0] == 400
    assert (await ask(place, "POST", "/keys", data=b"{"))[0] == 400
    assert (await ask(place, "POST", "/keys", data=b"{}"))[0] == 400
    await server.stop()
    address.close(tmp_path, socket)


class Lossy:
    """A server whose answers are lost on the way, the first `losses` of each path."""

    def __init__(self, place: Place, losses: int) -> None:
        self.inner = LeaseServer(place.desk).application()
        self.losses = losses
        self.asked = 0
        self.inner.middlewares.append(self.lose)
        self.runner = web.AppRunner(self.inner, access_log=None, shutdown_timeout=0.1)
        self.path = address.new_socket()

    @web.middleware
    async def lose(self, request: web.Request, handler: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request)
        self.asked += 1
        if self.losses > 0:
            self.losses -= 1
            assert request.transport is not None
            request.transport.close()
        return answer

    async def __aenter__(self) -> Lossy:
        await self.runner.setup()
        await web.UnixSite(self.runner, self.path).start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.runner.cleanup()
        address.close(self.path.parent, self.path)


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


async def test_k3_a_lost_answer_of_an_end_is_asked_for_again_and_charged_once(
    place: Place, client: LeaseClient
) -> None:
    await place.submit()
    lease = await claim(client)
    await client.image(lease.token, 0, raster("x"))
    async with Lossy(place, 2) as lossy:
        other = LeaseClient(lossy.path, clock=RealClock(), pause=no_pause)
        assert await other.end(End(lease.token, Outcome.SUCCEEDED)) is Closing.DONE
        await other.close()
        assert lossy.asked == 3
    assert await place.charged() == 1
    assert len(place.files()) == 1


async def test_a_server_that_is_away_is_given_up_at_the_deadline() -> None:
    clock = VirtualClock()

    async def pause(seconds: float) -> None:
        clock.advance(seconds)

    client = LeaseClient(Path("/nowhere/lease"), clock=clock, pause=pause)
    began = clock.monotonic()
    with pytest.raises(ServerAway):
        await client.end(End("t", Outcome.RELEASED), seconds=30.0)
    assert 25.0 < clock.monotonic() - began <= 30.0
    await client.close()


async def test_a_fault_of_the_server_is_tried_again_and_then_told() -> None:
    calls = 0
    clock = VirtualClock()

    async def pause(seconds: float) -> None:
        clock.advance(seconds)

    async def refuse(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        body = b'{"fault": {"name": "InputUnreachable", "message": "gone"}}' if calls > 1 else b"oops"
        return web.Response(status=503, body=body)

    app = web.Application()
    app.router.add_put("/image/{token}/{index}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    path = address.new_socket()
    await web.UnixSite(runner, path).start()
    client = LeaseClient(path, clock=clock, pause=pause)
    with pytest.raises(ServerAway) as away:
        await client.image("t", 0, Raster(raster("x").size, 3, raster("x").data))
    assert calls > 10
    assert isinstance(away.value.fault, InputUnreachable)
    await client.close()
    await runner.cleanup()
    address.close(path.parent, path)
