"""A worker process over the fake engine: `python -m tests.support.fake_worker --socket PATH --name w1 --mode ok`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from danqing.work.process import Opened, main
from tests.support.clock import RealClock
from tests.support.fake_engine import MODES, FakeEngine


def run() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--mode", choices=MODES, default="ok")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--step-seconds", type=float, default=0.0)
    parser.add_argument("--room", type=int, default=4)
    parser.add_argument("--load-seconds", type=float, default=0.0)
    given = parser.parse_args()

    def open_engine() -> Opened:
        time.sleep(given.load_seconds)
        engine = FakeEngine(given.mode, steps=given.steps, step_seconds=given.step_seconds)
        return Opened(engine, "fake", ("qwen-image-edit-plus",), "cpu", given.room)

    main(open_engine, name=given.name, socket=given.socket, clock=RealClock())


if __name__ == "__main__":
    run()
