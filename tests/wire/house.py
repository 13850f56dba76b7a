"""The service without its engine: real routes, intake, store, blobs and decoders; a worker that paints one colour.

The worker paints the whole picture in the colour of the last input's first pixel, grey where there is none, so that a
transcript can see which input counted. It marks a picture as the server does when the order asks for it. A prompt may
say what goes wrong: `[lose 2]` that the second picture may not be shown, `[lose all]` that none may. Stories are told
in the caller's own sentences.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web
from PIL import Image as Pillow

from danqing.blobs.folder import FolderBlobs
from danqing.catalogue.loader import load
from danqing.core.blobkeys import input_key, new_nonce, result_key
from danqing.core.checking import Role
from danqing.core.errors import InputRefused, OutputRefused, Unchecked
from danqing.core.job import Image, Lease, Said
from danqing.core.raster import Raster
from danqing.core.writing import CannotWrite, Panel, Rewriter
from danqing.intake.health import Vital, WorkerVital
from danqing.intake.inputs import Inputs
from danqing.intake.intake import Intake, Terms
from danqing.intake.keys import Keys
from danqing.intake.uploads import Uploads
from danqing.outbound.get import Getter
from danqing.pixels import marks, png
from danqing.pixels.decoders import Decoders
from danqing.prompts.extend import Screened
from danqing.prompts.grammar import Grammar
from danqing.prompts.words import Words
from danqing.store.sqlite import SqliteStore
from danqing.wire.desk import Desk
from danqing.wire.http import build
from danqing.work.plan import planned
from danqing.work.rewrite import rewritten
from tests.support.pictures import save

REFUSED = Words(["forbidden fruit", "禁果"])
"""What this house does not paint."""

GREY = (128, 128, 128)
COLOURS = {
    "red": (200, 30, 40),
    "green": (30, 190, 60),
    "blue": (40, 60, 210),
    "grey": GREY,
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


class SlidingClock:
    """The machine's clocks, moved on or stopped by what a transcript asks for."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._stopped: tuple[float, float] | None = None

    def stop(self) -> None:
        """From now on only `ahead` moves it."""
        self._stopped = time.monotonic(), time.time()

    def monotonic(self) -> float:
        return (self._stopped[0] if self._stopped else time.monotonic()) + self.ahead

    def wall(self) -> float:
        return (self._stopped[1] if self._stopped else time.time()) + self.ahead


@dataclass
class House:
    """A running service and what a transcript may do to it."""

    client: httpx.AsyncClient
    clock: SlidingClock
    store: SqliteStore
    blobs: FolderBlobs
    intake: Intake
    keys: Keys
    desk: Desk
    key: str
    place: str
    """`host:port` of the picture host."""
    worker: asyncio.Task[None] | None = None
    arrivals: asyncio.Future[None] = field(init=False)
    vital: Vital = field(
        default_factory=lambda: Vital(profile="test", workers=(WorkerVital("worker-1", True),))
    )
    links: list[str] = field(default_factory=list)
    seen: list[Lease] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    """Ids of the tasks submitted so far."""
    others: dict[str, str] = field(default_factory=dict)
    """Keys by the mark that stands for them."""
    permit: dict[str, Any] = field(default_factory=dict)
    """The last permit to upload."""
    token: str = ""
    """The last temporary key."""
    checker: str = "passes"
    """Who looks at input pictures: the colour that is refused, `away`, or `passes`."""

    rewriter: Rewriter | None = None
    """Who rewrites prompts: nobody, until a transcript asks for one."""

    async def look(self, raster: Raster, role: Role, prompt: str) -> None:
        """An `Inspect` by the colour of the first pixel."""
        assert role is Role.INPUT
        if self.checker == "away":
            raise Unchecked
        refused = COLOURS.get(self.checker)
        if refused and all(abs(a - b) < 9 for a, b in zip(raster.data[:3], refused, strict=True)):
            raise InputRefused

    async def deed(self, line: str) -> None:
        """Do what a `%` line says."""
        name, *words = line.split()
        await DEEDS[name](self, *words)

    def note(self, answer: httpx.Response) -> None:
        """Remember what later requests may name."""
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return
        told = answer.json()
        if isinstance(told, dict):
            self.permit = told.get("data", self.permit) if "upload_dir" in answer.text else self.permit
            self.token = told.get("token", self.token)

    def fill(self, text: str) -> str:
        """The text with a request's marks made real."""
        return re.sub(r"<([a-z]+)((?: [^<>]+)?)>", self._mark, text)

    def _mark(self, match: re.Match[str]) -> str:
        make = MARKS.get(match[1])
        return match[0] if make is None else make(self, *match[2].split())


async def _advance(house: House, seconds: str) -> None:
    house.clock.ahead += float(seconds)


async def _patience(house: House, seconds: str) -> None:
    house.intake._terms = replace(house.intake._terms, sync_seconds=float(seconds))


async def _worker(house: House, what: str) -> None:
    if house.worker is not None:
        house.worker.cancel()
        with suppress(asyncio.CancelledError):
            await house.worker
    house.worker = asyncio.create_task(_work(house)) if what == "works" else None


async def _quota(house: House, pictures: str) -> None:
    await house.store.set_quota("acme", int(pictures))


async def _unready(house: House) -> None:
    house.vital = Vital("test", (WorkerVital("worker-1", False, "loading"),), ("an old SQLite",))


async def _rates(house: House, what: str) -> None:
    house.intake._terms = replace(house.intake._terms, rates=what == "on")


async def _revoke(house: House) -> None:
    await house.keys.revoke(house.key[3:11])


async def _lose(house: House) -> None:
    path = httpx.URL(house.links[0]).path.removeprefix("/results/")
    await house.blobs.remove([path])


async def _stop(house: House) -> None:
    house.intake._terms = replace(house.intake._terms, stop_seconds=0.05)
    asyncio.get_running_loop().call_later(0.2, house.intake.close)


async def _burst(house: House, queries: str) -> None:
    """So many queries of the first task in the same moment."""
    house.clock.stop()
    for _ in range(int(queries)):
        headers = {"Authorization": f"Bearer {house.key}"}
        await house.client.get(f"/api/v1/tasks/{house.tasks[0]}", headers=headers)


async def _settle(house: House) -> None:
    """Until everything that was asked for has ended."""
    for _ in range(1000):
        figures = await house.store.figures()
        if not figures["queue_length"] + figures["running"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("jobs do not end")


async def _begin(house: House) -> None:
    """A worker takes the next job and does nothing about it."""
    assert (await house.store.news("worker-9", room=1, seconds=10.0)).leases


async def _checker(house: House, what: str) -> None:
    house.checker = what


class Saying:
    """A rewriter with one text for everything; without a text it is away."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def extend(self, prompt: str, inputs: Sequence[Raster], *, think: bool = False) -> str:
        if not self._text:
            raise CannotWrite("away")
        return f"{self._text} thoughtfully" if think else self._text

    async def series(self, prompt: str, inputs: Sequence[Raster], count: int) -> tuple[str, ...]:
        return (await self.extend(prompt, inputs),) * count

    async def story(self, prompt: str, inputs: Sequence[Raster], most: int) -> tuple[Panel, ...]:
        return (Panel("", await self.extend(prompt, inputs)),)


async def _rewriter(house: House, what: str, *text: str) -> None:
    """`grammar` for the miniature's own, `says <text>`, or `away`."""
    rewriter = Grammar() if what == "grammar" else Saying(" ".join(text))
    house.rewriter = Screened(rewriter, REFUSED.refuse)


async def _reach(house: House, *pixels: str) -> None:
    """What the one worker tells that it could ever make: pixels that fit and that never will, from no input picture,
    from one, and so on; nothing at all when nobody is there."""
    told = list(map(int, pixels))
    spans = tuple(zip(told[::2], told[1::2], strict=True))
    house.intake.reaches = lambda: [{"*": spans}] if spans else []


async def _sweep(house: House) -> None:
    await house.store.sweep()


async def _make_key(house: House, name: str, tenant: str, region: str, workspace: str = "") -> None:
    made = await house.keys.create(name, tenant=tenant, region=region, workspace=workspace)
    house.others[name] = made.secret


DEEDS: dict[str, Callable[..., Any]] = {
    "advance": _advance,
    "begin": _begin,
    "burst": _burst,
    "checker": _checker,
    "makekey": _make_key,
    "lose": _lose,
    "patience": _patience,
    "quota": _quota,
    "rates": _rates,
    "reach": _reach,
    "revoke": _revoke,
    "rewriter": _rewriter,
    "settle": _settle,
    "sweep": _sweep,
    "stop": _stop,
    "unready": _unready,
    "worker": _worker,
}


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def flat(size: str, colour: str = "grey") -> Pillow.Image:
    """A picture of one colour, of `<width>x<height>`."""
    width, height = map(int, size.split("x"))
    return Pillow.new("RGB", (width, height), COLOURS[colour])


def _gif(*colours: str) -> str:
    frames = [flat("64x64", colour) for colour in colours]
    return _uri(save(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100), "gif")


def form(permit: dict[str, Any], name: str, data: bytes, *, boundary: str = "edge", **other: str) -> bytes:
    """An upload as the official SDK writes it; `other` changes fields, an empty one is left out."""
    fields = {
        "OSSAccessKeyId": permit["oss_access_key_id"],
        "Signature": permit["signature"],
        "policy": permit["policy"],
        "key": f"{permit['upload_dir']}/{name}",
        "x-oss-object-acl": permit["x_oss_object_acl"],
        "x-oss-forbid-overwrite": permit["x_oss_forbid_overwrite"],
        "success_action_status": "200",
        "x-oss-content-type": "image/png",
    }
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in {**fields, **other}.items()
        if value
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return b"".join([*parts, head.encode(), data, f"\r\n--{boundary}--\r\n".encode()])


def _form(house: House, size: str, colour: str, name: str) -> str:
    """An upload's body, whose bytes survive in text."""
    return form(house.permit, name, save(flat(size, colour), "PNG")).decode("utf-8", "surrogateescape")


def _okhttp(house: House, size: str, colour: str, name: str) -> str:
    """The same as OkHttp writes it: every part with its length, the file with its type."""
    parts = form(house.permit, name, save(flat(size, colour), "PNG"), boundary="edge").split(b"--edge")
    for at, part in enumerate(parts[1:-1], 1):
        head, body = part.removesuffix(b"\r\n").split(b"\r\n\r\n", 1)
        kind = b"\r\nContent-Type: image/png" if b"filename=" in head else b""
        length = f"\r\nContent-Length: {len(body)}".encode()
        parts[at] = head + kind + length + b"\r\n\r\n" + body + b"\r\n"
    return b"--edge".join(parts).decode("utf-8", "surrogateescape")


MARKS: dict[str, Callable[..., str]] = {
    "forged": lambda house, n="1": house.links[int(n) - 1].replace("Signature=", "Signature=x"),
    "gif": lambda house, *colours: _gif(*colours),
    "host": lambda house: f"http://{house.place}",
    "key": lambda house: house.key,
    "link": lambda house, n="1": house.links[int(n) - 1],
    "otherkey": lambda house: OTHER_KEY,
    "other": lambda house, name: house.others[name],
    "token": lambda house: house.token,
    "form": lambda house, size, colour, *name: _form(house, size, colour, " ".join(name)),
    "okhttp": lambda house, size, colour, *name: _okhttp(house, size, colour, " ".join(name)),
    "uploaded": lambda house, *name: f"oss://{house.permit['upload_dir']}/{' '.join(name)}",
    "foreignkey": lambda house: house.others["foreign"],
    "secondkey": lambda house: house.others["second"],
    "task": lambda house, n="1": house.tasks[int(n) - 1],
    "china": lambda house, hours="0": china(house.clock.wall() + 3600 * float(hours)),
    "png": lambda house, size, colour="grey": _uri(save(flat(size, colour), "PNG"), "png"),
    "characters": lambda house, count: "雪" * int(count),
    "uri": lambda house, count: "data:image/png;base64,".ljust(int(count), "A"),
    "text": lambda house, count: "<" * int(count),
}
OTHER_KEY = "sk-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcd000000"


def china(wall: float) -> str:
    """A moment as a list's query spells it."""
    return datetime.fromtimestamp(wall + 8 * 3600, UTC).strftime("%Y%m%d%H%M%S")


@asynccontextmanager
async def opened(folder: Path, *, decoders: int = 1) -> AsyncIterator[House]:
    """A service over a folder, with a key of the tenant "acme", for the length of a test."""
    async with AsyncExitStack() as stack:
        clock = SlidingClock()
        store = await stack.enter_async_context(SqliteStore(folder / "danqing.sqlite3", clock))
        blobs = FolderBlobs(folder / "blobs", folder / "secrets")
        pool = Decoders(decoders)
        await pool.start()
        stack.push_async_callback(pool.close)
        place = await stack.enter_async_context(_picture_host())
        getter = Getter(allow={place})
        stack.push_async_callback(getter.close)
        keys = Keys(store, pepper=bytes(32), clock=clock)
        models = load()
        uploads = Uploads(store, blobs, clock)
        inputs = Inputs(
            *(pool, getter, blobs, clock, uploads),
            inspect=lambda *looked: house.look(*looked),  # noqa: PLW0108 (there is no house yet)
        )
        rooms = {"store": store, "inputs": inputs, "keys": keys, "models": models, "clock": clock}
        intake = Intake(**rooms, terms=Terms(30.0), refuses=REFUSED.refuse)
        desk = Desk(intake, blobs, store, clock, vital=lambda: house.vital, uploads=uploads)
        transport = httpx.ASGITransport(build(desk), raise_app_exceptions=False)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=60)
        )
        key = (await keys.create("test", tenant="acme")).secret
        house = House(client, clock, store, blobs, intake, keys, desk, key, place)
        for name, tenant in (("second", "acme"), ("foreign", "other")):
            house.others[name] = (await keys.create(name, tenant=tenant)).secret
        house.arrivals = asyncio.ensure_future(intake.arrivals.run())
        stack.push_async_callback(_ended, house)
        await _worker(house, "works")
        stack.push_async_callback(_worker, house, "stops")
        yield house


async def _ended(house: House) -> None:
    house.arrivals.cancel()
    await asyncio.gather(house.arrivals, return_exceptions=True)


@asynccontextmanager
async def _picture_host() -> AsyncIterator[str]:
    """A host with a photo, pictures of one colour (`/400x600/red.webp`), one page, and nothing else."""
    app = web.Application()

    async def picture(_: web.Request) -> web.Response:
        return web.Response(body=save(flat("640x480", "blue"), "JPEG", quality=95), content_type="image/jpeg")

    async def coloured(request: web.Request) -> web.Response:
        size, colour, kind = (request.match_info[name] for name in ("size", "colour", "kind"))
        return web.Response(body=save(flat(size, colour), kind.upper()), content_type=f"image/{kind}")

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>no picture</html>", content_type="text/html")

    app.router.add_get("/a.jpg", picture)
    app.router.add_get("/page", page)
    app.router.add_get("/{size}/{colour}.{kind}", coloured)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


async def _work(house: House) -> None:
    """Claims and paints for as long as the test runs."""
    while True:
        news = await house.store.news("worker-1", room=4, seconds=5.0)
        for lease in news.leases:
            house.seen.append(lease)
            await _paint(house, lease)


async def _paint(house: House, lease: Lease) -> None:
    brief = lease.brief
    colour = await _colour(house, lease)
    raster = Raster(brief.size, 3, bytes(colour) * brief.size.area)
    if brief.watermark:
        raster = marks.mark(raster, load()[brief.model].labels["watermark"])
    data = await asyncio.to_thread(png.encode, raster)
    day = datetime.fromtimestamp(house.clock.wall(), UTC).strftime("%Y%m%d")
    told = re.match(r"\[lose (\d|all)\]", brief.prompt)
    if told is not None and told[1] == "all":
        await house.store.fail(lease.token, OutputRefused())
        return
    lost = {int(told[1]) - 1: OutputRefused()} if told is not None else {}
    panels = await planned(brief, (), None)
    if panels is not None:
        house.desk.board.tell(lease.job_id, panels)
    images = []
    for index in range(brief.count if panels is None else len(panels)):
        if index in lost:
            continue
        key = result_key(lease.job_id, index, day, new_nonce())
        await house.blobs.write(key, data)
        images.append(Image(key, brief.size, hashlib.sha256(data).hexdigest()))
        house.desk.board.show(lease.job_id, index, images[-1])
        await asyncio.sleep(0)
    texts = tuple((place, panel.text) for place, panel in enumerate(panels or ()) if panel.text)
    prompt = await rewritten(brief, (raster,) * len(brief.inputs), house.rewriter)
    await house.store.succeed(lease.token, images, lost, Said(prompt, texts))


async def _colour(house: House, lease: Lease) -> tuple[int, ...]:
    if not lease.brief.inputs:
        return GREY
    packed = await house.blobs.read(input_key(lease.tenant, lease.brief.inputs[-1]))
    assert packed is not None
    return tuple(Raster.unpack(packed).data[:3])


def looks_like(data: bytes, wanted: str) -> list[str]:
    """How a picture differs from `<png 64x64 red marked>`; colours may be off by what JPEG and GIF lose."""
    size, *words = wanted.removeprefix("<png ").removesuffix(">").split()
    image = Pillow.open(io.BytesIO(data))
    image.load()
    problems = [] if image.format == "PNG" else [f"a {image.format}, not a PNG"]
    if f"{image.width}x{image.height}" != size:
        problems.append(f"{image.width}x{image.height}, not {size}")
    corner = image.convert("RGB").crop((image.width // 2, image.height // 2, image.width, image.height))
    marked = any(high - low > 16 for low, high in corner.getextrema())
    if marked != ("marked" in words):
        problems.append("marked" if marked else "not marked")
    pixel = image.convert("RGB").getpixel((0, 0))
    problems += [
        f"{pixel}, not {colour}"
        for colour in words
        if colour in COLOURS and max(abs(a - b) for a, b in zip(pixel, COLOURS[colour], strict=True)) > 8
    ]
    return problems
