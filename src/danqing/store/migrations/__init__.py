"""How the tables came to be, one step a file under `versions/`, run in one transaction when the store opens.

Knows Alembic; is frozen: a released step never changes and never imports `tables`.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

HEAD = "0006"


class Unusable(Exception):
    """The database file is not one that this version can work with."""


def current(connection: Connection) -> str | None:
    """The step this database stands at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def upgrade(connection: Connection) -> None:
    """Bring the database to `HEAD`; the caller owns the transaction, so a death half-way leaves nothing behind.

    Raises Unusable on a database that a newer version of the program has written."""
    if current(connection) == HEAD:
        return
    from alembic import command  # most starts find nothing to do and save the 0.2 s this import takes
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as fault:
        raise Unusable(f"it was written by another version of Danqing ({fault})") from fault
