"""Whether a picture can be made, and the reasons where not."""

from __future__ import annotations

from danqing.intake.health import Vital, WorkerVital

READY = WorkerVital("one", True)
LOADING = WorkerVital("two", False, "loading")


def test_one_ready_worker_is_enough() -> None:
    assert Vital("p", (READY, LOADING), warnings=("an old SQLite",)).reasons() == ()


def test_no_worker_and_no_ready_worker_are_told_apart() -> None:
    assert Vital("p").reasons() == ("no worker is running",)
    assert Vital("p", (LOADING, WorkerVital("three", False))).reasons() == (
        "no worker is ready (two: loading; three)",
    )


def test_a_trouble_stops_pictures_whoever_is_ready() -> None:
    assert Vital("p", (READY,), troubles=("the disk is full",)).reasons() == ("the disk is full",)
