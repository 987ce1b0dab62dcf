"""Plans and forecasts as packed JSON: a proposal takes a quarter of the room.

What was stored is kept: its text is packed on the way up and unpacked on the way down. A new
column can only come with a default, so a trigger refuses a proposal whose plan was left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

from twin.historian.rules import Rule, add_rules, drop_rules

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ONLY_STATUS = Rule(
    "proposal_only_status",
    "UPDATE OF proposal_id, plant, created_at, expires_at, open_until_wall, reason, "
    "benefit_per_h, model, current_values, setpoints, binding, plan, forecast, verdict",
    "proposal",
    "only the status of a proposal may change",
)
_HAS_PLAN = Rule(
    "proposal_has_plan", "INSERT", "proposal", "a proposal has a plan", "length(NEW.plan) = 0"
)


def upgrade() -> None:
    """Pack both columns."""
    drop_rules(op.get_bind(), _ONLY_STATUS)
    none = sa.text("x''" if op.get_bind().dialect.name == "sqlite" else "''")
    _convert(sa.LargeBinary(), none, lambda text: zlib.compress(text.encode(), 9))
    add_rules(op.get_bind(), _ONLY_STATUS, _HAS_PLAN)


def downgrade() -> None:
    """Unpack both columns."""
    drop_rules(op.get_bind(), _HAS_PLAN, _ONLY_STATUS)
    _convert(sa.Text(), sa.text("''"), lambda packed: zlib.decompress(packed).decode())
    add_rules(op.get_bind(), _ONLY_STATUS)


def _convert(kind: Any, none: sa.TextClause, converted: Callable[[Any], Any]) -> None:
    """Replace `plan` and `forecast` by columns of `kind` that hold what they held."""
    for column in ("plan", "forecast"):
        op.execute(f"ALTER TABLE proposal RENAME COLUMN {column} TO old_{column}")
    op.add_column("proposal", sa.Column("plan", kind, nullable=False, server_default=none))
    op.add_column("proposal", sa.Column("forecast", kind))
    connection = op.get_bind()
    # One proposal at a time: a year of them need not fit into memory at once.
    ids = connection.execute(sa.text("SELECT proposal_id FROM proposal")).scalars().all()
    old = sa.text("SELECT old_plan, old_forecast FROM proposal WHERE proposal_id = :id")
    new = sa.text("UPDATE proposal SET plan = :plan, forecast = :forecast WHERE proposal_id = :id")
    for proposal_id in ids:
        plan, forecast = connection.execute(old, {"id": proposal_id}).one()
        packed = {
            "plan": converted(plan),
            "forecast": None if forecast is None else converted(forecast),
        }
        connection.execute(new, {"id": proposal_id, **packed})
    for column in ("old_plan", "old_forecast"):
        op.drop_column("proposal", column)
