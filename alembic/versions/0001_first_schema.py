"""The first schema: tags and samples, proposals to outcomes, stages, audit, processes, models.

The safety rules below hold whoever writes, also by hand:

* events, decisions, stages and models are only ever added;
* a proposal is never deleted, only its status changes, along the arrows, and to accepted or
  rejected only with the decision beside it;
* a clearance belongs to an accepted proposal and is used once, before it expires;
* an outcome that is not a refusal names a used clearance of its own proposal.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twin.historian.rules import Rule, add_rules, drop_orphans, never_replaced

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NUMBER = sa.Double().with_variant(sa.REAL(), "sqlite")

_STATUS_ARROWS = {
    "open": ("accepted", "rejected", "expired", "superseded"),
    "accepted": ("written", "failed", "refused", "expired", "superseded"),
}


def upgrade() -> None:
    """Build the tables, then the triggers that guard them."""
    _create_samples()
    _create_decisions()
    _create_operation()
    add_rules(op.get_bind(), *_rules())


def downgrade() -> None:
    """Drop everything; the triggers go with their tables."""
    for table in (
        "model", "process", "event", "stage", "written_value", "write_outcome",
        "clearance", "decision", "proposal", "gap", "last_value", "sample", "tag",
    ):  # fmt: skip
        op.drop_table(table)
    drop_orphans(op.get_bind(), *_rules())


def _create_samples() -> None:
    op.create_table(
        "tag",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tag"),
        sa.UniqueConstraint("plant", "name", name="uq_tag_plant_name"),
        sqlite_strict=True,
    )
    op.create_table(
        "sample",
        sa.Column("tag_id", sa.Integer, nullable=False),
        sa.Column("ts", _WHOLE, nullable=False),
        sa.Column("value", _NUMBER),
        sa.Column("quality", _WHOLE, nullable=False),
        sa.Column("arrival", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "ts", name="pk_sample"),
        sa.ForeignKeyConstraint(["tag_id"], ["tag.id"], name="fk_sample_tag_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "last_value",
        sa.Column("tag_id", sa.Integer, nullable=False),
        sa.Column("ts", _WHOLE, nullable=False),
        sa.Column("value", _NUMBER),
        sa.Column("quality", _WHOLE, nullable=False),
        sa.Column("arrival", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("tag_id", name="pk_last_value"),
        sa.ForeignKeyConstraint(["tag_id"], ["tag.id"], name="fk_last_value_tag_id"),
        sqlite_strict=True,
    )
    op.create_table(
        "gap",
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sa.Column("started_at", _WHOLE, nullable=False),
        sa.Column("ended_at", _WHOLE),
        sa.Column("is_filled", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("plant", "tag", "started_at", name="pk_gap"),
        sa.CheckConstraint("is_filled IN (0, 1)", name="ck_gap_is_filled"),
        sqlite_strict=True,
    )


def _create_decisions() -> None:
    op.create_table(
        "proposal",
        sa.Column("proposal_id", sa.Text, nullable=False),
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("created_at", _WHOLE, nullable=False),
        sa.Column("expires_at", _WHOLE, nullable=False),
        sa.Column("open_until_wall", _WHOLE, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_reason", sa.Text, nullable=False),
        sa.Column("status_at", _WHOLE, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("benefit_per_h", _NUMBER),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("current_values", sa.Text, nullable=False),
        sa.Column("setpoints", sa.Text, nullable=False),
        sa.Column("binding", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("forecast", sa.Text),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("proposal_id", name="pk_proposal"),
        sqlite_strict=True,
    )
    op.create_index("ix_proposal_plant_created_at", "proposal", ["plant", "created_at"])
    op.create_index("ix_proposal_plant_status", "proposal", ["plant", "status"])
    op.create_table(
        "decision",
        sa.Column("proposal_id", sa.Text, nullable=False),
        sa.Column("is_accepted", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("decided_at", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("proposal_id", name="pk_decision"),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.proposal_id"], name="fk_decision_proposal_id"
        ),
        sa.CheckConstraint("is_accepted IN (0, 1)", name="ck_decision_is_accepted"),
        sqlite_strict=True,
    )
    op.create_table(
        "clearance",
        sa.Column("clearance_id", sa.Text, nullable=False),
        sa.Column("proposal_id", sa.Text, nullable=False),
        sa.Column("setpoints", sa.Text, nullable=False),
        sa.Column("issued_at", _WHOLE, nullable=False),
        sa.Column("expires_at", _WHOLE, nullable=False),
        sa.Column("used_at", _WHOLE),
        sa.PrimaryKeyConstraint("clearance_id", name="pk_clearance"),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.proposal_id"], name="fk_clearance_proposal_id"
        ),
        sqlite_strict=True,
    )
    op.create_table(
        "write_outcome",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("proposal_id", sa.Text, nullable=False),
        sa.Column("clearance_id", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("finished_at", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_write_outcome"),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.proposal_id"], name="fk_write_outcome_proposal_id"
        ),
        sa.ForeignKeyConstraint(
            ["clearance_id"], ["clearance.clearance_id"], name="fk_write_outcome_clearance_id"
        ),
        sa.CheckConstraint(
            "clearance_id IS NOT NULL OR status = 'refused'", name="ck_write_outcome_is_cleared"
        ),
        sqlite_strict=True,
    )
    op.create_index("ix_write_outcome_proposal_id", "write_outcome", ["proposal_id"])
    op.create_index(
        "ix_write_outcome_settled_once",
        "write_outcome",
        ["clearance_id"],
        unique=True,
        sqlite_where=sa.text("status <> 'unknown'"),
        postgresql_where=sa.text("status <> 'unknown'"),
    )
    op.create_table(
        "written_value",
        sa.Column("outcome_id", sa.Integer, nullable=False),
        sa.Column("mv", sa.Text, nullable=False),
        sa.Column("setpoint", _NUMBER),
        sa.Column("read_back", _NUMBER),
        sa.Column("is_read_back", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("outcome_id", "mv", name="pk_written_value"),
        sa.ForeignKeyConstraint(
            ["outcome_id"], ["write_outcome.id"], name="fk_written_value_outcome_id"
        ),
        sqlite_strict=True,
    )


def _create_operation() -> None:
    op.create_table(
        "stage",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("mv", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("decided_at", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stage"),
        sqlite_strict=True,
    )
    op.create_index("ix_stage_plant_mv", "stage", ["plant", "mv"])
    op.create_table(
        "event",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("at", _WHOLE, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sqlite_strict=True,
    )
    op.create_index("ix_event_plant_kind", "event", ["plant", "kind"])
    op.create_index("ix_event_plant_subject", "event", ["plant", "subject"])
    op.create_table(
        "process",
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("at", _WHOLE, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("plant", "name", name="pk_process"),
        sqlite_strict=True,
    )
    op.create_table(
        "model",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("plant", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("card", sa.Text, nullable=False),
        sa.Column("activated_at", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model"),
        sqlite_strict=True,
    )
    op.create_index("ix_model_plant", "model", ["plant"])


def _rules() -> list[Rule]:
    append_only = [
        Rule(f"{table}_never_{change.lower()}", change, table, f"{table} is append only")
        for table in ("event", "decision", "stage", "model", "write_outcome", "written_value")
        for change in ("UPDATE", "DELETE")
    ]
    replaced = [
        never_replaced(table, key)
        for table, key in (
            ("proposal", "proposal_id"),
            ("decision", "proposal_id"),
            ("clearance", "clearance_id"),
            ("write_outcome", "id"),
            ("stage", "id"),
            ("event", "id"),
            ("model", "id"),
        )
    ]
    return append_only + replaced + _rules_of_proposals() + _rules_of_writes()


def _rules_of_proposals() -> list[Rule]:
    return [
        Rule("proposal_never_delete", "DELETE", "proposal", "a proposal is kept for ever"),
        Rule(
            "proposal_only_status",
            "UPDATE OF proposal_id, plant, created_at, expires_at, open_until_wall, reason, "
            "benefit_per_h, model, current_values, setpoints, binding, plan, forecast, verdict",
            "proposal",
            "only the status of a proposal may change",
        ),
        Rule(
            "proposal_born",
            "INSERT",
            "proposal",
            "a new proposal is open, refused or shadow",
            when="NEW.status NOT IN ('open', 'refused', 'shadow')",
        ),
        Rule(
            "proposal_status_arrows",
            "UPDATE OF status",
            "proposal",
            "no such change of a proposal's status",
            when=f"NOT ({_is_arrow()})",
        ),
        Rule(
            "proposal_decided",
            "UPDATE OF status",
            "proposal",
            "a proposal is accepted or rejected by a decision only",
            when="NEW.status IN ('accepted', 'rejected') AND NOT EXISTS (SELECT 1 FROM decision "
            "WHERE proposal_id = NEW.proposal_id "
            "AND (is_accepted = 1) = (NEW.status = 'accepted'))",
        ),
        Rule(
            "decision_on_open",
            "INSERT",
            "decision",
            "the proposal is not open",
            when="NOT EXISTS (SELECT 1 FROM proposal "
            "WHERE proposal_id = NEW.proposal_id AND status = 'open')",
        ),
    ]


def _rules_of_writes() -> list[Rule]:
    return [
        Rule("clearance_never_delete", "DELETE", "clearance", "a clearance is kept for ever"),
        Rule(
            "clearance_for_accepted",
            "INSERT",
            "clearance",
            "a clearance is for an accepted proposal and starts unused",
            when="NEW.used_at IS NOT NULL OR NOT EXISTS (SELECT 1 FROM proposal "
            "WHERE proposal_id = NEW.proposal_id AND status = 'accepted')",
        ),
        Rule(
            "clearance_single_use",
            "UPDATE",
            "clearance",
            "a clearance is used once, before it expires, and never changed",
            when="OLD.used_at IS NOT NULL OR NEW.used_at IS NULL "
            "OR NEW.used_at >= OLD.expires_at OR NEW.clearance_id IS NOT OLD.clearance_id "
            "OR NEW.proposal_id IS NOT OLD.proposal_id OR NEW.setpoints IS NOT OLD.setpoints "
            "OR NEW.issued_at IS NOT OLD.issued_at OR NEW.expires_at IS NOT OLD.expires_at",
        ),
        Rule(
            "write_outcome_cleared",
            "INSERT",
            "write_outcome",
            "a write needs a used clearance of its own proposal",
            when="NEW.status <> 'refused' AND NOT EXISTS (SELECT 1 FROM clearance "
            "WHERE clearance_id = NEW.clearance_id AND proposal_id = NEW.proposal_id "
            "AND used_at IS NOT NULL)",
        ),
    ]


def _is_arrow() -> str:
    return " OR ".join(
        f"(OLD.status = '{before}' AND NEW.status IN ({', '.join(map(repr, after))}))"
        for before, after in _STATUS_ARROWS.items()
    )
