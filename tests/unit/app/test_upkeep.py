"""What a server does beside its calls: prices are kept over restarts, workers that vanish are forgotten."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from danqing import app
from danqing.lease.messages import Claim
from danqing.schedule.prices import Prices
from tests.support.clock import VirtualClock
from tests.support.eventually import eventually
from tests.support.jobs import draft
from tests.support.lease_place import hello, lease_place


async def test_what_jobs_cost_is_known_to_the_next_server(tmp_path: Path) -> None:
    file, brief = tmp_path / "calibration" / "prices-miniature.json", draft().brief
    async with lease_place(tmp_path) as place, AsyncExitStack() as stack:
        app._price_book(file, place.desk, stack)
        assert place.desk.prices.seconds(brief) is None
        place.desk.prices.learn(brief, 4.0)
    async with lease_place(tmp_path) as place, AsyncExitStack() as stack:
        app._price_book(file, place.desk, stack)
        assert place.desk.prices.seconds(brief) == 4.0


async def test_upkeep_keeps_prices_and_forgets_who_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SWEEP_SECONDS", 0.02)
    file, clock = tmp_path / "prices.json", VirtualClock()
    async with lease_place(tmp_path, clock=clock) as place:
        book = app.PriceBook(file, place.desk.prices)
        await place.desk.claim(Claim(hello("gone"), 0, 0.0))
        clock.advance(120.0)
        place.desk.prices.learn(draft().brief, 4.0)
        chore = asyncio.ensure_future(app._tidy_for_ever(place.desk, book))
        await eventually(lambda: file.exists() and place.desk.vital("gone") is None)
        chore.cancel()
        await asyncio.gather(chore, return_exceptions=True)
    again = Prices()
    app.PriceBook(file, again).recall()
    assert again.seconds(draft().brief) == 4.0
