"""Alembic's entry: runs the steps on the connection handed over by `upgrade`, inside the caller's transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
