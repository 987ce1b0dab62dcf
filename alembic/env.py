"""Runs migrations on the connection that `twin.historian.migrations` opened; it owns the commit."""

from alembic import context

from twin.historian.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=False,  # we are inside a transaction already
)
context.run_migrations()
