"""What a proposal says to the person who decides, and where it stands at this moment.

A proposal can be accepted only while `standing` says so; the historian judges again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dashboard.view import text
from dashboard.view.kinds import is_planned
from dashboard.view.tags import Level, Word
from twin.historian import Unreadable
from twin.plant import Plant, Role, Tag
from twin.records import (
    Decision,
    PlantState,
    Proposal,
    ProposalStatus,
    WriteOutcome,
    WriteStatus,
)

#: Reasons a person can pick for a rejection; the last one asks for own words.
OTHER_REASON = "Other (say which)"
REJECT_REASONS = (
    "The plant needs something else now",
    "Does not fit the production plan",
    "Maintenance or test in progress",
    "A reading looks wrong",
    "The limits are out of date",
    "The move is too large",
    "The forecast is not believable",
    OTHER_REASON,
)


#: What an accepted proposal waits for.
NOT_YET_WRITTEN = "The gate looks again at fresh readings; then it is written."


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a proposal can be decided now, why not, and how long it stays open."""

    is_open: bool
    reason: str
    left_wall_s: float
    left_plant_s: float


@dataclass(frozen=True, slots=True)
class MoveRow:
    """One MV of a proposal: where it stands now, where it should go.

    `when_made` says where it stood when the proposal was made, if it has moved since; else "".
    """

    name: str
    description: str
    unit: str
    current: str
    proposed: str
    change: str
    when_made: str


@dataclass(frozen=True, slots=True)
class PastRow:
    """One line of the proposals' history. `words` is status, then write outcome if any.

    `reason` is the person's; `ended` says what came of it: a write's result, why it was refused
    or why it is over.
    """

    proposal_id: str
    created: str
    moves: str
    benefit: str
    words: tuple[Word, ...]
    by: str
    reason: str
    ended: str


def standing(proposal: Proposal, plant_now: datetime, wall_now: datetime) -> Standing:
    """Where a proposal stands at this moment of the plant and of the person."""
    left_wall_s = (proposal.open_until_wall - wall_now).total_seconds()
    left_plant_s = (proposal.expires_at - plant_now).total_seconds()
    reason = ""
    if not proposal.verdict.is_clear:
        reason = "The safety gate refused it: it cannot be accepted."
    elif proposal.status is ProposalStatus.SHADOW:
        reason = "It is in shadow: computed only, for nobody to decide."
    elif proposal.status is not ProposalStatus.OPEN:
        over = f"It is {proposal.status.value}: it cannot be decided any more."
        reason = f"{over} {proposal.status_reason}".rstrip()
    elif left_wall_s <= 0 or left_plant_s <= 0:
        reason = "It has expired. Wait for the next proposal."
    elif not proposal.setpoints:
        reason = "It moves nothing: there is nothing to accept."
    return Standing(not reason, reason, max(0.0, left_wall_s), max(0.0, left_plant_s))


def figures(plant: Plant, proposal: Proposal, stands: Standing) -> list[tuple[str, Word, str]]:
    """Benefit, cost on both ways, time left: label, value, small print."""
    currency = plant.economics.currency if plant.economics else ""
    left = (
        Word(text.duration(stands.left_wall_s)) if stands.is_open else status_word(proposal.status)
    )
    if not stands.is_open and proposal.status is ProposalStatus.OPEN:
        left = Word("EXPIRED", Level.ATTENTION, stands.reason)
    ends, left_plant = text.clock_time(proposal.expires_at, plant), stands.left_plant_s
    until = f"until {ends} plant time ({text.duration(left_plant)})"
    made = text.date_time(proposal.created_at, plant)
    benefit = proposal.benefit_per_h
    label = "Costs more than holding" if benefit < 0 else "Saves against holding"
    plan, held = proposal.plan.cost_per_h, proposal.plan.hold_cost_per_h
    return [
        (label, Word(text.money(abs(benefit), currency)), f"holding: {holding(plant)}"),
        (
            f"Expected cost, next {horizon(plant)}",
            Word(text.money(plan, currency)),
            f"if every move of the plan follows; holding: {text.money(held, currency)}",
        ),
        ("Open for", left, until) if stands.is_open else ("It is", left, f"made {made}"),
        ("Model", Word(proposal.model), f"plan {proposal.plan.status.value}"),
    ]


def holding(plant: Plant) -> str:
    """What a saving is measured against, in words: no PLC in AUTO would hold for so long."""
    mvs = plant.with_role(Role.MV)
    kept = {1: "the setpoint", 2: "both setpoints"}.get(len(mvs), "all setpoints")
    yardstick = f"{kept} kept for {horizon(plant)}"
    if not any(mv.remote for mv in mvs):
        return yardstick
    return f"{yardstick}; the PLC in AUTO would move {'it' if len(mvs) == 1 else 'them'}"


def horizon(plant: Plant) -> str:
    """How far a plan looks, in the minutes it is planned in: "60 min"."""
    return f"{plant.horizon_steps * plant.step_s / 60:g} min"


def why(proposal: Proposal) -> str:
    """The planner's reason, then the limits the plan touches where it does not name them."""
    touched = ", ".join(proposal.binding)
    if not touched or touched in proposal.reason:
        return proposal.reason
    return f"{proposal.reason}\nLimits the plan touches: {touched}."


def no_proposal(plant: Plant, has_readings: bool, is_starting: bool) -> str:
    """What to do while there is no proposal."""
    if not is_planned(plant):
        return (
            f"{plant.plant} is collected and shown, not planned: planning needs the plant's "
            "equations. Write a physics.py and name it as `physics` in the plant file."
        )
    if is_starting:
        return "The processes are starting; the first proposal follows the first readings."
    if not has_readings:
        return "There are no readings yet; planning starts with them. Is `collect` running?"
    return "Planning starts once the plant's state is known. Is the planner alive (see Overview)?"


def ended(proposal: Proposal, stands: Standing) -> tuple[str, str]:
    """What stands where the buttons were: how the proposal ended, and why."""
    why = proposal.status_reason
    return {
        ProposalStatus.ACCEPTED: ("Accepted", NOT_YET_WRITTEN),
        ProposalStatus.REJECTED: ("Rejected", why),
        ProposalStatus.WRITTEN: ("Written to the plant", why),
        ProposalStatus.FAILED: ("The write failed", why),
    }.get(proposal.status, ("It cannot be decided", stands.reason))


def rejection(picked: str | None, words: str) -> str:
    """The reason kept with a rejection; empty where none was given."""
    if picked is None or picked == OTHER_REASON:
        return words
    return f"{picked}: {words}" if words else picked


def move_rows(plant: Plant, proposal: Proposal, state: PlantState) -> list[MoveRow]:
    """A row for every MV, from where it stands now: proposed moves first, then those that stay."""
    rows = []
    for tag in plant.with_role(Role.MV):
        current, proposed = state.value(tag.name), proposal.setpoints.get(tag.name)
        change = "stays"
        if proposed is not None:
            change = text.signed(None if current is None else proposed - current, tag.decimals)
        row = MoveRow(
            tag.name,
            tag.description,
            tag.unit,
            text.number(current, tag.decimals),
            text.number(proposed if proposed is not None else current, tag.decimals),
            change,
            _when_made(plant, proposal, tag, current),
        )
        rows.append(row)
    return sorted(rows, key=lambda row: row.change == "stays")


def _when_made(plant: Plant, proposal: Proposal, tag: Tag, current: float | None) -> str:
    """Where the MV stood when the proposal was made; "" where it has not moved since."""
    before = proposal.current.get(tag.name)
    if current is None or before is None:
        return ""
    if abs(current - before) <= (tag.write_tolerance or 0.0):
        return ""
    made = text.clock_time(proposal.created_at, plant)
    return f"{text.number(before, tag.decimals)} when it was made, {made}"


def moves_in_words(plant: Plant, proposal: Proposal) -> str:
    """The moves in one line, from where it was made: "pump_1.setpoint 8.81 → 9.35"."""
    parts = []
    for name, proposed in proposal.setpoints.items():
        decimals = plant.tag(name).decimals
        current = text.number(proposal.current.get(name), decimals)
        # Unbreakable blanks: a narrow column parts MVs, not a name from its numbers.
        parts.append(f"{name} {current} → {text.number(proposed, decimals)}".replace(" ", "\u00a0"))
    return ", ".join(parts) or "no move"


def status_word(status: ProposalStatus) -> Word:
    """A proposal's status; coloured where something was refused or failed."""
    level = {
        ProposalStatus.FAILED: Level.ALARM,
        ProposalStatus.REFUSED: Level.ATTENTION,
    }.get(status, Level.CALM)
    return Word(status.value.upper(), level)


def outcome_word(outcome: WriteOutcome) -> Word:
    """How a write ended; anything but VERIFIED is coloured."""
    level = {
        WriteStatus.VERIFIED: Level.CALM,
        WriteStatus.REFUSED: Level.ATTENTION,
    }.get(outcome.status, Level.ALARM)
    return Word(f"WRITE {outcome.status.value.upper()}", level, outcome.reason)


def past_rows(
    plant: Plant,
    proposals: Iterable[Proposal | Unreadable],
    decisions: Mapping[str, Decision],
    outcomes: Iterable[WriteOutcome],
) -> list[PastRow]:
    """The newest proposals with what became of them, in the order given."""
    newest_outcome: dict[str, WriteOutcome] = {}
    for outcome in sorted(outcomes, key=lambda o: o.finished_at):
        newest_outcome[outcome.proposal_id] = outcome
    currency = plant.economics.currency if plant.economics else ""
    rows = []
    for proposal in proposals:
        if isinstance(proposal, Unreadable):
            rows.append(_unreadable_row(proposal))
            continue
        decision = decisions.get(proposal.proposal_id)
        written = newest_outcome.get(proposal.proposal_id)
        words = [status_word(proposal.status)]
        if written is not None:
            words.append(outcome_word(written))
        row = PastRow(
            proposal_id=proposal.proposal_id,
            created=text.date_time(proposal.created_at, plant),
            moves=moves_in_words(plant, proposal),
            benefit=text.money(proposal.benefit_per_h, currency),
            words=tuple(words),
            by=decision.by if decision is not None else text.NOTHING,
            reason=(decision.reason if decision is not None else "") or text.NOTHING,
            ended=text.told(_ended(proposal, decision, written), plant),
        )
        rows.append(row)
    return rows


def _unreadable_row(damaged: Unreadable) -> PastRow:
    word = Word("UNREADABLE", Level.ATTENTION, damaged.why)
    none = text.NOTHING
    return PastRow(damaged.key, none, none, none, (word,), none, none, ended=damaged.why)


def written_setpoints(outcomes: Iterable[WriteOutcome]) -> dict[str, float]:
    """What we last wrote to each MV and read back as written."""
    verified: dict[str, float] = {}
    for outcome in sorted(outcomes, key=lambda o: o.finished_at):
        if outcome.status is WriteStatus.VERIFIED:
            verified.update(outcome.setpoints)
    return verified


def _ended(proposal: Proposal, decision: Decision | None, written: WriteOutcome | None) -> str:
    """What came of it: the write's result, the gate's refusal, or why it is over."""
    if written is not None and written.reason:
        return written.reason
    if not proposal.verdict.is_clear:
        return " ".join(proposal.verdict.reasons)
    is_persons = decision is not None and proposal.status_reason == decision.reason
    return text.NOTHING if is_persons else proposal.status_reason or text.NOTHING
