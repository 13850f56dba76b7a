"""How fast a cancel is: from the moment the server knows that nobody waits for a job to the moment its worker hears of
it, and how many steps the job still takes after that.

`python -m bench.cancels` starts a real server with its worker, keeps six calls of many steps in progress, and lets each
caller hang up after a random while, until a hundred cancels were counted. Server, worker and engine each write a line
with the time; the lines are what is measured. One machine, so one clock.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.figures import percentile, show
from bench.server import GENERATION, Served, serving
from bench.serving import text_body

CANCELS = 100
CALLERS = 6
MOST_SECONDS = 240.0
STEPS = 400
"""Of the bundled miniature: nobody's picture is finished before its caller leaves."""

LEFT, TOLD, DROPPED = "nobody waits for a job, it is cancelled", "told to drop a job", "a work was dropped"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """One cancel of a job that had begun: milliseconds from server to worker, and from there to its effect, and the
    units of work that were done for the job in between."""

    to_worker: float
    to_effect: float
    units: int


def profile(folder: Path) -> Path:
    """The bundled miniature at many steps."""
    from danqing.profiles import loader

    text = Path(loader.__file__).with_name("miniature.toml").read_text("utf-8")
    path = folder / "long.toml"
    path.write_text(text.replace("steps = 10", f"steps = {STEPS}"), "utf-8")
    return path


def call_and_leave(server: Served, dice: random.Random) -> None:
    """One call, given up after a while."""
    place = urlsplit(server.url)
    line = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    line.request("POST", GENERATION, json.dumps(text_body(dice.randrange(1000))), headers)
    time.sleep(dice.uniform(0.3, 2.0))
    line.close()


def told(log: Path) -> Iterator[dict[str, str]]:
    """The lines of server and worker that tell of cancels."""
    for line in log.read_text("utf-8").splitlines():
        if any(words in line for words in (LEFT, TOLD, DROPPED)):
            yield json.loads(line)


def cancels(log: Path) -> list[Cancelled]:
    """The cancels that reached a worker in the middle of a job."""
    left: dict[str, float] = {}
    heard: dict[str, tuple[str, float, int]] = {}
    found = []
    for line in told(log):
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        if line["event"] == LEFT:
            left[line["job"]] = at
        elif line["event"] == TOLD:
            heard[line["lease"]] = line["job"], at, int(line["step"])
        elif line["lease"] in heard:
            job, moment, step = heard[line["lease"]]
            if step and job in left:
                wait = (moment - left[job]) * 1000
                found.append(Cancelled(wait, float(line["seconds"]) * 1000, int(line["units_after"])))
    return found


def leave_all(server: Served, log: Path) -> None:
    """Six callers at a time, until enough have left."""
    over = threading.Event()

    def caller(number: int) -> None:
        dice = random.Random(number)
        while not over.is_set():
            call_and_leave(server, dice)

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(CALLERS)]
    end = time.monotonic() + MOST_SECONDS
    for one in callers:
        one.start()
    while len(cancels(log)) < CANCELS and time.monotonic() < end:
        time.sleep(1.0)
    over.set()
    for one in callers:
        one.join()


def measure() -> dict[str, float]:
    """The figures, after a line for people."""
    with tempfile.TemporaryDirectory(prefix="danqing-cancels-") as folder:
        log = Path(folder) / "log"
        told_of = {"DANQING_LOG_LEVEL": "info", "DANQING_LOG_FORMAT": "json"}
        # In turn, so that every job is in the middle of its steps when its caller leaves.
        policy = {"DANQING_ENGINE_POLICY": "turn", "DANQING_ENGINE_PROFILE": str(profile(Path(folder)))}
        settings = {**told_of, **policy}
        with log.open("w") as lines, serving(threads=1, starts=1, settings=settings, log=lines) as server:
            leave_all(server, log)
        found = cancels(log)
    if len(found) < CANCELS:
        raise RuntimeError(f"only {len(found)} cancels in {MOST_SECONDS:g} s")
    waits = [one.to_worker for one in found]
    effects = [one.to_effect for one in found]
    print(
        f"{len(found)} cancels: to the worker {statistics.median(waits):.1f} ms (median), {max(waits):.1f} (most); "
        f"from there to the effect {statistics.median(effects):.1f} ms, {max(effects):.1f}"
    )
    return {
        "cancel_steps_p95": percentile([float(one.units) for one in found], 0.95),
        "cancel_ms_p95": round(percentile(waits, 0.95), 1),
    }


def main() -> None:
    """Print the figures."""
    ArgumentParser(description=__doc__).parse_args()
    show(measure())


if __name__ == "__main__":
    main()
