"""Permission for one write: the decision's rows of the truth table, and the seal.

Whether the moves are safe is asked of `twin.safety.checking`; single use is the historian's part.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from twin.plant import Plant
from twin.records import Clearance, Decision, PlantState, Stage, Verdict
from twin.safety.checking import check
from twin.safety.context import CLOSED_LOOP_DECIDER, RULES, GateContext
from twin.safety.facts import is_zoned, number


def clear(
    plant: Plant,
    state: PlantState,
    proposal_id: str,
    setpoints: Mapping[str, float],
    context: GateContext,
    decision: Decision,
    now: datetime,
    lifetime_s: float = 30.0,
    *,
    nonce: Callable[[], str] = lambda: secrets.token_hex(16),
) -> Clearance | Verdict:
    """Permission to write exactly these setpoints until `now` + `lifetime_s`, or why not.

    `state` holds readings newer than the proposal's; every row of `check` is asked again on it.
    `decision.decided_at` is plant time like `now`. `nonce` supplies the unguessable part of the
    clearance's id.
    """
    reasons = [*_of_decision(plant, state, proposal_id, setpoints, context, decision, now)]
    lifetime = number(lifetime_s)
    if lifetime is None or not 0 < lifetime <= RULES.max_lifetime_s:
        reasons.append(
            f"A clearance of {lifetime_s} s was asked for; it lives more than 0 and at most "
            f"{RULES.max_lifetime_s:.0f} s. Ask for a shorter one."
        )
    reasons += check(plant, state, setpoints, context, now).reasons
    if reasons or lifetime is None:
        return Verdict(False, tuple(reasons), now, dict(setpoints))
    token = nonce()
    targets = {mv: float(value) for mv, value in setpoints.items()}
    unsealed = Clearance(token, proposal_id, targets, now, now + timedelta(seconds=lifetime))
    sealed_id = f"{token}.{_seal(token, unsealed)}"
    return Clearance(sealed_id, proposal_id, targets, now, unsealed.expires_at)


def is_genuine(clearance: Clearance, now: datetime) -> bool:
    """Whether this process's `clear` made exactly this clearance and it has not expired.

    Single use is the historian's part. `now` is plant time as in `clear`.
    """
    if not is_zoned(now):
        return False
    token, _, seal = clearance.clearance_id.rpartition(".")
    expected = _seal(token, clearance)
    if not hmac.compare_digest(seal.encode(errors="replace"), expected.encode()):
        return False
    return clearance.issued_at <= now < clearance.expires_at


def _of_decision(
    plant: Plant,
    state: PlantState,
    proposal_id: str,
    setpoints: Mapping[str, float],
    context: GateContext,
    decision: Decision,
    now: datetime,
) -> Iterator[str]:
    if not proposal_id or decision.proposal_id != proposal_id:
        yield (
            f"The decision is about proposal {decision.proposal_id!r}, the write about "
            f"{proposal_id!r}. Decide about this proposal."
        )
    by = decision.by.strip()
    if decision.is_accepted is not True:
        yield f"{by or 'Nobody'} has not accepted this proposal. Only accepted ones are written."
    if not by:
        yield "The decision does not say who took it. Sign in and decide again."
    yield from _of_decision_time(plant, state, decision.decided_at, now)
    is_by_stage = by.casefold() == CLOSED_LOOP_DECIDER
    for mv in setpoints:
        stage = context.stages.get(mv)
        if stage is Stage.SHADOW:
            yield f"{mv} is in shadow: computed only. Move it to advisory to write it."
        elif is_by_stage and stage is not Stage.CLOSED_LOOP:
            yield f"{mv} is not in closed loop, so a person must accept this proposal."
    if is_by_stage and not plant.is_on_this_machine:
        endpoint = plant.opcua.endpoint if plant.opcua is not None else "no endpoint"
        yield (
            f"Closed loop is allowed against a loopback emulator only, not {endpoint}. "
            "A person must accept this proposal."
        )


def _of_decision_time(
    plant: Plant, state: PlantState, decided_at: datetime, now: datetime
) -> Iterator[str]:
    if not (is_zoned(decided_at) and is_zoned(now) and is_zoned(state.at)):
        yield f"The time of the decision ({decided_at}) cannot be compared. Decide again."
        return
    age_s = (now - decided_at).total_seconds()
    if not -plant.step_s <= age_s <= plant.proposal_open_s:
        yield (
            f"The decision is {age_s:.0f} s old; it counts for {plant.proposal_open_s:.0f} s and "
            f"is at most {plant.step_s:.0f} s ahead of now. Decide on a newer proposal."
        )
    behind_s = (decided_at - state.at).total_seconds()
    if behind_s > plant.step_s:
        yield f"The readings are {behind_s:.0f} s older than the decision. Read the plant again."


# A seal that only this process can make, so that no clearance comes from anywhere else.
_KEY = secrets.token_bytes(32)


def _seal(token: str, clearance: Clearance) -> str:
    fields = [
        token,
        clearance.proposal_id,
        sorted((mv, float(value).hex()) for mv, value in clearance.setpoints.items()),
        clearance.issued_at.astimezone(UTC).isoformat(),
        clearance.expires_at.astimezone(UTC).isoformat(),
    ]
    return hmac.new(_KEY, json.dumps(fields).encode(), hashlib.sha256).hexdigest()
