"""Runs migrations on the connection that `twin.historian.migrations` opened; it owns the commit."""

from alembic import context

from twin.historian.schema import METADATA


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """The parts that PostgreSQL keeps the table of samples in are no tables of their own."""
    is_part = kind == "table" and (name or "").startswith("sample_")
    return not is_part or name in METADATA.tables


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    include_name=_is_ours,
    transactional_ddl=False,  # we are inside a transaction already
)
context.run_migrations()
