"""A tool of the tests: a plant of three tags and the records that one proposal leaves behind."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np

from twin.plant import OpcUaSource, Plant, Role, Security, Tag
from twin.records import (
    GOOD,
    Clearance,
    Decision,
    Forecast,
    Plan,
    PlanStatus,
    Proposal,
    ProposalStatus,
    Reading,
    Verdict,
    WriteOutcome,
    WriteStatus,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
LEVEL, DEMAND, PUMP = "tank.level", "tank.demand", "pump.setpoint"


def small_plant(name: str = "small", endpoint: str = "opc.tcp://127.0.0.1:4840/") -> Plant:
    """One level (last value counts), one demand (its mean counts), one pump."""
    return Plant(
        plant=name,
        title="Small",
        tags=(
            Tag(name=PUMP, role=Role.MV, unit="cm**3/s", node="p", max_age_s=120),
            Tag(name=LEVEL, role=Role.CV, unit="cm", node="l", max_age_s=60),
            Tag(name=DEMAND, role=Role.DV, unit="cm**3/s", node="d", aggregate="mean"),
        ),
        opcua=OpcUaSource(
            endpoint=endpoint, namespace="urn:test", security=Security(policy="None")
        ),
    )


def at(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def level(seconds: float, value: float | None, quality: int = GOOD, tag: str = LEVEL) -> Reading:
    """A reading taken `seconds` after noon that arrived one second later."""
    return Reading(tag, value, quality, at(seconds), at(seconds + 1))


def proposal(
    proposal_id: str = "p1",
    status: ProposalStatus = ProposalStatus.OPEN,
    seconds: float = 0,
    plant: str = "small",
) -> Proposal:
    """A proposal to move the pump from 5 to 5.125, with everything that is stored of it."""
    path = np.array([5.125, 5.25, math.nan])
    plan = Plan(
        status=PlanStatus.SOLVED,
        reason="solved in 12 iterations",
        start=at(seconds),
        step_s=60.0,
        moves={PUMP: path},
        predicted={LEVEL: path + 1},
        cost_per_h=0.1 + 0.2,
        hold_cost_per_h=math.nan,
        binding=("tank.level low",),
        solve_ms=12.5,
    )
    forecast = Forecast(
        start=at(seconds),
        step_s=60.0,
        model="physics",
        replications=50,
        seed=7,
        middle={LEVEL: path},
        low={LEVEL: path - 1},
        high={LEVEL: path + 1},
        cost_per_h=1 / 3,
        holding={LEVEL: path - 0.5},
    )
    is_clear = status is not ProposalStatus.REFUSED
    return Proposal(
        proposal_id=proposal_id,
        plant=plant,
        created_at=at(seconds),
        expires_at=at(seconds + 300),
        open_until_wall=at(seconds + 60.000001),
        current={PUMP: 5.0},
        setpoints={PUMP: 5.1250000000000001},
        plan=plan,
        forecast=forecast,
        verdict=Verdict(is_clear, () if is_clear else ("too fast",), at(seconds), {PUMP: 5.125}),
        status=status,
        reason="The price falls at 13:00 – wait",
        benefit_per_h=0.7,
        binding=("tank.level low",),
        model="physics",
    )


def accept(proposal_id: str = "p1", by: str = "Ada", is_accepted: bool = True) -> Decision:
    """A person's decision, 10 s after noon."""
    return Decision(proposal_id, is_accepted, by, "looks right", at(10))


def permission(clearance_id: str = "c1", proposal_id: str = "p1") -> Clearance:
    """The gate's permission, valid from 20 s to 50 s after noon."""
    return Clearance(clearance_id, proposal_id, {PUMP: 5.125}, at(20), at(50))


def outcome(
    status: WriteStatus = WriteStatus.VERIFIED,
    clearance_id: str | None = "c1",
    proposal_id: str = "p1",
) -> WriteOutcome:
    """How the write of 5.125 ended, 25 s after noon."""
    read_back = {PUMP: 5.125 if status is WriteStatus.VERIFIED else None}
    return WriteOutcome(proposal_id, clearance_id, status, {PUMP: 5.125}, read_back, "", at(25))
