"""Requests to the gate for its tests: one healthy case to break, and random ones of every kind.

Random numbers lie on coarse binary grids (quarters, multiples of 15 s) and often exactly on a
boundary, so that floats are exact and an oracle with fractions must agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from twin.plant import Plant, Role, Tag
from twin.records import BAD, GOOD, Clearance, Decision, PlantState, Stage, TagState, Verdict
from twin.safety import NEVER_MOVED, GateContext, Trust, check, clear

PAGE = Path(__file__).parents[1] / "docs" / "decisions" / "0003-gate-truth-table.md"
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
NAIVE = datetime(2025, 6, 1, 12)  # noqa: DTZ001 – without a zone is what it is for
BROKEN = (None, float("nan"), float("inf"), float("-inf"))


def seconds(count: float) -> timedelta:
    """`count` seconds."""
    return timedelta(seconds=count)


@dataclass(frozen=True)
class Case:
    """Everything the gate is asked with."""

    plant: Plant
    state: PlantState
    setpoints: dict[str, Any]
    context: GateContext
    now: datetime
    proposal_id: str
    decision: Decision
    lifetime_s: float

    def check(self) -> Verdict:
        """The gate's answer to the move."""
        return check(self.plant, self.state, self.setpoints, self.context, self.now)

    def clear(self) -> Clearance | Verdict:
        """The gate's answer to the write."""
        return clear(
            self.plant,
            self.state,
            self.proposal_id,
            self.setpoints,
            self.context,
            self.decision,
            self.now,
            self.lifetime_s,
        )

    def cleared(self) -> Clearance:
        """The clearance of a case that is known to be fine."""
        answer = self.clear()
        assert isinstance(answer, Clearance), answer.reasons
        return answer

    def with_tag(self, name: str, **changes: Any) -> Case:
        """The same with another plant file entry for a tag."""
        tags = tuple(replace(t, **changes) if t.name == name else t for t in self.plant.tags)
        return replace(self, plant=replace(self.plant, tags=tags))

    def with_plant(self, **changes: Any) -> Case:
        """The same with another plant file."""
        return replace(self, plant=replace(self.plant, **changes))

    def with_reading(self, name: str, **changes: Any) -> Case:
        """The same with another reading of a tag."""
        tags = {**self.state.tags, name: replace(self.state.tags[name], **changes)}
        return replace(self, state=replace(self.state, tags=tags))

    def with_extra(self, name: str, value: float) -> Case:
        """The same with one more auxiliary tag, and a fresh, good reading of it."""
        tag = Tag(name=name, role=Role.AUX, unit="cm")
        told = TagState(value, GOOD, self.state.at - seconds(10), 10.0, 10.0, True)
        state = replace(self.state, tags={**self.state.tags, name: told})
        return replace(self.with_plant(tags=(*self.plant.tags, tag)), state=state)

    def without_reading(self, name: str) -> Case:
        """The same with a tag that was never read."""
        tags = {tag: told for tag, told in self.state.tags.items() if tag != name}
        return replace(self, state=replace(self.state, tags=tags))

    def with_context(self, **changes: Any) -> Case:
        """The same with another context."""
        return replace(self, context=replace(self.context, **changes))

    def with_decision(self, **changes: Any) -> Case:
        """The same with another decision."""
        return replace(self, decision=replace(self.decision, **changes))


@dataclass
class Draft:
    """A case while it is still being made up."""

    tags: dict[str, dict[str, Any]] = field(default_factory=dict)
    readings: dict[str, dict[str, Any]] = field(default_factory=dict)
    interlocks: list[dict[str, Any]] = field(default_factory=list)
    plant: dict[str, Any] = field(default_factory=lambda: {"plant": "works", "title": "Works"})
    setpoints: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)
    state_plant: str = "works"
    at: datetime = NOON
    now: datetime = NOON
    proposal_id: str = "p1"
    lifetime_s: float = 30.0

    def add(self, name: str, role: Role, value: float, **entry: Any) -> None:
        """A tag with a fresh, good reading."""
        self.tags[name] = {"name": name, "role": role, "unit": "cm", **entry}
        self.readings[name] = {"value": value}

    def case(self) -> Case:
        """The finished case; what was not said is healthy."""
        tags = tuple(Tag(**entry) for entry in self.tags.values())
        mvs = [tag.name for tag in tags if tag.role is Role.MV]
        context = {
            "stages": dict.fromkeys(mvs, Stage.ADVISORY),
            "trust": Trust(0.9, 60),
            "travel_last_h": dict.fromkeys(mvs, 0.0),
            "last_moved_at": dict.fromkeys(mvs, NEVER_MOVED),
            "is_stopped": False,
            **self.context,
        }
        decision = {
            "proposal_id": "p1",
            "is_accepted": True,
            "by": "night shift",
            "reason": "looks right",
            "decided_at": self.now - seconds(15),
            **self.decision,
        }
        return Case(
            plant=Plant(tags=tags, interlocks=tuple(self.interlocks), **self.plant),
            state=PlantState(self.state_plant, self.at, {n: self._told(n) for n in self.readings}),
            setpoints=self.setpoints,
            context=GateContext(**context),
            now=self.now,
            proposal_id=self.proposal_id,
            decision=Decision(**decision),
            lifetime_s=self.lifetime_s,
        )

    def _told(self, name: str) -> TagState:
        told = {"quality": GOOD, "source_age_s": 10.0, "arrival_age_s": 10.0, "is_usable": True}
        told |= self.readings[name]
        if "source_time" not in told:
            told["source_time"] = self.at - seconds(told["source_age_s"])
        return TagState(**told)


def healthy() -> Case:
    """Two valves and two levels, all well; each may move from 5 cm by up to 2 cm."""
    draft = Draft()
    draft.plant |= {
        "opcua": {"endpoint": "opc.tcp://127.0.0.1:4840/works", "namespace": "urn:works"},
        "proposal_open_s": 300,
    }
    for valve, level in (("inlet", "tank"), ("outlet", "sump")):
        draft.add(
            f"{valve}.setpoint",
            Role.MV,
            5.0,
            engineering={"low": 0, "high": 10},
            operator={"low": 1, "high": 9},
            rate_limit_per_min=2,
            move_budget_per_h=20,
            requires=(f"{level}.level", f"{valve}.setpoint"),
            relief=(
                {"cv": f"{level}.level", "side": "low", "direction": "up"},
                {"cv": f"{level}.level", "side": "high", "direction": "down"},
            ),
            max_age_s=120,
        )
        limits = {"engineering": {"low": 0, "high": 20}, "operator": {"low": 2, "high": 18}}
        draft.add(f"{level}.level", Role.CV, 10.0, **limits)
    draft.add("sky.cover", Role.AUX, 0.5)
    draft.interlocks = [
        {
            "name": "tank nearly full",
            "when": "tank.level > 19 or tank.level < 1",
            "blocks": ("inlet.setpoint",),
            "message": "The inlet is left to the PLC.",
        }
    ]
    draft.setpoints = {"inlet.setpoint": 6.0, "outlet.setpoint": 4.0}
    return draft.case()


# Random cases ------------------------------------------------------------------------------


def random_case(r: Random) -> Case:
    """A random plant with a random request; about half of them deserve a yes."""
    draft = Draft()
    step_s = r.choice((30, 60, 60, 120))
    every = r.choice((1, 1, 1, 5))
    round_s = step_s * every
    draft.plant |= {"step_s": step_s, "plan_every_steps": every, "proposal_open_s": 300}
    draft.plant["opcua"] = {"endpoint": "opc.tcp://127.0.0.1:4840", "namespace": "urn:works"}
    cvs = [f"level_{i}.value" for i in range(r.randint(1, 3))]
    for cv in cvs:
        _add_cv(r, draft, cv)
    draft.add("sky.cover", Role.AUX, 0.5)
    draft.context = {"stages": {}, "travel_last_h": {}, "last_moved_at": {}, "is_stopped": False}
    draft.context["trust"] = Trust(r.choice((0.75, 0.9, 1.0)), r.choice((30, 200)))
    mvs = [f"valve_{i}.setpoint" for i in range(r.randint(1, 3))]
    for mv in mvs:
        _add_mv(r, draft, mv, cvs, round_s)
    for mv in mvs[1:]:
        if r.random() < 0.4:
            del draft.setpoints[mv]
    if r.random() < 0.5:
        low_side = f"{cvs[0]} < {r.choice((-8, -7))}"
        draft.interlocks = [
            {
                "name": "edge",
                "when": r.choice((f"{cvs[-1]} > 27", f"{cvs[-1]} > 27 or {low_side}", low_side)),
                "blocks": tuple(r.sample(mvs, r.randint(1, len(mvs)))),
                "message": "Near its edge.",
            }
        ]
    if r.random() < 0.2:
        draft.decision["by"] = "closed loop"
        draft.context["stages"] = dict.fromkeys(mvs, Stage.CLOSED_LOOP)
    for _ in range(r.choice((0, 0, 0, 0, 0, 1, 1, 1, 2))):
        r.choice(FAULTS)(r, draft)
    return draft.case()


def _quarter(r: Random, low: int, high: int) -> float:
    return r.randint(4 * low, 4 * high) / 4


def _add_cv(r: Random, draft: Draft, name: str) -> None:
    low, high = _quarter(r, -4, 4), _quarter(r, 12, 20)
    value = r.choice((low, high, *(8.0,) * 10, low - 0.25, high + 0.25))
    pairs: dict[str, Any] = {"operator": {"low": low, "high": high}}
    if r.random() < 0.8:
        pairs["engineering"] = {"low": low - 5, "high": high + 5}
    draft.add(name, Role.CV, value, max_age_s=r.choice((60, 120)), **pairs)


def _add_mv(r: Random, draft: Draft, name: str, cvs: list[str], round_s: int) -> None:
    low, high = _quarter(r, -8, 0), _quarter(r, 8, 16)
    operator: dict[str, float] | None = {"low": low + _quarter(r, 0, 2)}
    operator["high"] = high - _quarter(r, 0, 2)
    present = r.choice((operator["low"], operator["high"], *(4.0,) * 9, high, low))
    if r.random() < 0.1:
        operator = r.choice((None, {"low": operator["low"]}, {"high": operator["high"]}))
    rate, since_s = r.randint(1, 16) / 4, 15 * r.choice((0, 1, 2, 3, 4, 4, 5, 8, 8, 8, 40))
    room = rate * min(round_s, since_s) / 60
    sign = (
        r.choice((-1, 1)) if present == 4.0 else r.choice((-1, 1, 1)) * (1 if present < 4 else -1)
    )
    size = r.choice((0.0, *(room,) * 5, *(room / 2,) * 5, room + 0.25))
    budget = _quarter(r, 8, 40)
    travel = r.choice((*(0.0,) * 5, budget / 2, max(0.0, budget - size), budget - size + 0.25))
    needed = tuple(r.sample(cvs, r.randint(0, len(cvs))))
    relief = [
        {"cv": cv, "side": side, "direction": r.choice(("up", "down"))}
        for cv in cvs
        for side in ("low", "high")
        if r.random() < 0.5
    ]
    draft.add(
        name,
        Role.MV,
        present,
        engineering={"low": low, "high": high},
        operator=operator,
        rate_limit_per_min=rate,
        move_budget_per_h=budget,
        requires=needed,
        relief=tuple(relief),
        max_age_s=r.choice((60, 120)),
    )
    draft.setpoints[name] = present + sign * size
    _add_plc(r, draft, name, present, sign)
    draft.context["stages"][name] = r.choice((*Stage, *(Stage.ADVISORY,) * 12))
    draft.context["travel_last_h"][name] = travel
    never = r.random() < 0.1 and since_s >= round_s
    draft.context["last_moved_at"][name] = NEVER_MOVED if never else NOON - seconds(since_s)


def _add_plc(r: Random, draft: Draft, name: str, present: float, sign: int) -> None:
    """Where the PLC has them: a mode, the setpoint it really uses, its word on wind-up."""
    entry, loop = draft.tags[name], name.removesuffix(".setpoint")
    if r.random() < 0.5:
        draft.add(f"{loop}.mode", Role.AUX, r.choice((*(0.0, 1.0) * 10, 2.0, 0.5)))
        entry["remote"] = {"tag": f"{loop}.mode"}
    if r.random() < 0.3:  # our own setpoint stands somewhere else then
        draft.add(f"{loop}.used", Role.AUX, present)
        entry["downstream"] = f"{loop}.used"
        draft.readings[name] = {"value": r.choice((present, -30.0, 30.0))}
    if r.random() < 0.3:
        relieved = 1.0 if sign > 0 else 2.0
        draft.add(
            f"{loop}.limit", Role.AUX, r.choice((*(0.0, relieved) * 8, 1.0, 2.0, 3.0, 4.0, 1.5))
        )
        entry["windup"] = {"tag": f"{loop}.limit"}


def _any_mv(r: Random, draft: Draft) -> str:
    return r.choice([name for name, tag in draft.tags.items() if tag["role"] is Role.MV])


def _break_context(r: Random, draft: Draft) -> None:
    key = r.choice(("stages", "travel_last_h", "last_moved_at"))
    known = dict(draft.context[key])
    mv = _any_mv(r, draft)
    if key == "travel_last_h":
        known[mv] = r.choice((*BROKEN, -0.25))
    elif key == "last_moved_at" and r.random() < 0.7:
        known[mv] = r.choice((None, NOON + seconds(15), datetime(2025, 6, 1)))  # noqa: DTZ001 – no zone
    else:
        known.pop(mv, None)
    draft.context[key] = known


def _break_reading(r: Random, draft: Draft) -> None:
    name = r.choice(list(draft.tags))
    faults: tuple[dict[str, Any], ...] = (
        {"value": r.choice(BROKEN)},
        {"is_usable": False, "reason": "frozen."},
        {"quality": r.choice((BAD, 0x4000_0000))},
        {"source_time": None},
        {"source_age_s": r.choice((60.0, 61.0, 120.0, 121.0, -45.0, -200.0))},
        {"arrival_age_s": r.choice((60.0, 61.0, 120.0, 121.0, float("inf")))},
    )
    fault = r.choice((*faults, None))
    if fault is None:
        draft.readings.pop(name, None)
    elif name in draft.readings:
        draft.readings[name] |= fault


def _break_setpoint(r: Random, draft: Draft) -> None:
    mv = _any_mv(r, draft)
    limits = draft.tags[mv]["engineering"]
    edges = [] if limits is None else [limits["low"] - 0.25, limits["high"] + 0.25]
    draft.setpoints[mv] = r.choice((*BROKEN, "5", True, *edges, *edges))


def _break_plant(r: Random, draft: Draft) -> None:
    keys = ("engineering", "rate_limit_per_min", "move_budget_per_h", "operator")
    key = r.choice(keys)
    crossed = {"low": 9.0, "high": 3.0}
    draft.tags[_any_mv(r, draft)][key] = crossed if key == "operator" else None


def _break_request(r: Random, draft: Draft) -> None:
    kind = r.randint(0, 6)
    if kind == 0:
        draft.context["is_stopped"] = r.choice((None, True))
    elif kind == 1:
        draft.state_plant = "other works"
    elif kind == 2:
        draft.setpoints = r.choice(({}, {"level_0.value": 8.0}, {"nobody": 1.0}))
    elif kind == 3:
        trusts = (None, Trust(None, 60), Trust(0.74, 60), Trust(0.9, 29), Trust(1.1, 60))
        draft.context["trust"] = r.choice((*trusts, Trust(float("nan"), 60)))
    elif kind == 4:
        draft.at = NOON + seconds(r.choice((15, 30, 60, 61, 120, 121)))
    elif kind == 5:
        draft.now = NOON + seconds(r.choice((15, 45, 60, 105, 120)))
    else:
        draft.interlocks.append(
            {
                "name": "trip",
                "when": r.choice(("level_0.value > 7", "level_0.value >", "absent.tag > 1")),
                "blocks": (_any_mv(r, draft),),
                "message": "Tripped.",
            }
        )


def _break_decision(r: Random, draft: Draft) -> None:
    kind = r.randint(0, 6)
    if kind == 0:
        draft.proposal_id = r.choice(("", "p2"))
    elif kind == 1:
        draft.decision["is_accepted"] = False
    elif kind == 2:
        draft.decision["by"] = r.choice(("", "  ", " Closed Loop "))
    elif kind == 3:
        draft.decision["decided_at"] = draft.now + seconds(r.choice((-300, -301, 30, 61, 121)))
    elif kind == 4:
        draft.lifetime_s = r.choice((0.0, -1.0, 60.0, 61.0, float("nan"), float("inf")))
    elif kind == 5:
        draft.at = draft.now - seconds(r.choice((45, 75, 76)))
    else:
        draft.decision["by"] = "closed loop"
        draft.plant["opcua"] = {
            "endpoint": "opc.tcp://plant.example:4840",
            "namespace": "urn:works",
        }


FAULTS = (
    _break_context,
    _break_reading,
    _break_setpoint,
    _break_plant,
    _break_request,
    _break_decision,
)
