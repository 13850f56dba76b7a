"""Keys belong to a region and may belong to a workspace; files that callers send ahead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what is new; keys of before belong to this installation's own region and to their whole account."""
    for name in ("region", "workspace"):
        op.add_column("api_key", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.create_index("api_key_workspace", "api_key", ["tenant", "workspace"])
    op.create_table(
        "upload",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.UniqueConstraint("blob", name="upload_blob"),
    )
    op.create_index("upload_tenant", "upload", ["tenant", "size"])
    op.create_index("upload_expires", "upload", ["expires"])
