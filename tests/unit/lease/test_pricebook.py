"""Prices outlive the server, and a bad file does no harm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from danqing.core.order import Brief
from danqing.core.raster import Size
from danqing.lease.pricebook import PriceBook
from danqing.schedule.prices import Prices

BRIEF = Brief("painter", "a cat", None, (), 1, Size(1024, 1024), 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calibration" / "prices-test-2.1.json"


def learned() -> Prices:
    prices = Prices()
    prices.learn(BRIEF, 4.0)
    prices.learn(replace(BRIEF, inputs=("a", "b")), 30.0)
    prices.learn(replace(BRIEF, model="other", negative_prompt="rain"), 7.0)
    return prices


def recalled(file: Path) -> Prices:
    prices = Prices()
    PriceBook(file, prices).recall()
    return prices


def test_what_was_learned_is_known_after_a_restart(file: Path) -> None:
    prices = Prices()
    book = PriceBook(file, prices)
    book.recall()
    book.keep()
    assert not file.exists()  # there was nothing to keep
    for brief, seconds in ((BRIEF, 4.0), (replace(BRIEF, model="other", count=2), 7.0)):
        prices.learn(brief, seconds)
    book.keep()
    again = recalled(file)
    assert again.told() == prices.told()
    assert again.seconds(BRIEF) == 4.0
    assert again.weight(replace(BRIEF, model="other", size=Size(2048, 1024))) == prices.weight(
        replace(BRIEF, model="other", size=Size(2048, 1024))
    )
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_it_is_written_only_when_there_is_something_new(file: Path) -> None:
    prices = learned()
    book = PriceBook(file, prices)
    prices.learn(BRIEF, 5.0)
    book.keep()
    file.unlink()
    book.keep()
    assert not file.exists()
    prices.learn(BRIEF, 5.0)
    book.keep()
    assert file.exists()


def _changed(**members: object) -> str:
    return json.dumps({"version": 1, **learned().told(), **members})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        _changed(version=2),
        _changed(kinds=None),
        _changed(kinds=[["painter", 1, 0, 80, True, -1.0]]),
        _changed(kinds=[["painter", 1, 0, 80, True, float("nan")]]),
        _changed(kinds=[["painter", 4.0]]),
        _changed(kinds=[["painter", 1, 0, 80, True, 1.0]]).replace("80", "1e999"),
        _changed(kinds=[["painter", number, 0, 80, True, 1.0] for number in range(5000)]),
        _changed(models={"painter": "cheap"}),
        _changed(all=None),
        _changed()[:-9],
    ],
)
def test_a_bad_file_is_a_fresh_start_and_one_line(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text, "utf-8")
    with capture_logs() as lines:
        prices = recalled(file)
    assert [line["event"] for line in lines] == ["prices are learned anew"]
    assert prices.told() == Prices().told()


def test_a_file_that_is_not_there_says_nothing(file: Path) -> None:
    with capture_logs() as lines:
        assert recalled(file).seconds(BRIEF) is None
    assert lines == []


def test_a_disk_that_takes_nothing_keeps_what_was_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = Prices()
    book = PriceBook(file, prices)
    prices.learn(BRIEF, 4.0)
    book.keep()

    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    prices.learn(BRIEF, 9.0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        book.keep()
    assert recalled(file).seconds(BRIEF) == 4.0
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    book.keep()
    assert recalled(file).seconds(BRIEF) == pytest.approx(5.0)
