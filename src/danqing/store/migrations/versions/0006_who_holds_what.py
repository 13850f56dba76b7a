"""What a worker holds is found by the worker's name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_RUNNING = sa.text("state = 'running'")


def upgrade() -> None:
    """An index more; rows stay as they are."""
    op.create_index("job_held", "job", ["lease_worker"], sqlite_where=_RUNNING, postgresql_where=_RUNNING)
