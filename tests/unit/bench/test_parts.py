"""`make bench` as a whole: its figures, how long it may take, and what becomes of a part that breaks off."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import psutil
import pytest

from bench.__main__ import PARTS, Part, measure, told
from bench.figures import percentile, show
from tests.support.eventually import eventually

PAGE = Path(__file__).resolve().parents[3] / "bench" / "README.md"
ROW = re.compile(r"^\| `bench\.(\w+)` \|.*\| ([\d.]+) \| (.*) \|$", re.MULTILINE)
WANTED = {
    "overhead_ms_p50",
    "overhead_ms_p99",
    "overhead_edit_ms_p50",
    "ready_s",
    "rss_mb",
    "edit_512_s",
    "alone_min_ratio",
    "alone_1x_ratio",
    "n6_ratio",
    "n6_of_predicted",
    "mixed8_ratio",
    "mixed8_mean_time",
    "prefix_saved",
    "prefix_first_step",
    "vae_ratio",
    "on_time",
    "on_time_fifo",
    "sim_error",
    "eta_start_p95",
    "eta_admission_p95",
    "cancel_steps_p95",
    "cancel_ms_p95",
    "preview_first_step",
    "preview_cost",
    "fair_share",
    "fair_single",
    "oom",
    "rss_over_model_mb",
    "task_query_p99_ratio",
    "task_list_p99_ratio",
}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_every_figure_that_is_held_to_is_in_the_last_line_once() -> None:
    names = [name for part in PARTS for name in part.figures]
    assert len(names) == len(set(names))
    assert set(names) >= WANTED


def test_the_whole_takes_no_longer_than_a_break() -> None:
    assert sum(part.minutes for part in PARTS) <= 25


def test_the_page_says_of_every_part_how_long_and_for_what() -> None:
    rows = {name: (minutes, said) for name, minutes, said in ROW.findall(PAGE.read_text("utf-8"))}
    parts = {
        part.script: (f"{part.minutes:g}", ", ".join(f"`{name}`" for name in part.figures)) for part in PARTS
    }
    assert rows == parts


def test_a_script_is_asked_for_the_object_on_its_last_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert told(python("print('a table'); print('{\"a\": 1.5}')"), 60) == {"a": 1.5}
    assert capfd.readouterr().out == "a table\n"


@pytest.mark.parametrize(
    "code", ["print('{\"a\": 1}'); raise SystemExit(3)", "print('no object')", "pass"], ids=str
)
def test_what_breaks_off_has_no_figures(code: str) -> None:
    assert told(python(code), 60) == {}


def test_what_takes_too_long_is_stopped_with_all_that_it_started(capfd: pytest.CaptureFixture[str]) -> None:
    # what a shell starts beside itself does not heed Ctrl-C
    assert told(["sh", "-c", "sleep 60 & echo $!; echo; wait"], 2.0) == {}
    pid = int(capfd.readouterr().out.split()[0])

    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    asyncio.run(eventually(gone))


def test_a_figure_that_was_not_measured_is_there_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    figures = measure([Part("figures", 1, ("a", "b")), Part("no_such_script", 1, ("c",))])
    assert figures == {"a": None, "b": None, "c": None}
    capsys.readouterr()
    show(figures | {"d": 1.5})
    *table, line = capsys.readouterr().out.splitlines()
    assert "not measured" in table[0]
    assert line == '{"a": null, "b": null, "c": null, "d": 1.5}'


@pytest.mark.parametrize(("values", "found"), [([3.0], 3.0), ([float(n) for n in range(100)], 95.0)])
def test_a_percentile_is_one_of_the_values(values: list[float], found: float) -> None:
    assert percentile(values) == found
