"""The decoder process: reads files from its standard input, writes rasters to its standard output, and can do nothing
else. Knows no job and no tenant.

Before it reads the first byte it gives up what decoding does not need: new file descriptors (so no file, no socket,
no library can be opened any more), memory, writing to files, core dumps. Each picture gets its own allowance of
processor time; the kernel ends a process that exceeds it, and the server starts another.
"""

from __future__ import annotations

import fcntl
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import BinaryIO

from danqing.core.errors import InputFault
from danqing.pixels import decode, messages

_PIPE_BYTES = 1 << 20
_AGAIN_SECONDS = 0.05


def run(memory: str, cpu: str) -> None:
    """Serve until the input ends. `memory` is bytes of address space, `cpu` seconds of processor time a picture; both
    come from the command line."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal's Ctrl-C reaches the server, which ends us in order
    signal.signal(signal.SIGPROF, _ring)
    decode.prepare()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    widen()
    confine(int(memory))
    sink.write(messages.READY)
    sink.flush()
    while serve_one(source, sink, int(cpu)):
        pass


def widen() -> None:
    """Make both pipes hold a whole small picture, so that neither side waits for the other every 64 KiB (Linux)."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        for end in (0, 1):
            with suppress(OSError):
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def confine(memory: int) -> None:
    """Give up, for the rest of this process, everything that decoding does not need. macOS keeps no limit on address
    space; there the server's own check of the picture's size is what bounds memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    if sys.platform != "darwin":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def serve_one(source: BinaryIO, sink: BinaryIO, cpu: int) -> bool:
    """Decode one file; False when the input has ended."""
    head = source.read(messages.REQUEST.size)
    if len(head) < messages.REQUEST.size:
        return False
    names, alpha, size = messages.REQUEST.unpack(head)
    formats = frozenset(source.read(names).decode("ascii").split(","))
    data = source.read(size)
    if len(data) < size:
        return False
    allow(cpu)
    try:
        picture = decode.decode(data, formats, alpha=bool(alpha), within=within)
    except InputFault as fault:
        sink.write(messages.refuse(type(fault)))
    else:
        packed = picture.raster.pack()
        sink.write(messages.answer(packed, picture.original, picture.format))
        sink.write(packed)
    sink.flush()
    return True


def allow(seconds: int) -> None:
    """Let this process use `seconds` more of processor time than it has used, and no more."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, hard))


class TookTooLong(Exception):
    """A stage of decoding used up its processor time."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TookTooLong in what happens inside it after `seconds` of processor time, and again and again, in case a
    library catches it. Works where Python runs now and then; the kernel's limit is for what never comes back."""
    signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _ring(_signal: int, _frame: FrameType | None) -> None:
    raise TookTooLong
