"""A page of a long list and the list's length, without walking either. Plain and blocking, on a reader's connection.

The length is the sum of the tallies that triggers keep for each quarter of an hour; only a quarter that the search
cuts through is counted row by row. The same sums tell in which quarter a page begins, so that no page is reached by
skipping the rows before it.
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, func, select, text

from danqing.core.job import Job, Page, Search
from danqing.store import rows
from danqing.store.statements import owned_by
from danqing.store.tables import job, tally

QUARTER = 900
"""Seconds, as in the triggers."""


def page(conn: Connection, tenant: str, search: Search, *, skip: int, limit: int, wall: float) -> Page:
    """The jobs from place `skip` on, at most `limit`. `wall` is now: nothing was created later."""
    conn.exec_driver_sql("BEGIN")  # one snapshot for the length and the rows
    try:
        if search.job_id is not None or search.key_id is not None:
            return _counted(conn, tenant, search, skip=skip, limit=limit)
        quarters = _quarters(conn, tenant, search, wall)
        total, left, until = sum(quarters.values()), skip, search.until
        for quarter, jobs in quarters.items():
            if left < jobs:
                until = min(until, _end(quarter))
                break
            left -= jobs
        found = () if skip >= total else _rows(conn, tenant, search, until, skip=left, limit=limit)
        return Page(found, total)
    finally:
        conn.exec_driver_sql("COMMIT")


def _counted(conn: Connection, tenant: str, search: Search, *, skip: int, limit: int) -> Page:
    """By what the tallies do not know: the rare way."""
    total = conn.execute(_count(tenant, search, search.since, search.until)).scalar_one()
    return Page(_rows(conn, tenant, search, search.until, skip=skip, limit=limit), total)


def _rows(
    conn: Connection, tenant: str, search: Search, until: float, *, skip: int, limit: int
) -> tuple[Job, ...]:
    found = _listed(tenant, search, search.since, until).limit(limit).offset(skip)
    return tuple(rows.read_job(row) for row in conn.execute(found).mappings())


def _quarters(conn: Connection, tenant: str, search: Search, wall: float) -> dict[int, int]:
    """Jobs by quarter, newest first."""
    first, last = int(search.since // QUARTER), int(search.until // QUARTER)
    found = conn.execute(_tallies(tenant, search, first, last))
    quarters: dict[int, int] = {row.quarter: row.jobs for row in found}
    for quarter in {first, last} & quarters.keys():
        since, until = max(search.since, float(quarter * QUARTER)), min(search.until, _end(quarter))
        if since > quarter * QUARTER or until < min(_end(quarter), wall):
            counted = conn.execute(_count(tenant, search, since, until))
            quarters[quarter] = counted.scalar_one()
    return quarters


def _end(quarter: int) -> float:
    """The last moment of a quarter."""
    return math.nextafter(float((quarter + 1) * QUARTER), 0.0)


# the statements: their shape depends on what is asked, so they are built each time


def _tallies(tenant: str, search: Search, first: int, last: int) -> Select[Any]:
    """How many jobs of a search there are in each quarter of an hour, newest first; empty ones are left out."""
    jobs = func.sum(tally.c.jobs).label("jobs")
    found = select(tally.c.quarter, jobs).where(
        tally.c.tenant == tenant, tally.c.quarter >= first, tally.c.quarter <= last, *_narrowed(tally, search)
    )
    return found.group_by(tally.c.quarter).order_by(tally.c.quarter.desc())


def _listed(tenant: str, search: Search, since: float, until: float) -> Select[Any]:
    """The jobs of a search created from `since` to `until`, newest first."""
    found = select(job).where(*_within(tenant, search, since, until))
    return found.order_by(job.c.created.desc(), job.c.id.desc())


def _count(tenant: str, search: Search, since: float, until: float) -> Select[Any]:
    """How many those are, counted one by one."""
    return select(func.count()).select_from(job).where(*_within(tenant, search, since, until))


def _within(tenant: str, search: Search, since: float, until: float) -> list[ColumnElement[bool]]:
    asked: Any = text("request_id IS NOT NULL")  # as the partial indexes say it
    conditions = [asked, owned_by(tenant), job.c.created >= since]
    conditions += [job.c.created <= until, *_narrowed(job, search)]
    if search.job_id is not None:
        conditions.append(job.c.id == search.job_id)
    if search.key_id is not None:
        conditions.append(job.c.key_id == search.key_id)
    return conditions


def _narrowed(table: Table, search: Search) -> list[ColumnElement[bool]]:
    conditions = []
    if search.model is not None:
        conditions.append(table.c.model == search.model)
    if search.states is not None:
        conditions.append(table.c.state.in_([state.value for state in search.states]))
    return conditions
