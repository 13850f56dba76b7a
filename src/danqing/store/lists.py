"""A page of a long list and the list's length, without walking either. Plain and blocking, on a reader's connection.

The length is the sum of the tallies that triggers keep for each quarter of an hour; only a quarter that the search
cuts through is counted row by row. The same sums tell in which quarter a page begins, so that no page is reached by
skipping the rows before it.
"""

from __future__ import annotations

import math

from sqlalchemy import Connection

from danqing.core.job import Job, Page, Search
from danqing.store import rows, statements

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
    total = conn.execute(statements.count_listed(tenant, search, search.since, search.until)).scalar_one()
    return Page(_rows(conn, tenant, search, search.until, skip=skip, limit=limit), total)


def _rows(
    conn: Connection, tenant: str, search: Search, until: float, *, skip: int, limit: int
) -> tuple[Job, ...]:
    found = statements.listed(tenant, search, search.since, until).limit(limit).offset(skip)
    return tuple(rows.read_job(row) for row in conn.execute(found).mappings())


def _quarters(conn: Connection, tenant: str, search: Search, wall: float) -> dict[int, int]:
    """Jobs by quarter, newest first."""
    first, last = int(search.since // QUARTER), int(search.until // QUARTER)
    found = conn.execute(statements.tallies(tenant, search, first, last))
    quarters: dict[int, int] = {row.quarter: row.jobs for row in found}
    for quarter in {first, last} & quarters.keys():
        since, until = max(search.since, float(quarter * QUARTER)), min(search.until, _end(quarter))
        if since > quarter * QUARTER or until < min(_end(quarter), wall):
            counted = conn.execute(statements.count_listed(tenant, search, since, until))
            quarters[quarter] = counted.scalar_one()
    return quarters


def _end(quarter: int) -> float:
    """The last moment of a quarter."""
    return math.nextafter(float((quarter + 1) * QUARTER), 0.0)
