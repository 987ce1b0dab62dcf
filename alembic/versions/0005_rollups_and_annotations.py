"""Rollups by minute and hour, how far a plant's upkeep has come, and what people say of its past.

An annotation is never changed or deleted; taken back it is by a further row, once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twin.historian.rules import Rule, add_rules, drop_orphans, never_replaced

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NUMBER = sa.Double().with_variant(sa.REAL(), "sqlite")
_RULES = (
    Rule("annotation_never_update", "UPDATE", "annotation", "annotation is append only"),
    Rule("annotation_never_delete", "DELETE", "annotation", "annotation is append only"),
    never_replaced("annotation", "id"),
)


def upgrade() -> None:
    """Create the tables, and the upkeep row of every plant that has tags."""
    for name in ("rollup_1m", "rollup_1h"):
        _create_rollup(name)
    op.create_table(
        "rollup_due",
        sa.Column("tag_id", sa.Integer, nullable=False),
        _whole("since"),
        _whole("until"),
        sa.PrimaryKeyConstraint("tag_id", "since", name="pk_rollup_due"),
        sa.ForeignKeyConstraint(["tag_id"], ["tag.id"], name="fk_rollup_due_tag_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "upkeep",
        sa.Column("plant", sa.Text, nullable=False),
        *(_whole(n, True) for n in ("watermark", "raw_from", "raw_cleared", "minutes_from")),
        sa.PrimaryKeyConstraint("plant", name="pk_upkeep"),
        sqlite_strict=True,
    )
    op.execute("INSERT INTO upkeep (plant) SELECT DISTINCT plant FROM tag")
    _create_annotation()


def downgrade() -> None:
    """Take the tables away; their triggers go with them."""
    for table in ("annotation", "upkeep", "rollup_due", "rollup_1h", "rollup_1m"):
        op.drop_table(table)
    drop_orphans(op.get_bind(), *_RULES)


def _whole(name: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, _WHOLE, nullable=nullable)


def _create_rollup(name: str) -> None:
    op.create_table(
        name,
        sa.Column("tag_id", sa.Integer, nullable=False),
        *(_whole(column) for column in ("bucket", "n", "n_good")),
        *(sa.Column(c, _NUMBER) for c in ("total", "low", "high", "first", "last")),
        *(sa.Column(c, _NUMBER, nullable=False) for c in ("area", "known_s")),
        sa.PrimaryKeyConstraint("tag_id", "bucket", name=f"pk_{name}"),
        sa.ForeignKeyConstraint(["tag_id"], ["tag.id"], name=f"fk_{name}_tag_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_annotation() -> None:
    op.create_table(
        "annotation",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        _whole("started_at"),
        _whole("ended_at"),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        _whole("at"),
        sa.Column("withdraws", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_annotation"),
        sa.UniqueConstraint("withdraws", name="uq_annotation_withdraws"),
        sa.ForeignKeyConstraint(["withdraws"], ["annotation.id"], name="fk_annotation_withdraws"),
        sa.CheckConstraint("started_at <= ended_at", name="ck_annotation_is_period"),
        sqlite_strict=True,
    )
    op.create_index("ix_annotation_plant", "annotation", ["plant"])
    add_rules(op.get_bind(), *_RULES)
