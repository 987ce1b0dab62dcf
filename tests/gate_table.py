"""The truth table of the gate as data: every cell of decision page 0003 up to the clearance.

Each cell changes one thing of the healthy case and says what the gate must answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gate_cases import BROKEN, NAIVE, NOON, Case, seconds

from twin.plant import Limits, Relief, RemoteMode, WindUp
from twin.records import BAD, GOOD, Stage
from twin.safety import NEVER_MOVED, Trust

Change = Callable[[Case], Case]

INLET, TANK = "inlet.setpoint", "tank.level"
OTHER_ZONE = datetime.fromisoformat("2025-06-01T14:00:00+02:00")


@dataclass(frozen=True)
class Told:
    """One cell of the truth table: a change to the healthy case and what the gate must say."""

    row: str
    story: str
    change: Callable[[Case], Case]
    reason: str | None  # a pattern in the only reason; None: the gate says yes


def asking(**setpoints: Any) -> Callable[[Case], Case]:
    """Other setpoints are asked for."""
    return lambda case: replace(case, setpoints={f"{k}.setpoint": v for k, v in setpoints.items()})


def with_tag(name: str, **changes: Any) -> Callable[[Case], Case]:
    """Another plant file entry."""
    return lambda case: case.with_tag(name, **changes)


def reading(name: str, **changes: Any) -> Callable[[Case], Case]:
    """Another reading."""
    return lambda case: case.with_reading(name, **changes)


def in_context(**changes: Any) -> Callable[[Case], Case]:
    """Another context."""
    return lambda case: case.with_context(**changes)


def all_of(*changes: Callable[[Case], Case]) -> Callable[[Case], Case]:
    """Several changes, one after the other."""

    def change(case: Case) -> Case:
        for one in changes:
            case = one(case)
        return case

    return change


def with_interlock(when: str, *blocks: str) -> Callable[[Case], Case]:
    """One interlock instead."""
    entry = {"name": "trip", "when": when, "blocks": blocks or (INLET,), "message": "Left alone."}
    return lambda case: case.with_plant(interlocks=(entry,))


def moved_ago(age_s: float) -> Callable[[Case], Case]:
    """The inlet was last moved `age_s` ago."""
    moments = {INLET: NOON - seconds(age_s), "outlet.setpoint": NEVER_MOVED}
    return in_context(last_moved_at=moments)


BOTH_STAGES = {INLET: Stage.ADVISORY, "outlet.setpoint": Stage.ADVISORY}
LEVEL_LOW = reading(TANK, value=1.5)
LEVEL_HIGH = reading(TANK, value=18.5)
STANDS_BELOW = reading(INLET, value=0.5)
STANDS_ABOVE = reading(INLET, value=9.75)  # operator limits 1…9, engineering 0…10


def with_plc(mode: float = 1, used: float | None = None, limit: float | None = None) -> Change:
    """The inlet's PLC shows a mode and, where given, the setpoint it uses and its limit status."""
    shown = {"inlet.mode": mode, "inlet.used": used, "inlet.limit": limit}

    def change(case: Case) -> Case:
        for name, value in shown.items():
            if value is not None:
                case = case.with_extra(name, value)
        return case.with_tag(
            INLET,
            remote=RemoteMode("inlet.mode"),
            downstream=None if used is None else "inlet.used",
            windup=None if limit is None else WindUp("inlet.limit"),
        )

    return change


TABLE = [
    Told("stop", "latch off", lambda case: case, None),
    Told("stop", "latch set", in_context(is_stopped=True), r"^Stopped\..*release"),
    Told("stop", "latch unreadable", in_context(is_stopped=None), "cannot be read.*means stopped"),
    Told("clock", "another zone", lambda c: replace(c, now=OTHER_ZONE), None),
    Told("clock", "naive now", lambda c: replace(c, now=NAIVE), "no time zone"),
    Told(
        "clock",
        "naive readings",
        lambda c: replace(c, state=replace(c.state, at=NAIVE)),
        "readings' time .* no time zone",
    ),
    Told("clock", "readings a step ahead", lambda c: replace(c, now=NOON - seconds(50)), None),
    Told("clock", "readings far ahead", lambda c: replace(c, now=NOON - seconds(61)), "61 s ahead"),
    Told(
        "plant",
        "other plant's readings",
        lambda c: replace(c, state=replace(c.state, plant="elsewhere")),
        "'elsewhere'.*'works'",
    ),
    Told("empty", "nothing asked", asking(), "No setpoint is asked for"),
    Told("trust", "at both thresholds", in_context(trust=Trust(0.75, 30)), None),
    Told("trust", "never wrong", in_context(trust=Trust(1.0, 60)), None),
    Told("trust", "absent", in_context(trust=None), "not known"),
    Told("trust", "coverage absent", in_context(trust=Trust(None, 60)), "not known"),
    Told("trust", "coverage NaN", in_context(trust=Trust(float("nan"), 60)), "not known"),
    Told("trust", "no share", in_context(trust=Trust(1.5, 60)), "not known"),
    Told("trust", "too few", in_context(trust=Trust(0.9, 29)), "Only 29 .* 30 are needed"),
    Told("trust", "too low", in_context(trust=Trust(0.74, 60)), r"74\.0 %.*75 %.*not trusted"),
    Told(
        "mv", "no tag", lambda c: replace(c, setpoints={"nobody": 1.0}), "nobody is no tag .*inlet"
    ),
    Told("mv", "a CV", lambda c: replace(c, setpoints={TANK: 1.0}), "is a CV, not an MV"),
    Told("number", "a whole number", asking(inlet=6), None),
    *(Told("number", str(x), asking(inlet=x), "no finite number") for x in (*BROKEN, "6", True)),
    Told("number", "beyond any float", asking(inlet=10**400), "no finite number"),
    Told("stage", "shadow", in_context(stages={**BOTH_STAGES, INLET: Stage.SHADOW}), None),
    Told("stage", "absent", in_context(stages={"outlet.setpoint": Stage.SHADOW}), "no stage"),
    Told("stage", "None", in_context(stages={**BOTH_STAGES, INLET: None}), "no stage"),
    Told("required", "never read", lambda c: c.without_reading("sump.level"), "outlet.*sump.level"),
    Told("required", "own value unknown", reading(INLET, value=None), "inlet.setpoint: its value"),
    *(Told("required", f"value {x}", reading("sump.level", value=x), "finite") for x in BROKEN),
    Told(
        "required",
        "not usable",
        reading("sump.level", is_usable=False, reason="frozen since 11:40."),
        r"sump.level: frozen since 11:40\. Check",
    ),
    Told("required", "bad quality", reading("sump.level", quality=BAD), "not Good"),
    Told("required", "doubtful", reading("sump.level", quality=0x4000_0000), "not Good"),
    Told("required", "good with a note", reading("sump.level", quality=GOOD | 0x00A6_0000), None),
    Told("required", "no source time", reading("sump.level", source_time=None), "source time"),
    Told("required", "naive source time", reading("sump.level", source_time=NAIVE), "source time"),
    Told("required", "no age", reading("sump.level", arrival_age_s=None), "age is not known"),
    Told("required", "age NaN", reading("sump.level", source_age_s=float("nan")), "not known"),
    Told("required", "just fresh", reading("sump.level", arrival_age_s=60.0), None),
    Told(
        "required", "arrived long ago", reading("sump.level", arrival_age_s=61.0), "61 s old.*60 s"
    ),
    Told(
        "required", "measured long ago", reading("sump.level", source_age_s=61.0), "61 s old.*60 s"
    ),
    Told(
        "required",
        "stamped long ago, called young",
        reading("sump.level", source_time=NOON - seconds(90)),
        "90 s old",
    ),
    Told("required", "grown old since", lambda c: replace(c, now=NOON + seconds(50)), None),
    Told(
        "required",
        "stamped ahead",
        reading("sump.level", source_time=NOON + seconds(75)),
        "75 s ahead",
    ),
    Told(
        "required",
        "stamped one step ahead",
        reading("sump.level", source_time=NOON + seconds(60)),
        None,
    ),
    Told(
        "required",
        "not in the plant file",
        with_tag(INLET, requires=("ghost.level",)),
        "inlet.setpoint needs ghost.level: .*no such tag",
    ),
    Told("required", "unrelated and broken", lambda c: c.without_reading("sky.cover"), None),
    Told(
        "required",
        "only the other MV's, which rests",
        all_of(asking(inlet=6.0), lambda c: c.without_reading("sump.level")),
        None,
    ),
    Told(
        "required",
        "mode unknown",
        all_of(with_plc(), reading("inlet.mode", quality=BAD)),
        "inlet.setpoint needs inlet.mode: .*not Good",
    ),
    Told(
        "required",
        "the setpoint that the PLC uses is stale",
        all_of(with_plc(used=5.0), reading("inlet.used", source_age_s=61.0)),
        "needs inlet.used: .*61 s old",
    ),
    Told(
        "required",
        "wind-up unknown, even for a way back",
        all_of(with_plc(limit=2), asking(inlet=4.0), reading("inlet.limit", value=None)),
        "needs inlet.limit",
    ),
    Told("mode", "REMOTE", with_plc(mode=1), None),
    Told("mode", "AUTO", with_plc(mode=0), None),
    Told("mode", "neither", with_plc(mode=2), "inlet.mode reads 2, neither AUTO .0. nor REMOTE"),
    Told("mode", "between", with_plc(mode=0.5), "reads 0.5, neither"),
    Told(
        "mode",
        "AUTO, and held outside",
        all_of(
            with_plc(mode=0, used=11.0),
            with_tag(INLET, operator=None),
            asking(inlet=9.5),
        ),
        "PLC holds it at 11.00 cm, outside its engineering limits",
    ),
    Told(
        "mode",
        "REMOTE, and on its way back inside",
        all_of(
            with_plc(mode=1, used=11.0),
            with_tag(INLET, operator=None),
            asking(inlet=9.5),
        ),
        None,
    ),
    Told("rate", "from what the PLC uses", with_plc(used=4.5), None),
    Told(
        "rate",
        "from what the PLC uses, not from what was written",
        with_plc(used=3.0),
        r"from 3\.00 cm to 6\.00 cm",
    ),
    Told(
        "budget",
        "from what the PLC uses",
        all_of(with_plc(used=4.5), in_context(travel_last_h={INLET: 19.0, "outlet.setpoint": 0.0})),
        r"a move of 1\.50 cm on top of 19\.00 cm",
    ),
    Told("windup", "free", with_plc(limit=0), None),
    Told(
        "windup", "at its high end, further", with_plc(limit=2), "high end .*a move up only winds"
    ),
    Told("windup", "at its high end, back", all_of(with_plc(limit=2), asking(inlet=4.0)), None),
    Told("windup", "at its high end, resting", all_of(with_plc(limit=2), asking(inlet=5.0)), None),
    Told(
        "windup",
        "at its low end, further",
        all_of(with_plc(limit=1), asking(inlet=4.0)),
        "low end .inlet.limit reads 1., so a move down .*Move it up or wait",
    ),
    Told("windup", "at its low end, back", with_plc(limit=1), None),
    Told("windup", "can't move", with_plc(limit=3), "can't move"),
    Told(
        "windup",
        "can't move, not even back",
        all_of(with_plc(limit=3), asking(inlet=4.0)),
        "can't move",
    ),
    Told("windup", "unexplained", with_plc(limit=7), "reads 7, which the plant file does not"),
    Told(
        "windup",
        "further than what the PLC uses, though back from what was written",
        all_of(with_plc(used=4.5, limit=2), asking(inlet=4.75)),
        "a move up only winds",
    ),
    Told(
        "engineering",
        "on it",
        all_of(with_tag(INLET, operator=None), reading(INLET, value=9.0), asking(inlet=10.0)),
        None,
    ),
    Told(
        "engineering",
        "above it",
        all_of(with_tag(INLET, operator=None), reading(INLET, value=9.0), asking(inlet=10.001)),
        r"10\.001 cm is above its engineering limit of 10\.000 cm",
    ),
    Told(
        "engineering",
        "on the way back, yet above it",
        all_of(reading(INLET, value=12.0), asking(inlet=10.5)),
        "above its engineering limit",
    ),
    Told(
        "engineering",
        "pinned",
        all_of(with_tag(INLET, operator=None, engineering=Limits(6, 6)), asking(inlet=6.0)),
        None,
    ),
    Told(
        "engineering", "crossed", with_tag(INLET, engineering=Limits(9, 3)), "no engineering limits"
    ),
    Told("engineering", "absent", with_tag(INLET, engineering=None), "no engineering limits"),
    Told(
        "engineering", "open", with_tag(INLET, engineering=Limits(low=0)), "no engineering limits"
    ),
    Told("operator", "on it", all_of(reading(INLET, value=8.0), asking(inlet=9.0)), None),
    Told(
        "operator",
        "below it",
        all_of(reading(INLET, value=2.0), asking(inlet=0.5)),
        r"0\.50 cm is below its operator limit of 1\.00 cm",
    ),
    Told("operator", "absent", with_tag(INLET, operator=None), None),
    Told("operator", "crossed", with_tag(INLET, operator=Limits(low=7, high=3)), "low ≤ high"),
    Told("operator", "back towards it", all_of(STANDS_ABOVE, asking(inlet=9.5)), None),
    Told("operator", "up towards it", all_of(STANDS_BELOW, asking(inlet=0.75)), None),
    Told("operator", "staying below", all_of(STANDS_BELOW, asking(inlet=0.5)), "not a move back"),
    Told("operator", "further below", all_of(STANDS_BELOW, asking(inlet=0.25)), "not a move back"),
    Told(
        "operator",
        "pinned",
        all_of(with_tag(INLET, operator=Limits(6, 6)), asking(inlet=6.0)),
        None,
    ),
    Told("operator", "back inside", all_of(STANDS_ABOVE, asking(inlet=8.5)), None),
    Told(
        "operator", "staying outside", all_of(STANDS_ABOVE, asking(inlet=9.75)), "not a move back"
    ),
    Told(
        "operator", "further outside", all_of(STANDS_ABOVE, asking(inlet=9.875)), "not a move back"
    ),
    Told(
        "operator",
        "through to the other side",
        all_of(
            with_tag(INLET, operator=Limits(low=5, high=5.5)),
            reading(INLET, value=6.0),
            asking(inlet=4.75),
        ),
        "below its operator limit",
    ),
    Told("rate", "a step's worth", asking(inlet=7.0), None),
    Told(
        "rate",
        "more",
        asking(inlet=7.25),
        r"move of 2\.25 cm \(from 5\.00 cm to 7\.25 cm\).* 2\.00 cm",
    ),
    Told(
        "rate", "long rest earns no more", all_of(moved_ago(3600), asking(inlet=7.25)), "more than"
    ),
    Told("rate", "half a step after a move", all_of(moved_ago(30), asking(inlet=6.0)), None),
    Told("rate", "too soon", all_of(moved_ago(30), asking(inlet=6.25)), r"more than the 1\.00 cm"),
    Told("rate", "resting at once", all_of(moved_ago(0), asking(inlet=5.0)), None),
    Told(
        "rate",
        "resting at zero at once",
        all_of(
            moved_ago(0),
            with_tag(INLET, operator=None),
            reading(INLET, value=0.0),
            asking(inlet=0.0),
        ),
        None,
    ),
    Told("rate", "back within its rate only", all_of(STANDS_ABOVE, asking(inlet=7.5)), "more than"),
    Told(
        "rate",
        "last move unknown",
        in_context(last_moved_at={"outlet.setpoint": NEVER_MOVED}),
        "not known",
    ),
    Told(
        "rate",
        "last move None",
        in_context(last_moved_at={INLET: None, "outlet.setpoint": NEVER_MOVED}),
        "not known",
    ),
    Told("rate", "last move ahead", moved_ago(-15), "15 s ahead"),
    Told("rate", "no rate", with_tag(INLET, rate_limit_per_min=None), "no rate limit"),
    Told(
        "budget",
        "used up exactly",
        in_context(travel_last_h={INLET: 19.0, "outlet.setpoint": 0.0}),
        None,
    ),
    Told(
        "budget",
        "passed",
        in_context(travel_last_h={INLET: 19.25, "outlet.setpoint": 0.0}),
        r"1\.00 cm on top of 19\.25 cm .* budget of 20\.00 cm",
    ),
    Told(
        "budget",
        "resting is free",
        all_of(asking(inlet=5.0), in_context(travel_last_h={INLET: 50.0})),
        None,
    ),
    Told(
        "budget",
        "travel unknown",
        all_of(asking(inlet=5.0), in_context(travel_last_h={})),
        "travel",
    ),
    *(
        Told(
            "budget",
            f"travel {x}",
            all_of(asking(inlet=6.0), in_context(travel_last_h={INLET: x})),
            "travel",
        )
        for x in (*BROKEN, -1.0)
    ),
    Told("budget", "no budget", with_tag(INLET, move_budget_per_h=None), "no move budget"),
    Told("interlock", "false", with_interlock("tank.level > 19"), None),
    Told("interlock", "true", with_interlock("tank.level > 9"), "“trip” .*tripped. Left alone"),
    Told(
        "interlock",
        "true, though resting",
        all_of(with_interlock("tank.level > 9"), asking(inlet=5.0)),
        "tripped",
    ),
    Told("interlock", "true for another", with_interlock("tank.level > 9", "sky.cover"), None),
    Told(
        "interlock",
        "a tag never read",
        all_of(with_interlock("sky.cover > 9"), lambda c: c.without_reading("sky.cover")),
        "cannot be judged: sky.cover: no reading",
    ),
    Told(
        "interlock",
        "a stale tag beside a clear answer",
        all_of(
            with_interlock("tank.level < 1 and sky.cover > 9"),
            reading("sky.cover", source_age_s=99.0),
        ),
        "sky.cover: its last reading is 99 s old",
    ),
    Told("interlock", "unknown tag", with_interlock("no.tag > 1"), "no such tag"),
    Told("interlock", "does not parse", with_interlock("tank.level > "), "cannot be judged"),
    Told("interlock", "a number", with_interlock("tank.level - 10"), "not a condition"),
    Told("interlock", "divides by zero", with_interlock("1 / (tank.level - 10) > 3"), "no finite"),
    Told("interlock", "root below zero", with_interlock("sqrt(0 - tank.level) > 3"), "no finite"),
    Told(
        "interlock",
        "infinity less infinity",
        with_interlock("tank.level * 1e308 - tank.level * 1e308 > 3"),
        "no finite",
    ),
    Told("relief", "CV on its limit", reading(TANK, value=18.0), None),
    Told("relief", "low, up", all_of(LEVEL_LOW, asking(inlet=6.0)), None),
    Told(
        "relief",
        "low, down",
        all_of(LEVEL_LOW, asking(inlet=4.0)),
        r"1\.50 cm is below.*declared: up",
    ),
    Told("relief", "high, down", all_of(LEVEL_HIGH, asking(inlet=4.0)), None),
    Told("relief", "high, up", all_of(LEVEL_HIGH, asking(inlet=6.0)), r"18\.50 cm is above.*down"),
    Told("relief", "high, resting", all_of(LEVEL_HIGH, asking(inlet=5.0)), None),
    Told("relief", "high, another MV", all_of(LEVEL_HIGH, asking(outlet=6.0)), None),
    Told(
        "relief",
        "none declared",
        all_of(LEVEL_HIGH, with_tag(INLET, relief=()), asking(inlet=4.0)),
        "none",
    ),
    Told(
        "relief",
        "declared for the other side",
        all_of(
            LEVEL_HIGH,
            with_tag(INLET, relief=(Relief(TANK, "low", "up"),)),
            asking(inlet=4.0),
        ),
        "declared: none",
    ),
    Told(
        "relief",
        "contradicting lines",
        all_of(
            LEVEL_HIGH,
            with_tag(INLET, relief=(Relief(TANK, "high", "up"), Relief(TANK, "high", "down"))),
            asking(inlet=4.0),
        ),
        "declared: down and up",
    ),
    Told(
        "relief",
        "two CVs that pull apart",
        all_of(
            LEVEL_HIGH,
            reading("sump.level", value=1.0),
            with_tag(
                INLET, relief=(Relief(TANK, "high", "down"), Relief("sump.level", "low", "up"))
            ),
            asking(inlet=4.0),
        ),
        "sump.level: 1.00 cm is below.*declared: up",
    ),
    Told(
        "relief",
        "past the engineering limit where none other is given",
        all_of(
            with_tag(TANK, operator=None),
            reading(TANK, value=-0.5),
            with_interlock("1 > 2"),
            asking(inlet=4.0),
        ),
        "below its limit of 0.00 cm",
    ),
    Told("relief", "no limits at all", with_tag(TANK, operator=None, engineering=None), None),
]
