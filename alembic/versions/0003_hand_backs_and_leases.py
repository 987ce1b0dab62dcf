"""Who holds an MV and who writes: hand-backs to the plant's own control, and leases.

A hand-back is asked once and ended once; both are kept for ever.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twin.historian.rules import Rule, add_rules, drop_orphans, never_replaced

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_RULES = (
    Rule("hand_back_never_delete", "DELETE", "hand_back", "a hand-back is kept for ever"),
    never_replaced("hand_back", "id", "hand-back"),
    Rule(
        "hand_back_ended_once",
        "UPDATE",
        "hand_back",
        "a hand-back is ended once, and what was asked never changes",
        when="OLD.status <> 'open' OR NEW.id IS NOT OLD.id OR NEW.plant IS NOT OLD.plant "
        "OR NEW.mv IS NOT OLD.mv OR NEW.cause IS NOT OLD.cause "
        "OR NEW.actor IS NOT OLD.actor OR NEW.reason IS NOT OLD.reason "
        "OR NEW.asked_at IS NOT OLD.asked_at "
        "OR NEW.status NOT IN ('open', 'done', 'void')",
    ),
)


def upgrade() -> None:
    """Create both tables and the rules that guard them."""
    op.create_table(
        "hand_back",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("mv", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("asked_at", _WHOLE, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("ended_at", _WHOLE),
        sa.Column("outcome_id", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_hand_back"),
        sa.ForeignKeyConstraint(
            ["outcome_id"], ["write_outcome.id"], name="fk_hand_back_outcome_id"
        ),
        sa.CheckConstraint("(status = 'open') = (ended_at IS NULL)", name="ck_hand_back_is_ended"),
        sqlite_strict=True,
    )
    op.create_index("ix_hand_back_plant_mv", "hand_back", ["plant", "mv"])
    op.create_index("ix_hand_back_plant_status", "hand_back", ["plant", "status"])
    # Who holds an MV is asked several times a second: its newest write must be near.
    op.create_index("ix_written_value_mv_outcome_id", "written_value", ["mv", "outcome_id"])
    op.create_table(
        "lease",
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("until", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("plant", "role", name="pk_lease"),
        sqlite_strict=True,
    )
    add_rules(op.get_bind(), *_RULES)


def downgrade() -> None:
    """Take both tables away; their triggers go with them."""
    op.drop_index("ix_written_value_mv_outcome_id", "written_value")
    op.drop_table("lease")
    op.drop_table("hand_back")
    drop_orphans(op.get_bind(), *_RULES)
