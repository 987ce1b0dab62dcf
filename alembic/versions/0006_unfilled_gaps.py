"""Gaps that are not filled are found without looking at years of those that are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_UNFILLED = sa.text("is_filled = 0")


def upgrade() -> None:
    """Create the index."""
    op.create_index(
        "ix_gap_unfilled",
        "gap",
        ["plant", "source", "ended_at"],
        sqlite_where=_UNFILLED,
        postgresql_where=_UNFILLED,
    )


def downgrade() -> None:
    """Take the index away."""
    op.drop_index("ix_gap_unfilled", "gap")
