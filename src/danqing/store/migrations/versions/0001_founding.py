"""The founding tables: job, job_input, account, charge, outbox, api_key, mark."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_OPEN = sa.text("state IN ('accepted', 'queued', 'running')")
_ENDED = "('succeeded', 'failed', 'cancelled')"
_FIXED_AT_THE_END = (
    "id, tenant, api, model, req_hash, brief, body_ref, state, attempt, crash_count, lease_token, lease_until,"
    " lease_worker, lease_run, rank, deadline, queue_seconds, run_seconds, cost, step, step_total, hold_images,"
    " result, error_code, error_msg, out_hash, created, started, finished, expires"
)


def upgrade() -> None:
    """Create everything; nothing was there before."""
    _jobs()
    _money()
    _rest()
    _triggers()


def _jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("api", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("idem_key", sa.Text),
        sa.Column("req_hash", sa.Text, nullable=False, server_default=""),
        sa.Column("brief", sa.Text, nullable=False),
        sa.Column("body_ref", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("crash_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lease_token", sa.Text),
        sa.Column("lease_until", sa.Float),
        sa.Column("lease_worker", sa.Text),
        sa.Column("lease_run", sa.Text),
        sa.Column("rank", sa.Float, nullable=False),
        sa.Column("deadline", sa.Float, nullable=False),
        sa.Column("queue_seconds", sa.Float, nullable=False),
        sa.Column("run_seconds", sa.Float, nullable=False),
        sa.Column("cost", sa.Float, nullable=False),
        sa.Column("step", sa.Integer, nullable=False, server_default="0"),
        sa.Column("step_total", sa.Integer, nullable=False, server_default="0"),
        sa.Column("hold_images", sa.Integer, nullable=False),
        sa.Column("result", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("error_msg", sa.Text),
        sa.Column("out_hash", sa.Text),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("finished", sa.Float),
        sa.Column("expires", sa.Float),
        sa.CheckConstraint(
            f"state IN ('accepted', 'queued', 'running', {_ENDED[1:-1]})", name="job_state_known"
        ),
        sa.UniqueConstraint("tenant", "idem_key", name="job_idempotency"),
    )
    op.create_index("job_open", "job", ["rank", "created"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    has_token = sa.text("lease_token IS NOT NULL")
    op.create_index(
        "job_token", "job", ["lease_token"], unique=True, sqlite_where=has_token, postgresql_where=has_token
    )
    has_expires = sa.text("expires IS NOT NULL")
    op.create_index("job_expires", "job", ["expires"], sqlite_where=has_expires, postgresql_where=has_expires)
    crashed = sa.text("state = 'failed' AND crash_count > 0")
    op.create_index(
        "job_crashed", "job", ["tenant", "req_hash"], sqlite_where=crashed, postgresql_where=crashed
    )
    op.create_table(
        "job_input",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
    )
    op.create_index("job_input_key", "job_input", ["key"])


def _money() -> None:
    op.create_table(
        "account",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("quota", sa.Integer),
        sa.Column("held", sa.Integer, nullable=False, server_default="0"),
        sa.Column("used", sa.Integer, nullable=False, server_default="0"),
        sa.CheckConstraint(
            "held >= 0 AND used >= 0 AND (quota IS NULL OR held + used <= quota)", name="account_within_quota"
        ),
    )
    op.create_table(
        "charge",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("amount", sa.Integer, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_index("charge_tenant", "charge", ["tenant", "created"])


def _rest() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_at", sa.Float, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="outbox_state_known"),
        sa.UniqueConstraint("job_id", "event", name="outbox_once"),
    )
    pending = sa.text("state = 'pending'")
    op.create_index("outbox_pending", "outbox", ["next_at"], sqlite_where=pending, postgresql_where=pending)
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float),
        sa.Column("revoked", sa.Float),
    )
    op.create_table(
        "mark",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def _triggers() -> None:
    """SQLite's spelling; PostgreSQL gets its own branch when it comes."""
    _refuse("job_stays_ended", f"UPDATE OF {_FIXED_AT_THE_END} ON job", f"OLD.state IN {_ENDED}")
    _refuse(
        "job_key_only_freed",
        "UPDATE OF idem_key ON job",
        f"OLD.state IN {_ENDED} AND NEW.idem_key IS NOT NULL",
    )
    _refuse("job_open_stays", "DELETE ON job", f"OLD.state NOT IN {_ENDED}")
    _refuse("charge_never_changes", "UPDATE ON charge", "1")
    _refuse("charge_never_goes", "DELETE ON charge", "1")


def _refuse(name: str, event: str, when: str) -> None:
    op.execute(f"CREATE TRIGGER {name} BEFORE {event} WHEN {when} BEGIN SELECT RAISE(ABORT, '{name}'); END")
