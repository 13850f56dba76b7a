"""What is kept of orders and briefs as text: it reads back, and so does what an older version wrote."""

from __future__ import annotations

import json

import pytest

from danqing.core.job import Contract, Quality, Said
from danqing.core.order import Brief, Mask, Order, Remote, Taken, Uploaded
from danqing.core.raster import Size
from danqing.store.rows import brief_text, order_text, read_brief, read_order, read_said, said_text

BRIEF = Brief("m", "p", None, ("aa", "bb"), 2, Size(64, 48), 7, knobs={"strength": 0.5})


@pytest.mark.parametrize("mask", [None, Mask("cc", 1)])
def test_a_brief_reads_back(mask: Mask | None) -> None:
    brief = Brief(**{**{name: getattr(BRIEF, name) for name in BRIEF.__slots__}, "mask": mask})
    assert read_brief(brief_text(brief)) == brief


def test_a_brief_without_a_mask_is_written_as_before_there_were_any() -> None:
    assert "mask" not in json.loads(brief_text(BRIEF))


def test_an_order_reads_back_with_what_it_says_of_parts() -> None:
    order = Order(
        "m",
        "p",
        sources=(Remote("https://host/a.png"), Taken("aa", Size(3, 4))),
        mask=Uploaded("key"),
        boxes=((), ((1, 2, 3, 4), (5, 6, 7, 8))),
        margins=(0.5, 0.0, 0.25, 1.0),
        enlarge=2,
    )
    assert read_order(order_text(order)) == order


def test_an_order_of_an_older_version_reads_without_them() -> None:
    members = json.loads(order_text(Order("m", "p")))
    for name in ("mask", "boxes", "margins", "enlarge"):
        del members[name]
    assert read_order(json.dumps(members)) == Order("m", "p")


def test_every_raster_of_a_brief_is_named_once() -> None:
    assert Brief("m", "p", None, ("aa", "bb", "aa"), 1, Size(1, 1), 0, mask=Mask("bb")).rasters == (
        "aa",
        "bb",
    )


@pytest.mark.parametrize(
    "said", [Said(), Said("p", ((0, "once"),)), Said(quality=Quality(Contract.EXACT, "c", "quick", 4))]
)
def test_what_a_worker_said_reads_back(said: Said) -> None:
    assert read_said(said_text(said)) == said


def test_what_a_worker_said_before_it_named_a_contract_still_reads() -> None:
    assert read_said('{"prompt": "p", "texts": [[0, "once"]]}') == Said("p", ((0, "once"),))
