"""`propose`, `accept`, `reject`, `give-back`, `stage`: the computer asks, a person answers."""

from __future__ import annotations

from typing import Annotated

import typer

from dashboard.cli.door import refuse, tell
from dashboard.cli.options import (
    ByOption,
    DatabaseOption,
    JsonOption,
    MvArgument,
    OptionalMvArgument,
    PlantArgument,
    ProposalArgument,
    ReasonOption,
    opened,
    plant_now,
    until_told,
)
from twin.clock import wall_now
from twin.errors import RecordUnreadable, UsageError
from twin.plant import Role
from twin.records import Stage


def propose(
    plant: PlantArgument,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
    repeat: Annotated[bool, typer.Option(help="Once per plant step, until stopped.")] = False,
) -> None:
    """Plan once and store the proposal.

    From what the database knows; nothing is written to the plant.
    """
    from dashboard.workers.planner import plan_once, run_planner

    if repeat:
        until_told(plant, database, as_json, run_planner)
        return
    found, settings, historian = opened(plant, database)
    with historian:
        if historian.newest(found) is None:
            text = f"No reading of {found.plant} is stored yet. Run `plantwright collect {plant}`."
            refuse(as_json, {"proposal": None, "reason": text}, text)
        planned = plan_once(found, settings, historian)
    new = planned.proposal
    if new is None:
        text = f"No proposal: {planned.reason.rstrip('.')}."
        if planned.refusals:
            refuse(as_json, {"proposal": None, "reason": text}, text)
        tell(as_json, {"proposal": None, "reason": text}, text)
        return
    moves = {mv: {"from": new.current.get(mv), "to": to} for mv, to in new.setpoints.items()}
    record = {
        "proposal": new.proposal_id,
        "status": new.status.value,
        "setpoints": moves,
        "benefit_per_h": new.benefit_per_h,
        "reason": new.reason,
        "refused_because": list(new.verdict.reasons),
    }
    lines = [f"{new.proposal_id} ({new.status}): {new.reason}"]
    lines += [f"  {mv}: {move['from']} → {move['to']}" for mv, move in moves.items()]
    lines += [f"  The gate refuses: {reason}" for reason in new.verdict.reasons]
    tell(as_json, record, "\n".join(lines))
    if new.verdict.reasons:
        raise typer.Exit(1)


def accept(
    plant: PlantArgument,
    proposal: ProposalArgument,
    by: ByOption,
    reason: ReasonOption = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept an open proposal.

    The writing process then asks the gate again and writes it.
    """
    _decide(plant, proposal, True, by, reason, database, as_json)


def reject(
    plant: PlantArgument,
    proposal: ProposalArgument,
    by: ByOption,
    reason: ReasonOption,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject an open proposal and say why."""
    _decide(plant, proposal, False, by, reason, database, as_json)


def _decide(
    name: str,
    proposal_id: str,
    is_accepted: bool,
    by: str,
    reason: str,
    database: str | None,
    as_json: bool,
) -> None:
    from dashboard.facts import read_facts
    from dashboard.view.advice import standing
    from twin.records import Decision

    plant, _, historian = opened(name, database)
    verb = "accepted" if is_accepted else "rejected"
    with historian:
        try:
            found = historian.proposal(proposal_id)
        except RecordUnreadable as fault:
            record = {"proposal": proposal_id, "done": False, "reason": str(fault)}
            refuse(as_json, record, f"{proposal_id} was not {verb}. {fault}")
        if found is None:
            raise UsageError(f"{proposal_id!r}: no such proposal. See `plantwright status {name}`.")
        facts = read_facts(historian, plant, wall_now())
        stands = standing(found, facts.now, facts.wall_now)
        refusal = None if stands.is_open else stands.reason
        if refusal is None:
            taken = Decision(proposal_id, is_accepted, by, reason, facts.now)
            decided = historian.decide(taken)
            refusal = None if decided.is_taken else decided.reason
    record = {"proposal": proposal_id, "done": refusal is None, "reason": refusal or ""}
    if refusal is not None:
        refuse(as_json, record, f"{proposal_id} was not {verb}. {refusal}")
    tell(as_json, record, f"{proposal_id} is {verb}.")


def give_back(
    plant: PlantArgument,
    mv: MvArgument,
    by: ByOption,
    reason: ReasonOption,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for an MV to be given back to the PLC.

    The writing process does it, also while stopped. From closed loop the MV goes to advisory.
    """
    found, _, historian = opened(plant, database)
    with historian:
        if found.tag(mv).role is not Role.MV:
            raise UsageError(f"{mv} is not an MV; only MVs are given back.")
        refusal = historian.ask_back(found, mv, by, reason, plant_now(found, historian))
        at = historian.stage(found).get(mv)
    record = {"mv": mv, "done": refusal is None, "reason": refusal or "", "stage": at}
    if refusal is not None:
        refuse(as_json, record, refusal)
    tell(as_json, record, f"Asked: the writing process gives {mv} back to the PLC.")


def stage(
    plant: PlantArgument,
    mv: OptionalMvArgument = None,
    to: Annotated[Stage | None, typer.Argument(help="The stage to set.")] = None,
    by: ByOption = "",
    reason: ReasonOption = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or set how far each MV is trusted.

    Shadow: computed only. Advisory: a person accepts. Closed loop: written by itself.
    """
    found, _, historian = opened(plant, database)
    with historian:
        refusal = None
        if mv is not None and found.tag(mv).role is not Role.MV:
            raise UsageError(f"{mv} is not an MV; only MVs have a stage.")
        if mv is not None and to is not None:
            now = plant_now(found, historian)
            refusal = historian.set_stage(found, mv, to, by, reason, now)
        stages = {name: at.value for name, at in historian.stage(found).items()}
    record = {"stages": stages, "refused": refusal}
    if refusal is not None:
        refuse(as_json, record, f"{refusal} Give --by and --reason." if not by else refusal)
    shown = [f"{name}: {at}" for name, at in stages.items() if mv in (None, name)]
    tell(as_json, record, "\n".join(shown))
