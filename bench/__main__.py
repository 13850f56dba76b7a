"""`make bench`: every figure that the project holds itself to, with the load of the machine beside it.

    python -m bench [--only NAME …]

Each part is a script of this folder, run in a process of its own, one after the other: what one leaves in memory or in
the settings of torch is not in the next one's figures, and one that breaks off, or takes `PATIENCE` times what it
should, costs its own figures and no others. Those are null in the last line, which is one JSON object with every name,
and the command ends with 1. Absolute times are of this machine at this moment; ratios decide. The page of this folder
says what each part asks and for how long (bench/README.md).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bench.figures import commit, show

PATIENCE = 4
GRACE_SECONDS = 30.0
"""For a part that is stopped to stop its own server."""


@dataclass(frozen=True, slots=True)
class Part:
    """A script: the minutes it should take on two quiet cores, and the names of its figures."""

    script: str
    minutes: float
    figures: tuple[str, ...]


PARTS = (
    Part("alone", 1, ("alone_min_ratio", "prefix_first_step")),
    Part("alone_1x", 3, ("alone_1x_ratio", "vae_ratio")),
    Part("shared", 1, ("n6_ratio", "n6_of_predicted", "mixed8_ratio", "mixed8_mean_time", "prefix_saved")),
    Part(
        "promises",
        10,
        (
            "on_time",
            "on_time_fifo",
            "sim_error",
            "eta_mixed_start_p95",
            "eta_mixed_admission_p95",
            "eta_start_p95",
            "eta_admission_p95",
            "fair_share",
            "fair_single",
        ),
    ),
    Part("memory", 4, ("oom", "rss_over_model_mb")),
    Part(
        "serving",
        2,
        (
            "overhead_ms_p50",
            "overhead_ms_p99",
            "overhead_edit_ms_p50",
            "ready_s",
            "rss_mb",
            "edit_512_s",
        ),
    ),
    Part(
        "tasks",
        1,
        (
            "task_query_p50_1k_ms",
            "task_query_p99_1k_ms",
            "task_list_p50_1k_ms",
            "task_list_p99_1k_ms",
            "task_query_p50_100k_ms",
            "task_query_p99_100k_ms",
            "task_list_p50_100k_ms",
            "task_list_p99_100k_ms",
            "task_query_p99_ratio",
            "task_list_p99_ratio",
        ),
    ),
    Part("cancels", 2, ("cancel_steps_p95", "cancel_ms_p95")),
    Part("previews", 1, ("preview_first_step", "preview_cost", "preview_psnr", "preview_r2")),
)
"""In this order: the machine is quietest before a server runs."""


def told(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """The JSON object that a command ends with, all else that it writes passed on; empty if it ends otherwise, or does
    not within so many seconds."""
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        watch = threading.Timer(seconds, _stop, (process,))
        watch.start()
        try:
            for line in process.stdout or ():
                print(last, end="", flush=True)
                last = line
            if process.wait() == 0:
                found: dict[str, Any] = json.loads(last)
                return found
        except ValueError:
            pass  # its last line is for people
        finally:
            watch.cancel()
            _stop(process)
    print(last, end="", flush=True)
    return {}


def _stop(process: subprocess.Popen[str]) -> None:
    """As by Ctrl-C, so that it stops what it started; then whatever is left of it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def measure(parts: Sequence[Part]) -> dict[str, Any]:
    """Their figures by name; None for what was not measured."""
    figures: dict[str, Any] = {}
    for part in parts:
        print(f"\n-- {part.script}, about {part.minutes:g} min", flush=True)
        began = time.monotonic()
        found = told([sys.executable, "-m", f"bench.{part.script}"], PATIENCE * 60 * part.minutes)
        figures |= {name: found.get(name) for name in part.figures}
        print(f"-- {part.script} took {(time.monotonic() - began) / 60:.1f} min", flush=True)
    return figures


def main() -> int:
    """All parts, or some."""
    read = argparse.ArgumentParser()
    read.add_argument("--only", nargs="*", choices=[part.script for part in PARTS], metavar="NAME")
    only = read.parse_args().only
    load = os.getloadavg()[0]
    print(f"commit {commit()}, load average {load:.2f}, {os.cpu_count()} cores, torch on one thread")
    figures = measure([part for part in PARTS if not only or part.script in only])
    print(f"\nload average at the end {os.getloadavg()[0]:.2f}")
    show(figures)
    return int(None in figures.values())


if __name__ == "__main__":
    sys.exit(main())
