"""A pool of decoder processes: untrusted files in, rasters out, and no file can hurt more than itself. Knows nothing
of how a picture is decoded.

A process that dies, hangs or answers nonsense costs its picture and is replaced; the others do not notice. Each is
replaced after a number of pictures in any case, so that nothing a picture left behind lives long.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from danqing.core.errors import Fault, InputFault, InputUndecodable, Unavailable
from danqing.core.models import InputRule
from danqing.core.raster import Raster, Size
from danqing.pixels import messages

# Isolated (-I): neither the environment nor the current folder decides what a decoder imports.
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from danqing.pixels import decoder; decoder.run(*sys.argv[2:])"
_ROOT = str(Path(__file__).resolve().parents[2])
# The only environment a decoder gets, so no secret of the server's is in it. Large blocks go back to the system when
# they are freed (glibc), which keeps an idle decoder small whatever it has seen.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}
_START_SECONDS = 30.0
_PAUSES = (0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one decoder process may use: bytes of address space (not kept on macOS), seconds of processor and of wall
    time a picture, and pictures before it is replaced."""

    memory: int = 1536 * 1024 * 1024
    cpu: int = 10
    wall: float = 15.0
    pictures: int = 500


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded file: the raster as `Raster.pack` writes it, its size, the size of the upright original, the format
    by Pillow's name. Kept packed, because that is how it is stored."""

    packed: bytes
    size: Size
    original: Size
    format: str

    @property
    def raster(self) -> Raster:
        """The pixels; copies them."""
        return Raster.unpack(self.packed)


class Decoders:
    """`count` decoder processes and the queue in front of them. `start` before use; `close` ends the processes."""

    def __init__(
        self, count: int = 2, *, bounds: Bounds = Bounds(), program: Sequence[str] | None = None
    ) -> None:
        """`program` replaces the command line of a decoder, for tests that need one that misbehaves."""
        self._count = count
        self._bounds = bounds
        self._program = tuple(program or (sys.executable, "-I", "-c", _BOOT, _ROOT))
        self._idle: asyncio.Queue[_Decoder | None] = asyncio.Queue()
        self._alive: set[_Decoder] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._exchanges: set[asyncio.Task[Decoded | Fault]] = set()
        self._closed = True

    @property
    def missing(self) -> tuple[str, ...]:
        """Limits of this list's promise that the platform does not keep, for the start-up log."""
        return ("decoder address space",) if sys.platform == "darwin" else ()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the decoders that run now."""
        return tuple(decoder.pid for decoder in self._alive if decoder.lives)

    async def start(self) -> None:
        """Start the processes; returns when all are ready. Raises Unavailable if one does not start."""
        self._closed = False
        self._idle = asyncio.Queue()
        try:
            await asyncio.gather(*(self._add() for _ in range(self._count)))
        except (OSError, EOFError, TimeoutError, ValueError) as problem:
            await self.close()
            raise Unavailable("The image decoders do not start.") from problem

    async def close(self) -> None:
        """End the processes; pictures being decoded fail."""
        self._closed = True
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await asyncio.gather(*(decoder.end() for decoder in tuple(self._alive)))
        await asyncio.gather(*self._exchanges)
        self._alive.clear()
        self._idle.put_nowait(None)  # wakes whoever waits for a decoder

    async def decode(self, data: bytes, rule: InputRule, *, alpha: bool = False) -> Decoded:
        """Decode one file of one of `rule.formats` (see `decode.decode` for what becomes of it).

        Raises InputUndecodable, also when the picture killed its decoder or took longer than the limits,
        InputOutOfBounds for a picture no model takes; `rule.sides` and `rule.ratio` are the caller's to check.
        """
        decoder = await self._take()
        # A caller that goes away does not interrupt: finishing a picture is cheaper than a new process.
        exchange = asyncio.ensure_future(self._exchange(decoder, data, rule, alpha=alpha))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        outcome = await asyncio.shield(exchange)
        if isinstance(outcome, Decoded):
            return outcome
        raise outcome

    async def _exchange(
        self, decoder: _Decoder, data: bytes, rule: InputRule, *, alpha: bool
    ) -> Decoded | Fault:
        """One picture through one decoder, which then waits for the next or is replaced."""
        sound = False
        try:
            async with asyncio.timeout(self._bounds.wall):
                outcome = await decoder.decode(data, rule, alpha=alpha)
            sound = decoder.pictures < self._bounds.pictures
        except (OSError, EOFError, TimeoutError, ValueError):
            return Unavailable() if self._closed else InputUndecodable()
        else:
            return outcome
        finally:
            if sound:
                self._idle.put_nowait(decoder)
            else:
                self._chore(self._replace(decoder))

    async def _take(self) -> _Decoder:
        """The next idle decoder; one that died while it was idle (killed from outside) is replaced unblamed."""
        while (decoder := await self._idle.get()) is not None:
            if decoder.lives:
                return decoder
            self._chore(self._replace(decoder))
        self._idle.put_nowait(None)
        raise Unavailable

    async def _add(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._program,
            str(self._bounds.memory),
            str(self._bounds.cpu),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=_ENVIRONMENT,
            limit=messages.MAX_PACKED,
        )
        decoder = _Decoder(process)
        self._alive.add(decoder)
        try:
            await decoder.ready()
        except (OSError, EOFError, TimeoutError, ValueError):
            await self._end(decoder)
            raise
        self._idle.put_nowait(decoder)

    async def _end(self, decoder: _Decoder) -> None:
        await decoder.end()
        self._alive.discard(decoder)

    async def _replace(self, decoder: _Decoder) -> None:
        await self._end(decoder)
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                await self._add()
            except (OSError, EOFError, TimeoutError, ValueError):
                await asyncio.sleep(pause)
            else:
                return

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            work.close()
            return
        chore = asyncio.get_running_loop().create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)


class _Decoder:
    """One decoder process and its two pipes."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a decoder speaks through pipes")
        self._process = process
        self._sink = process.stdin
        self._source = process.stdout
        self._ended = False
        self.pictures = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether it runs and is meant to: the system may take a while to say that a killed process is gone."""
        return not self._ended and self._process.returncode is None

    async def ready(self) -> None:
        """Wait until the process has confined itself."""
        async with asyncio.timeout(_START_SECONDS):
            if await self._source.readexactly(len(messages.READY)) != messages.READY:
                raise ValueError("not a decoder")

    async def decode(self, data: bytes, rule: InputRule, *, alpha: bool) -> Decoded | InputFault:
        """One question, one answer. Raises OSError, EOFError or ValueError where there is no sensible answer."""
        self.pictures += 1
        self._sink.write(messages.ask(len(data), rule.formats, alpha=alpha))
        self._sink.write(data)
        await self._sink.drain()
        head = await self._source.readexactly(messages.ANSWER.size)
        outcome, width, height, letters, length = messages.ANSWER.unpack(head)
        if outcome > len(messages.REFUSALS) or length > messages.MAX_PACKED:
            raise ValueError("not an answer")
        if outcome > 0:
            fault: InputFault = messages.REFUSALS[outcome - 1]()
            return fault
        name = (await self._source.readexactly(letters)).decode("ascii")
        packed = await self._source.readexactly(length)
        size, _ = Raster.peek(packed)
        return Decoded(packed, size, Size(width, height), name)

    async def end(self) -> None:
        """Kill the process, if it lives, and reap it."""
        self._ended = True
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.kill()
        await self._process.wait()
        self._sink.close()
