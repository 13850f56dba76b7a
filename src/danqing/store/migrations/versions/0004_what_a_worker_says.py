"""What the worker says beside the pictures: the prompt as rewritten, texts between them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; jobs of before have nothing said."""
    op.add_column("job", sa.Column("said", sa.Text))
