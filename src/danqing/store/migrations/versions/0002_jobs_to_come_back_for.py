"""Jobs whose callers come back for them: who asked, what was lost of a success, and lists that stay quick."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ENDED = "('succeeded', 'failed', 'cancelled')"
_FIXED_AT_THE_END = (
    "id, tenant, api, model, req_hash, brief, body_ref, state, attempt, crash_count, lease_token, lease_until,"
    " lease_worker, lease_run, rank, deadline, queue_seconds, run_seconds, cost, step, step_total, hold_images,"
    " result, error_code, error_msg, out_hash, created, started, finished, expires, request_id, key_id, lost"
)
_COUNT = (
    "INSERT INTO tally (tenant, quarter, model, state, jobs)"
    " VALUES ({row}.tenant, CAST({row}.created / 900 AS INTEGER), {row}.model, {row}.state, 1)"
    " ON CONFLICT (tenant, quarter, model, state) DO UPDATE SET jobs = jobs + 1;"
)
_AT = (
    "WHERE tenant = {row}.tenant AND quarter = CAST({row}.created / 900 AS INTEGER)"
    " AND model = {row}.model AND state = {row}.state"
)
_DISCOUNT = f"UPDATE tally SET jobs = jobs - 1 {_AT}; DELETE FROM tally {_AT} AND jobs = 0;"  # noqa: S608


def upgrade() -> None:
    """Add what is new; jobs of before were all waited for, so that none of them is listed."""
    op.add_column("job", sa.Column("request_id", sa.Text))
    op.add_column("job", sa.Column("key_id", sa.Text, nullable=False, server_default=""))
    op.add_column("job", sa.Column("lost", sa.Text))
    listed = sa.text("request_id IS NOT NULL")
    for name, by in (("job_listed", []), ("job_listed_model", ["model"]), ("job_listed_state", ["state"])):
        columns = ["tenant", *by, "created", "id"]
        op.create_index(name, "job", columns, sqlite_where=listed, postgresql_where=listed)
    op.create_table(
        "tally",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("quarter", sa.Integer, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("jobs", sa.Integer, nullable=False),
    )
    _triggers()


def _triggers() -> None:
    """SQLite's spelling; PostgreSQL gets its own branch when it comes."""
    op.execute("DROP TRIGGER job_stays_ended")
    op.execute(
        f"CREATE TRIGGER job_stays_ended BEFORE UPDATE OF {_FIXED_AT_THE_END} ON job WHEN OLD.state IN {_ENDED}"
        " BEGIN SELECT RAISE(ABORT, 'job_stays_ended'); END"
    )
    _count("job_counted", "INSERT ON job WHEN NEW.request_id IS NOT NULL", _COUNT.format(row="NEW"))
    _count(
        "job_recounted",
        "UPDATE OF state ON job WHEN NEW.request_id IS NOT NULL AND NEW.state <> OLD.state",
        _DISCOUNT.format(row="OLD") + _COUNT.format(row="NEW"),
    )
    _count("job_discounted", "DELETE ON job WHEN OLD.request_id IS NOT NULL", _DISCOUNT.format(row="OLD"))


def _count(name: str, event: str, what: str) -> None:
    op.execute(f"CREATE TRIGGER {name} AFTER {event} BEGIN {what} END")
