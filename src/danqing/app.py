"""The wiring: which concrete part stands behind each port, in which order things start and stop. Decides nothing.

A server process starts from the inside out (store, bytes, decoders, lease socket, worker, HTTP) and stops from the
outside in, so that whatever accepts work has everything it needs behind it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from danqing import logs
from danqing.app_worker import StartRefused, SystemClock, judging, refuse_unready, refuses, wanted, wish
from danqing.blobs import secret_keys
from danqing.blobs.folder import FolderBlobs
from danqing.catalogue.loader import CatalogueError, counted
from danqing.catalogue.loader import load as load_catalogue
from danqing.core.checking import Inspect, Tally, pass_all
from danqing.core.errors import Fault
from danqing.core.keys import ApiKey, IssuedKey
from danqing.core.models import Model
from danqing.core.order import Brief
from danqing.core.raster import Raster
from danqing.intake.health import Vital, WorkerVital
from danqing.intake.inputs import Inputs
from danqing.intake.intake import Intake, Terms
from danqing.intake.keys import PEPPER_BYTES, Keys
from danqing.intake.uploads import MIB, Uploads, UploadTerms
from danqing.lease import address
from danqing.lease.desk import Desk as LeaseDesk
from danqing.lease.pricebook import PriceBook
from danqing.lease.server import LeaseServer, Verb
from danqing.outbound.get import Getter
from danqing.pixels.decoders import Decoders
from danqing.pixels.labels import generated
from danqing.pixels.marks import mark
from danqing.pixels.png import encode
from danqing.profiles.loader import BUNDLED, BadProfile, Profile, load_profile
from danqing.profiles.weights import NotPulled, Weights, sources
from danqing.prompts.check import BadChecker, open_checks
from danqing.schedule.cost import Saturation
from danqing.schedule.policy import POLICIES, InOrder
from danqing.settings import SERVER_NOTE, BadSettings, Engine, Labels, Settings, visible_gpus
from danqing.settings import load as load_settings
from danqing.store.life import Rules
from danqing.store.lock import OPERATOR, STARTING, FolderHeld
from danqing.store.migrations import Unusable
from danqing.store.sqlite import SqliteStore
from danqing.wire.desk import Desk
from danqing.wire.http import build
from danqing.work.gpus import listed_gpus
from danqing.work.supervise import Phase, Supervisor

SWEEP_SECONDS = 30.0
STALE_SECONDS = 26 * 3600.0
STALE_EVERY = 3600.0
HEAD_SECONDS = 10
WATERMARK = "Qwen-Image"
UNUSABLE = (FolderHeld, Unusable, OSError)
"""What keeps a data folder from being used."""

_log = structlog.get_logger(room="app")


# -- what the command line asks without a server


def offers(settings: Settings) -> list[dict[str, Any]]:
    """Every API model and what stands behind it on this installation. Raises StartRefused."""
    models, profile = _data(settings)
    rows = []
    for model in models.values():
        checkpoint = profile.checkpoint(model.name)
        edits = profile.checkpoint(model.name, editing=True)
        behind = [one for one in (checkpoint, edits) if one is not None]
        names = list(dict.fromkeys(one.name for one in behind))
        rows.append(
            {
                "model": model.name,
                "images": "–".join(map(str, model.images)),
                "count": "–".join(map(str, model.count)),
                "checkpoint": " + ".join(names) if names else "not served",
                "relation": str(profile.relation(model.name) or ""),
                "licence": checkpoint.licence if checkpoint else "",
            }
        )
    return rows


def held(settings: Settings) -> list[dict[str, str]]:
    """Where the weights of the profile's checkpoints are. Raises StartRefused."""
    _, profile = _data(settings)
    weights = Weights(settings.weights)
    rows = []
    for one in sources(profile):
        pulled = None if one.folder is not None else weights.pulled(one.source)
        said = "in the package" if one.source.startswith(BUNDLED) else "a folder"
        if one.folder is None:
            try:
                weights.find(one)
                said = f"pulled, {(pulled.size if pulled else 0) / 1e9:.1f} GB"
            except NotPulled as fault:
                said = f"not pulled: {fault}"
        revision = "" if pulled is None else pulled.revision
        rows.append({"checkpoint": one.name, "source": one.source, "weights": said, "revision": revision})
    return rows


def port_taken(host: str, port: int) -> bool:
    """Whether somebody listens there already, or the address is not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


class StillStarting(StartRefused):
    """A server that is not up yet holds the folder."""


class FolderOperator:
    """Key commands on a data folder that no server holds."""

    def __init__(self, keys: Keys, loop: asyncio.Runner) -> None:
        """Made by `folder_operator`."""
        self._keys, self._loop = keys, loop

    def create_key(
        self, name: str, *, tenant: str, region: str | None = None, workspace: str = "", priority: int = 0
    ) -> IssuedKey:
        """A new key for the tenant. Raises ValueError for a region or workspace that is no name and a priority beyond
        the bounds."""
        made = self._loop.run(
            self._keys.create(name, tenant=tenant, region=region, workspace=workspace, priority=priority)
        )
        return IssuedKey(made.record.key_id, made.secret)

    def list_keys(self) -> list[dict[str, Any]]:
        """All keys, oldest first, without secrets."""
        return [_shown(key) for key in self._loop.run(self._keys.list())]

    def revoke_key(self, key_id: str) -> bool:
        """Revoke; False if there is no such key."""
        return self._loop.run(self._keys.revoke(key_id))


@contextmanager
def folder_operator(data: Path) -> Iterator[FolderOperator]:
    """Hold the folder for one operator command. Raises StartRefused if a server holds it, or if its settings are
    bad; StillStarting if that server can soon be asked itself."""
    try:
        region = load_settings(data=data).server.region
    except BadSettings as fault:
        raise StartRefused(str(fault)) from fault
    with asyncio.Runner() as loop:
        store = SqliteStore(data / "danqing.sqlite3", SystemClock())
        try:
            loop.run(store.open(OPERATOR))
        except UNUSABLE as fault:
            if isinstance(fault, FolderHeld) and fault.about == STARTING:
                raise StillStarting(str(fault)) from fault
            raise StartRefused(str(fault)) from fault
        try:
            keys = Keys(store, pepper=pepper(data), clock=SystemClock(), region=region)
            yield FolderOperator(keys, loop)
        finally:
            loop.run(store.close())


# -- the server


async def run(settings: Settings, *, ready: Callable[[str], None], tied: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, or, if `tied`, until standard input closes: then whoever started the server is
    gone. `ready` gets one line when pictures can be made. Raises StartRefused."""
    logs.configure(settings.log.level, form=settings.log.format, prompts=settings.log.prompts)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if tied:
        loop.add_reader(sys.stdin.fileno(), stopping.set)
    async with AsyncExitStack() as stack:
        await _serve(settings, stack, stopping, ready)


async def _inspects(settings: Settings, profile: Profile, tally: Tally, stack: AsyncExitStack) -> Inspect:
    """Who looks at input pictures here; the judge does in the worker."""
    judging(settings, profile)
    try:
        checks = open_checks(wanted(settings.checks))
    except BadChecker as fault:
        raise StartRefused(str(fault)) from fault
    stack.push_async_callback(checks.close)
    return tally.counting(checks.inspect) if checks and settings.checks.inputs else pass_all


def _data(settings: Settings) -> tuple[Mapping[str, Model], Profile]:
    """Catalogue and profile, the two things that are data."""
    try:
        models = counted(load_catalogue(), settings.limits.counts)
        return models, load_profile(settings.engine.profile).with_presets(settings.engine.presets)
    except (CatalogueError, BadProfile) as fault:
        raise StartRefused(str(fault)) from fault


async def _serve(
    settings: Settings, stack: AsyncExitStack, stopping: asyncio.Event, ready: Callable[[str], None]
) -> None:
    models, profile = _data(settings)
    wish(settings)
    refuse_unready(settings, profile)
    clock = SystemClock()
    store = await _open_store(settings, stack, clock)
    _refuse_taken(settings.server.host, settings.server.port)  # before a worker loads gigabytes for nothing
    blobs = FolderBlobs(settings.data / "blobs", settings.data / "secrets")
    keys = Keys(store, pepper=pepper(settings.data), clock=clock, region=settings.server.region)
    tally = Tally()
    finish = finisher(models, settings.labels)
    order = InOrder(POLICIES[settings.engine.policy], Saturation(half=0))
    lease_desk = LeaseDesk(store, blobs, finish=finish, clock=clock, tally=tally, policy=order)
    book = _price_book(settings.data / "calibration" / f"prices-{profile.name}.json", lease_desk, stack)
    where = await _open_lease(settings, stack, LeaseServer(lease_desk, operator=operator_verbs(keys)))
    commands = worker_commands(settings, where, await asyncio.to_thread(gpus, settings.engine))
    supervisor = Supervisor(commands, lease_desk, clock=clock)
    supervisor.start()
    stack.push_async_callback(supervisor.stop)
    uploads = Uploads(store, blobs, clock, _upload_terms(settings))
    inspect = await _inspects(settings, profile, tally, stack)
    decoders, getter = await _readers(settings, stack)
    intake = Intake(
        store=store,
        inputs=Inputs(decoders, getter, blobs, clock, uploads, inspect=inspect),
        keys=keys,
        models=models,
        clock=clock,
        terms=_terms(settings),
        serves=lambda name: profile.preset(name) is not None,
        refuses=tally.counting_texts(refuses(settings)),
    )
    intake.prices, intake.reaches = lease_desk.prices, lease_desk.reaches
    desk = Desk(
        intake=intake,
        blobs=blobs,
        store=store,
        clock=clock,
        vital=prober(supervisor, profile, store),
        uploads=uploads,
        board=lease_desk.board,
        outlook=lease_desk.outlook,
        tally=tally,
        public_url=settings.server.public_url,
        link_seconds=settings.server.link_seconds,
        body_seconds=settings.limits.body_seconds,
    )
    upkeep = _upkeep(intake, _sweep_for_ever(store, blobs), _tidy_for_ever(lease_desk, book))
    await stack.enter_async_context(upkeep)
    url = await _listen(settings, stack, desk)
    store.tell(url)
    stack.callback(_announce(settings.data, url))
    if await _until_ready(supervisor, stopping):
        ready(f"Danqing is ready at {url}  (profile {profile.name}; data in {settings.data})")
    await stopping.wait()
    _log.info("stopping")
    intake.close()
    await _drained(desk, settings.server.stop_seconds + 1.0)


async def _readers(settings: Settings, stack: AsyncExitStack) -> tuple[Decoders, Getter]:
    """Who decodes input pictures, and who fetches them."""
    decoders = Decoders(settings.inputs.decoders)
    await decoders.start()
    stack.push_async_callback(decoders.close)
    getter = Getter(allow=frozenset(settings.inputs.allow))
    stack.push_async_callback(getter.close)
    return decoders, getter


def _price_book(file: Path, desk: LeaseDesk, stack: AsyncExitStack) -> PriceBook:
    """What jobs cost as an earlier run learned it, and where it is kept for the next."""
    book = PriceBook(file, desk.prices)
    book.recall()
    stack.callback(book.keep)
    return book


async def _open_store(settings: Settings, stack: AsyncExitStack, clock: SystemClock) -> SqliteStore:
    rules = Rules(queue_limit=settings.limits.queue, tenant_limit=settings.limits.tenant_queue)
    store = SqliteStore(settings.data / "danqing.sqlite3", clock, rules=rules)
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        await store.open(STARTING)
    except UNUSABLE as fault:
        raise StartRefused(str(fault)) from fault
    stack.push_async_callback(store.close)
    if store.warning:
        _log.warning(store.warning)
    return store


async def _open_lease(settings: Settings, stack: AsyncExitStack, server: LeaseServer) -> Path:
    try:
        where = address.new_socket()
    except address.NoShortPlace as fault:
        raise StartRefused(str(fault)) from fault
    await server.start(where)
    stack.callback(address.close, settings.data, where)
    stack.push_async_callback(server.stop)
    address.record(settings.data, where)
    return where


def _refuse_taken(host: str, port: int) -> None:
    if port and port_taken(host, port):
        raise StartRefused(
            f"{host}:{port} is taken, or not an address of this machine; choose another with --port"
        )


async def _listen(settings: Settings, stack: AsyncExitStack, desk: Desk) -> str:
    """HTTP, with a deadline for heads; answers the URL of this server for clients on this machine."""
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.server.embed import Server

    host, port = settings.server.host, settings.server.port or free_port(settings.server.host)
    _refuse_taken(host, port)
    server = Server(
        build(desk),
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_SECONDS * 1000, max_buffer_size=64 * 1024),
        websockets=False,
        log_enabled=False,
    )
    serving = asyncio.ensure_future(server.serve())

    async def hang_up() -> None:
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait({serving}, timeout=HEAD_SECONDS)

    stack.push_async_callback(hang_up)
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 (asked for by the operator)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def free_port(host: str) -> int:
    """A port that nobody listens on right now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _announce(data: Path, url: str) -> Callable[[], None]:
    """Leave word in the data folder of where the server is; answers what takes it back."""
    note = data / SERVER_NOTE
    draft = note.with_suffix(".draft")
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
    draft.replace(note)
    return lambda: note.unlink(missing_ok=True)


async def _until_ready(supervisor: Supervisor, stopping: asyncio.Event) -> bool:
    """Wait for a worker; False if the server is told to stop first."""
    while not stopping.is_set():
        if any(standing.phase is Phase.READY for standing in supervisor.standing()):
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await stopping.wait()
    return False


async def _drained(desk: Desk, seconds: float) -> None:
    """Wait until the calls in progress have their answers, at most so long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while desk.crowd.size and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 (a count, no event)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def _upkeep(intake: Intake, *chores: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """The chores and the way of accepted jobs to the queue, for as long as the server runs."""
    tasks = [asyncio.ensure_future(work) for work in (*chores, intake.arrivals.run())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sweep_for_ever(store: SqliteStore, blobs: FolderBlobs) -> None:
    strays_at = 0.0
    while True:
        try:
            # A submit may have named one of them again while the sweep was on its way.
            await blobs.remove(await store.unnamed(list(await store.sweep())))
            if time.monotonic() >= strays_at:
                strays_at = time.monotonic() + STALE_EVERY
                await blobs.remove(await store.unnamed(await blobs.stale(STALE_SECONDS)))
        except (Fault, OSError) as fault:
            _log.warning("sweep failed", error=str(fault))
        await asyncio.sleep(SWEEP_SECONDS)


async def _tidy_for_ever(desk: LeaseDesk, book: PriceBook) -> None:
    """What the desk remembers is bounded, and what it learned is kept."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        with suppress(Fault):  # the store is away: the next time does
            await desk.forget_away()
        book.keep()


# -- parts


def pepper(data: Path) -> bytes:
    """The secret under which keys are hashed: made once, readable by the owner alone."""
    path = data / "secrets" / "pepper"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret_keys.create(path, secrets.token_bytes(PEPPER_BYTES))
    return path.read_bytes()


def finisher(models: Mapping[str, Model], labels: Labels) -> Callable[[Raster, Brief, str], bytes]:
    """What is done to a picture before it is stored: the visible mark if asked for, then PNG with the label."""

    def finish(raster: Raster, brief: Brief, number: str) -> bytes:
        if brief.watermark:
            model = models.get(brief.model)
            raster = mark(raster, model.labels.get("watermark", WATERMARK) if model else WATERMARK)
        return encode(raster, text=generated(labels.producer, number) if labels.aigc_metadata else None)

    return finish


def gpus(engine: Engine) -> tuple[str, ...]:
    """The GPUs that get a worker each."""
    if engine.device not in ("auto", "cuda"):
        return ()
    return listed_gpus(visible_gpus())[: engine.gpus or None]


def worker_commands(
    settings: Settings, where: Path, found: Sequence[str] = ()
) -> dict[str, Callable[[str], list[str]]]:
    """The command lines of the built-in workers, by device: one for each GPU, which sees no other, or one in all."""
    engine = settings.engine
    fixed = [
        sys.executable,
        "-m",
        "danqing.cli",
        "worker",
        "--socket",
        str(where),
        "--data",
        str(settings.data),
    ]
    chosen = ["--profile", engine.profile, "--device", engine.device, "--threads", str(engine.threads)]
    words = [*fixed, *chosen, "--log", settings.log.level, "--log-format", settings.log.format]

    def command(gpu: str | None) -> Callable[[str], list[str]]:
        before = [] if gpu is None else ["env", f"CUDA_VISIBLE_DEVICES={gpu}"]
        return lambda name: [*before, *words, "--name", name]

    if len(found) < 2 and not engine.gpus:
        return {"main": command(None)}
    return {f"gpu{place}": command(gpu) for place, gpu in enumerate(found)} or {"main": command(None)}


def operator_verbs(keys: Keys) -> dict[tuple[str, str], Verb]:
    """Operator commands by method and path, for the lease socket."""

    async def create(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        region = asked.get("region")
        made = await keys.create(
            str(asked["name"]),
            tenant=str(asked["tenant"]),
            region=None if region is None else str(region),
            workspace=str(asked.get("workspace", "")),
            priority=asked.get("priority", 0),
        )
        return {"key_id": made.record.key_id, "key": made.secret}

    async def listed(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [_shown(key) for key in await keys.list()]}

    async def revoke(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"revoked": await keys.revoke(str(asked["key_id"]))}

    return {("POST", "/keys"): create, ("GET", "/keys"): listed, ("DELETE", "/keys/{key_id}"): revoke}


def prober(supervisor: Supervisor, profile: Profile, store: SqliteStore) -> Callable[[], Vital]:
    """What `/health` asks."""
    warnings = (store.warning,) if store.warning else ()

    def vital() -> Vital:
        workers = tuple(
            WorkerVital(s.device, s.phase is Phase.READY, f"{s.phase}{f' ({s.reason})' if s.reason else ''}")
            for s in supervisor.standing()
        )
        return Vital(profile.name, workers, warnings)

    return vital


def _terms(settings: Settings) -> Terms:
    limits = settings.limits
    return Terms(
        sync_seconds=limits.sync_seconds,
        stop_seconds=settings.server.stop_seconds,
        queue_seconds=limits.queue_seconds,
        run_seconds=limits.run_seconds,
        rates=limits.rates,
        polls=limits.polls,
    )


def _upload_terms(settings: Settings) -> UploadTerms:
    return UploadTerms(most=settings.uploads.file_mb * MIB, capacity=settings.uploads.account_mb * MIB)


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "tenant": key.tenant,
        "region": key.region,
        "workspace": key.workspace,
        "priority": key.priority,
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
    }
