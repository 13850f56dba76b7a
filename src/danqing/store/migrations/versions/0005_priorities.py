"""Keys give their jobs a priority among those of their tenant."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_OPEN = sa.text("state IN ('accepted', 'queued', 'running')")


def upgrade() -> None:
    """Add what is new; keys and jobs of before have priority 0, and what waits keeps its order."""
    for table in ("api_key", "job"):
        op.add_column(table, sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
    for name in ("place", "turn"):
        op.add_column("job", sa.Column(name, sa.Float, nullable=False, server_default="0"))
    op.execute("UPDATE job SET place = rank, turn = created WHERE state IN ('accepted', 'queued', 'running')")
    op.drop_index("job_open", "job")
    for name, order in (
        ("job_open", ["rank", "turn"]),
        ("job_line", ["tenant", "priority", "place", "created"]),
        ("job_turns", ["tenant", "rank", "turn"]),
    ):
        op.create_index(name, "job", order, sqlite_where=_OPEN, postgresql_where=_OPEN)
