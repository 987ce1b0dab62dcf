"""What the page shows, worked out without a page: rows, words, thinned lines, times."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lived_plant import NOON, four_tank, proposal
from small_plant import small_plant

from dashboard import markup
from dashboard.beats import clock_detail, latest_known, plant_moment, said
from dashboard.view import advice, headline, holding, overview, tags, text, trend
from dashboard.view.tags import Level, Word
from twin.clock import latest_believable
from twin.economics import Score
from twin.historian import HandBack, HandBackCause, HandBackStatus, Held, ProcessBeat
from twin.plant import Plant, Role
from twin.records import (
    BAD,
    GOOD,
    UNCERTAIN,
    Decision,
    PlantState,
    ProposalStatus,
    Reading,
    Samples,
    Stage,
    TagState,
    WriteOutcome,
    WriteStatus,
)
from twin.safety import Trust
from twin.state import plant_state

PLANT = four_tank()
REAL_TIME = small_plant()
LEVEL = PLANT.tag("tank_1.level")
WALL = datetime(2026, 11, 20, 9, tzinfo=UTC)
#: The MVs as `lived_plant.proposal` found them.
STANDING = {"pump_1.setpoint": 8.81, "pump_2.setpoint": 8.02}
TOLERANCE = PLANT.tag("pump_2.setpoint").write_tolerance or 0.0


def known(value: float | None, quality: int = GOOD, age_s: float = 5.0) -> TagState:
    """A level as judged at this age."""
    is_usable = value is not None and quality == GOOD and age_s <= LEVEL.max_age_s
    return TagState(value, quality, NOON, age_s, age_s, is_usable)


def state_of(plant: Plant, values: dict[str, float], age_s: float = 0.0) -> PlantState:
    """The plant's state from readings of one moment."""
    last = {n: Reading(n, v, GOOD, NOON, NOON) for n, v in values.items()}
    return plant_state(plant, last, NOON + timedelta(seconds=age_s))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, ["NO DATA"]),
        (known(9.0), ["NORMAL"]),
        (known(5.0), ["NORMAL"]),
        (known(4.99), ["LOW"]),
        (known(17.01), ["HIGH"]),
        (known(-0.1), ["LOW LOW"]),
        (known(20.1), ["HIGH HIGH"]),
        (known(None, BAD), ["BAD"]),
        (known(9.0, BAD), ["BAD"]),
        (known(9.0, UNCERTAIN), ["UNCERTAIN"]),
        (known(9.0, age_s=121), ["STALE"]),
        (known(4.0, age_s=121), ["STALE", "LOW"]),
    ],
)
def test_status_words_tell_every_reason_to_look(
    state: TagState | None, expected: list[str]
) -> None:
    """Operator limits 5 … 17, engineering limits 0 … 20, at most 120 s old."""
    assert [word.text for word in tags.status_words(LEVEL, state)] == expected


def test_only_the_abnormal_is_coloured() -> None:
    """NORMAL, AUTO, REMOTE and stages are calm; limits ask for attention, bad data alarms."""
    assert {w.level for w in tags.status_words(LEVEL, known(9.0))} == {Level.CALM}
    assert {w.level for w in tags.status_words(LEVEL, known(4.0))} == {Level.ATTENTION}
    assert {w.level for w in tags.status_words(LEVEL, known(None, BAD))} == {Level.ALARM}
    assert 'class="pw-word"' in markup.words([Word("NORMAL")])


def test_the_setpoint_of_an_mv_follows_its_mode() -> None:
    """In REMOTE it is what we wrote, in AUTO the plant's own control has it."""
    values = {"pump_1.setpoint": 9.0, "pump_1.mode": 1, "pump_2.setpoint": 8.0, "pump_2.mode": 0}
    state = state_of(PLANT, values)
    stages = dict.fromkeys(("pump_1.setpoint",), Stage.ADVISORY)
    rows = tags.tag_rows(PLANT, state, stages, written={"pump_1.setpoint": 9.35})
    by_name = {row.name: row for row in rows}
    assert by_name["pump_1.setpoint"].setpoint == "9.35"
    assert by_name["pump_2.setpoint"].setpoint == "PLC"
    assert [w.text for w in by_name["pump_1.setpoint"].words] == ["NORMAL", "REMOTE", "ADVISORY"]
    assert by_name["pump_2.setpoint"].words[-1] == Word("NO STAGE", Level.ATTENTION)


def test_next_moves_are_shown_of_open_proposals_only() -> None:
    """A refused move is no next move; its plan's target is worth seeing until its end."""
    newest = proposal(PLANT, wall_now=WALL)
    for opened, age_min, shown in (
        (newest, 0, ("+0.54 → 9.35", "7.85")),
        (None, 59, (text.NOTHING, "7.85")),
        (None, 60, (text.NOTHING, text.NOTHING)),
    ):
        state = state_of(PLANT, {"pump_1.setpoint": 8.81}, age_s=60.0 * age_min)
        row = tags.tag_rows(PLANT, state, {}, newest, opened)[0]
        assert row.name == "pump_1.setpoint"
        assert (row.next_move, row.target) == shown


def test_a_proposal_stands_open_until_the_first_of_its_two_clocks() -> None:
    """Plant time and wall time both end it."""
    waiting = proposal(PLANT, wall_now=WALL, open_wall_s=60)
    late_wall, late_plant = WALL + timedelta(seconds=60), NOON + timedelta(seconds=1200)
    stands = advice.standing(waiting, NOON, WALL)
    assert (stands.is_open, stands.left_wall_s, stands.left_plant_s) == (True, 60, 1200)
    assert not advice.standing(waiting, NOON, late_wall).is_open
    assert not advice.standing(waiting, late_plant, WALL).is_open


def test_a_proposal_that_moves_nothing_cannot_be_accepted() -> None:
    """There is nothing to write."""
    still = proposal(PLANT, wall_now=WALL, setpoints={})
    assert "moves nothing" in advice.standing(still, NOON, WALL).reason
    rows = advice.move_rows(PLANT, still, state_of(PLANT, STANDING))
    assert [row.change for row in rows] == ["stays", "stays"]


def test_moves_come_before_what_stays() -> None:
    """The MV that moves is the first row."""
    one = proposal(PLANT, wall_now=WALL, setpoints={"pump_2.setpoint": 7.6})
    rows = advice.move_rows(PLANT, one, state_of(PLANT, STANDING))
    assert [(r.name, r.change) for r in rows] == [
        ("pump_2.setpoint", "-0.42"),
        ("pump_1.setpoint", "stays"),
    ]
    assert [row.when_made for row in rows] == ["", ""]


def test_a_move_is_told_from_where_the_mv_stands_now() -> None:
    """The PLC in AUTO moved it since; who decides sees the move there will be, and that it moved.

    Where nobody knows the present value there is no change to tell either.
    """
    waiting = proposal(PLANT, wall_now=WALL)
    moved = {"pump_1.setpoint": 7.5, "pump_2.setpoint": 8.02 + 0.9 * TOLERANCE}
    first, second = advice.move_rows(PLANT, waiting, state_of(PLANT, moved))
    assert (first.current, first.proposed, first.change) == ("7.50", "9.35", "+1.85")
    assert first.when_made == "8.81 when it was made, 13:00:00"
    assert second.when_made == ""
    assert "8.81 when it was made" in markup.move_table([first])
    shown = tags.tag_rows(PLANT, state_of(PLANT, moved), {}, waiting, waiting)
    assert next(row for row in shown if row.name == first.name).next_move == "+1.85 → 9.35"
    old = advice.move_rows(PLANT, waiting, state_of(PLANT, moved, age_s=3600))[0]
    assert (old.current, old.proposed, old.change) == (text.NOTHING, "9.35", text.NOTHING)


def test_the_limits_a_plan_touches_are_named_once() -> None:
    """The planner's reason names them; the page adds them only where it does not."""
    waiting = proposal(PLANT, wall_now=WALL)
    named = replace(waiting, reason=f"Saves money. Limited by {waiting.binding[0]}.")
    assert advice.why(waiting).endswith("Limits the plan touches: tank_1.level low.")
    assert advice.why(named) == named.reason
    assert advice.why(replace(waiting, binding=())) == waiting.reason


def test_a_plan_that_costs_more_is_not_said_to_save() -> None:
    """No minus sign before a saving; and the figure says over which time it is meant."""
    dear = replace(proposal(PLANT, wall_now=WALL), benefit_per_h=-0.4)
    label, word, small = advice.figures(PLANT, dear, advice.standing(dear, NOON, WALL))[0]
    assert (label, word.text) == ("Costs more than holding", "0.40 ct/h")
    assert "kept for 60 min" in small
    assert overview.figures(PLANT, dear, None, None)[0][0] == "Open proposal costs more"


def test_a_saving_names_its_yardstick_and_both_costs() -> None:
    """8.70 ct/h is 41.10 less 32.40; and a PLC in AUTO would not hold for an hour."""
    waiting = proposal(PLANT, wall_now=WALL)
    shown = advice.figures(PLANT, waiting, advice.standing(waiting, NOON, WALL))
    saving, cost = shown[:2]
    yardstick = "both setpoints kept for 60 min; the PLC in AUTO would move them"
    assert saving == ("Saves against holding", Word("8.70 ct/h"), f"holding: {yardstick}")
    assert (cost[0], cost[1].text) == ("Expected cost, next 60 min", "32.40 ct/h")
    assert cost[2].endswith("holding: 41.10 ct/h")
    label, word, small = overview.figures(PLANT, waiting, None, None)[0]
    assert (label, word.text) == ("Open proposal saves", "8.70 ct/h")
    assert small == f"next 60 min: 32.40 ct/h, holding 41.10 ct/h ({yardstick})"


def test_holding_is_told_of_the_mvs_there_are() -> None:
    """One MV is no "both"; a plant without modes has no AUTO to compare with."""
    one, other = (tag for tag in PLANT.tags if tag.role is Role.MV)
    rest = tuple(tag for tag in PLANT.tags if tag.role is not Role.MV)
    single = replace(PLANT, tags=(one, *rest))
    assert advice.holding(single) == "the setpoint kept for 60 min; the PLC in AUTO would move it"
    bare = tuple(replace(tag, remote=None) for tag in (one, other))
    assert advice.holding(replace(PLANT, tags=(*bare, *rest))) == "both setpoints kept for 60 min"


def test_the_history_says_why_a_proposal_is_over() -> None:
    """Superseded or expired: the reason stands in its line."""
    reason = "the gate refuses it by now: tank_1.level: last reading is 131 s old"
    over = replace(
        proposal(PLANT, wall_now=WALL), status=ProposalStatus.SUPERSEDED, status_reason=reason
    )
    (row,) = advice.past_rows(PLANT, [over], {}, [])
    assert (row.reason, row.ended) == (text.NOTHING, reason)
    stands = advice.standing(over, NOON, WALL)
    assert reason in stands.reason
    label, word, small = advice.figures(PLANT, over, stands)[2]
    assert (label, word.text, small) == ("It is", "SUPERSEDED", "made 2026-01-05 13:00:00")


def test_a_persons_reason_is_not_mixed_with_the_planners() -> None:
    """The reason given stands in one column, what came of it in another."""
    waiting = proposal(PLANT, wall_now=WALL)
    taken = Decision("p-1", False, "Ada", "test in progress", NOON)
    rejected = replace(waiting, status=ProposalStatus.REJECTED, status_reason="test in progress")
    for each, decisions, told in (
        (waiting, {}, (text.NOTHING, text.NOTHING)),
        (rejected, {"p-1": taken}, ("test in progress", text.NOTHING)),
    ):
        (row,) = advice.past_rows(PLANT, [each], decisions, [])
        assert (row.reason, row.ended) == told


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (ProposalStatus.ACCEPTED, "Accepted"),
        (ProposalStatus.WRITTEN, "Written to the plant"),
        (ProposalStatus.FAILED, "The write failed"),
        (ProposalStatus.EXPIRED, "It cannot be decided"),
    ],
)
def test_what_was_decided_is_not_said_to_be_undecidable(status: ProposalStatus, title: str) -> None:
    """Where the buttons were stands how the proposal ended."""
    over = replace(proposal(PLANT, wall_now=WALL), status=status, status_reason="told why")
    assert advice.ended(over, advice.standing(over, NOON, WALL))[0] == title


def held(minutes: float, mv: str = "pump_1.setpoint") -> dict[str, Held]:
    """An MV written and verified so many minutes before noon."""
    at = NOON - timedelta(minutes=minutes)
    return {mv: Held(mv, "p-1", 7.43, at, at)}


@pytest.mark.parametrize(
    ("minutes", "stage", "ends"),
    [
        (47, Stage.ADVISORY, "since 12:13 (47 min); back to the PLC at 13:13"),
        (60, Stage.ADVISORY, "since 12:00 (1 h); it goes back to the PLC now"),
        (5, Stage.SHADOW, "since 12:55 (5 min); it goes back to the PLC now"),
        (90, Stage.CLOSED_LOOP, "since 11:30 (1 h 30 min); the closed loop moves it on"),
    ],
)
def test_an_mv_that_we_hold_says_since_when_and_until_when(
    minutes: float, stage: Stage, ends: str
) -> None:
    """13:00 on the plant's clock; an accepted setpoint holds for the plan's 60 min."""
    state = state_of(PLANT, {"pump_1.mode": 1, "pump_2.mode": 0})
    stages = dict.fromkeys(("pump_1.setpoint", "pump_2.setpoint"), stage)
    lines = holding.held_lines(PLANT, state, stages, held(minutes), [])
    told = f"pump_1.setpoint: REMOTE, held at 7.43 cm**3/s {ends}"
    assert lines == {"pump_1.setpoint": told}


def test_what_reads_auto_is_not_held_and_what_is_asked_back_says_so() -> None:
    """The plant's own mode has the last word; what stands against a hand-back is told."""
    state = state_of(PLANT, {"pump_1.mode": 1, "pump_2.mode": 0})
    both = held(5) | held(5, "pump_2.setpoint")
    cause, status = HandBackCause.ASKED, HandBackStatus.OPEN
    asked = HandBack(1, "pump_1.setpoint", cause, "Ada", "test", NOON, status, "refused", None)
    lines = holding.held_lines(PLANT, state, {}, both, [asked])
    assert list(lines) == ["pump_1.setpoint"]
    assert lines["pump_1.setpoint"].endswith(
        "Ada has asked to give it back, which is not done yet: refused"
    )


@pytest.mark.parametrize(
    ("picked", "words", "kept"),
    [
        (None, "", ""),
        (None, "own words", "own words"),
        (advice.OTHER_REASON, "", ""),
        (advice.OTHER_REASON, "own words", "own words"),
        ("The move is too large", "", "The move is too large"),
        ("The move is too large", "by half", "The move is too large: by half"),
    ],
)
def test_a_rejection_keeps_the_reason_that_was_given(
    picked: str | None, words: str, kept: str
) -> None:
    """Choosing "other" without saying which is no reason."""
    assert advice.rejection(picked, words) == kept


def test_the_history_tells_the_newest_outcome() -> None:
    """An unknown outcome that was settled later reads as settled."""
    waiting = proposal(PLANT, wall_now=WALL)
    outcomes = [
        WriteOutcome("p-1", "c", status, {"pump_1.setpoint": 9.35}, {}, "", NOON + late)
        for status, late in (
            (WriteStatus.VERIFIED, timedelta(seconds=9)),
            (WriteStatus.UNKNOWN, timedelta(0)),
        )
    ]
    (row,) = advice.past_rows(PLANT, [waiting], {}, outcomes)
    assert [word.text for word in row.words] == ["OPEN", "WRITE VERIFIED"]
    assert advice.written_setpoints(outcomes) == {"pump_1.setpoint": 9.35}
    assert advice.status_word(ProposalStatus.REFUSED).level is Level.ATTENTION


@given(
    values=arrays(
        np.float64, st.integers(0, 400), elements=st.floats(-1e6, 1e6) | st.just(math.nan)
    ),
    buckets=st.integers(1, 20),
)
def test_thinning_keeps_extremes_ends_and_breaks(values: np.ndarray, buckets: int) -> None:
    """However few points stay, extremes and ends do, and no line bridges a gap."""
    times_s = np.arange(len(values), dtype=float)
    thin = trend.thinned(Samples(times_s, values), buckets)
    kept = np.isin(times_s, thin.times_s)
    assert np.array_equal(thin.values, values[kept], equal_nan=True)
    finite = values[np.isfinite(values)]
    if finite.size:
        shown = thin.values[np.isfinite(thin.values)]
        assert (shown.min(), shown.max()) == (finite.min(), finite.max())
        assert (shown[0], shown[-1]) == (finite[0], finite[-1])
    joined = np.flatnonzero(np.isfinite(thin.values[:-1]) & np.isfinite(thin.values[1:]))
    for i in joined:
        first, second = thin.times_s[i : i + 2].astype(int)
        assert np.isfinite(values[first : second + 1]).all()
    gaps = int((np.diff(np.isnan(values).astype(int), prepend=0) == 1).sum())
    assert len(thin.times_s) <= 4 * buckets + gaps


def test_a_pause_breaks_the_line() -> None:
    """Two readings further apart than the tag's age limit are not joined."""
    samples = Samples(np.array([0.0, 10.0, 500.0]), np.array([1.0, 2.0, 3.0]))
    broken = trend.broken_at_gaps(samples, 120.0)
    assert broken.times_s.tolist() == [0, 10, 130, 500]
    assert np.isnan(broken.values[2])


def test_a_fan_stands_where_the_forecast_puts_it() -> None:
    """Level k is one step later than move k; a level's band travels with it."""
    newest = proposal(PLANT, wall_now=WALL)
    moves = trend.future_of("pump_1.setpoint", newest)
    levels = trend.future_of("tank_1.level", newest)
    assert moves is not None
    assert levels is not None
    assert moves.times_s[0] == NOON.timestamp()
    assert levels.times_s[0] == NOON.timestamp() + PLANT.step_s
    assert levels.low is not None
    assert moves.low is None
    assert moves.holding is not None
    assert set(moves.holding) == {8.81}
    assert levels.holding is not None
    assert levels.holding[-1] < levels.low[-1]
    assert levels.holding[-1] > trend.panels(PLANT, ["tank_1.level"], {}, newest)[0].y_range[0]
    assert trend.future_of("price.now", newest) is None
    assert trend.future_of("tank_1.level", None) is None


def test_a_panel_holds_both_limit_pairs_and_plain_numbers() -> None:
    """The message is JSON: no NaN, no numpy; the scale holds every limit near the data."""
    samples = {"tank_1.level": Samples(np.array([0.0, 10.0]), np.array([9.0, math.nan]))}
    shown = trend.panels(PLANT, ["tank_1.level"], samples, None)
    told = trend.message(PLANT, shown, start=NOON - timedelta(hours=1), now=NOON, tick=3)
    panel = told["panels"][0]
    assert panel["values"] == [9.0, None]
    assert (panel["operator"], panel["engineering"]) == ([5, 17], [0, 20])
    assert panel["y_range"][0] < 0 < 20 < panel["y_range"][1]
    assert told["end_s"] == NOON.timestamp()


def test_far_engineering_limits_do_not_flatten_a_trend() -> None:
    """An upper tank lives between 0.3 and 6 cm: its edge at 20 cm stays off the scale."""
    samples = {"tank_3.level": Samples(np.array([0.0]), np.array([1.3]))}
    (panel,) = trend.panels(PLANT, ["tank_3.level"], samples, None)
    assert panel.y_range[1] < 7


def test_a_tag_without_readings_or_limits_has_a_scale() -> None:
    """An empty panel can be drawn."""
    (panel,) = trend.panels(PLANT, ["price.now"], {}, None)
    assert panel.y_range == (0.0, 1.0)


def test_plant_time_comes_from_the_newest_beat_that_tells_it() -> None:
    """Wall seconds since the beat count speed-fold; a beat without a clock tells nothing."""
    ticks = [
        ProcessBeat("collect", WALL, 1, clock_detail(NOON, 20.0)),
        ProcessBeat("plan", WALL + timedelta(seconds=3), 2, "busy"),
    ]
    now, speed = plant_moment(PLANT, ticks, None, WALL + timedelta(seconds=6))
    assert (now, speed) == (NOON + timedelta(seconds=120), 20.0)


@pytest.mark.parametrize(
    ("ahead_s", "moved_s"), [(-5.0, 0.0), (30.0, 30.0), (40.0, 40.0), (41.0, 0.0), (3e8, 0.0)]
)
def test_plant_time_follows_a_reading_that_came_after_the_beat(
    ahead_s: float, moved_s: float
) -> None:
    """A plant that catches up is no clock fault; a stamp from far ahead moves nothing."""
    tick = ProcessBeat("collect", WALL, 1, clock_detail(NOON, 20.0))
    now, _ = plant_moment(PLANT, [tick], NOON + timedelta(seconds=ahead_s), WALL)
    assert now == NOON + timedelta(seconds=moved_s)


def test_plant_time_without_beats_never_makes_old_readings_fresh() -> None:
    """A plant of ordinary speed runs by the wall; one of unknown speed stands where it was."""
    assert plant_moment(PLANT, [], NOON, WALL) == (NOON, 1.0)
    assert PLANT.opcua is not None
    assert plant_moment(PLANT, [], None, WALL) == (WALL, 1.0)


def test_readings_are_asked_for_until_when_they_can_be_true() -> None:
    """Near the told clock, or the wall of a plant in real time; a far row is then no present."""
    tick = ProcessBeat("collect", WALL, 1, clock_detail(NOON, 20.0))
    later = WALL + timedelta(seconds=6)
    assert latest_known(PLANT, [tick], later) == latest_believable(NOON + timedelta(minutes=2), 20)
    assert latest_known(PLANT, [], WALL) is None
    assert latest_known(REAL_TIME, [], WALL) == latest_believable(WALL)


def test_a_clock_years_ahead_of_the_wall_is_no_plants_in_real_time() -> None:
    """A beat from when the clock was wrong is not believed; an emulator may live in any year."""
    ahead = WALL + timedelta(days=3650)
    tick = ProcessBeat("collect", WALL, 1, clock_detail(ahead, 1.0))
    assert plant_moment(REAL_TIME, [tick], None, WALL) == (WALL, 1.0)
    assert plant_moment(PLANT, [tick], None, WALL) == (ahead, 1.0)


@pytest.mark.parametrize(
    "detail", ["", "{", "[1]", '{"plant_now": "soon", "speed": 2}', '{"plant_now": 3, "speed": 1}']
)
def test_a_beat_that_tells_nonsense_is_ignored(detail: str) -> None:
    """Whatever a process says, the page stands."""
    beat = ProcessBeat("collect", WALL, 1, detail)
    assert plant_moment(PLANT, [beat], NOON, WALL) == (NOON, 1.0)
    assert isinstance(said(detail), dict)


@pytest.mark.parametrize(
    ("link", "shown", "level"),
    [
        (None, "unknown", Level.ATTENTION),
        ("live", "live", Level.CALM),
        ("connecting", "connecting", Level.CALM),
        ("live; without pump_1.flow", "live, in part", Level.ATTENTION),
        ("lost: nothing answers at opc.tcp://127.0.0.1:1", "lost", Level.ALARM),
    ],
)
def test_the_connection_is_one_word(link: str | None, shown: str, level: Level) -> None:
    """Why it is lost stands in the word's reason."""
    word = headline.link_word(link)
    assert (word.text, word.level) == (shown, level)


def test_the_headline_counts_modes_and_dates_the_data() -> None:
    """One MV in REMOTE and one in AUTO; readings of three minutes ago are old."""
    state = state_of(PLANT, {"pump_1.mode": 1, "pump_2.mode": 0}, age_s=30)
    items = headline.headline(
        PLANT,
        state,
        {mv.name: Stage.ADVISORY for mv in PLANT.with_role(Role.MV)},
        newest_reading=NOON - timedelta(minutes=3),
        planned_at=NOON - timedelta(hours=2),
        link="live",
        processes=[],
        is_stopped=False,
    )
    words = {item.label: item.word for item in items}
    assert words["Mode"].text == "1 REMOTE, 1 AUTO"
    assert words["Stage"].text == "advisory"
    assert (words["Data"].text, words["Data"].level) == ("3 min 30 s old", Level.ALARM)
    assert (words["Planned"].text, words["Planned"].level) == ("2 h ago", Level.ATTENTION)
    assert words["Writing"].text == "enabled"


def words_of(state: PlantState, plant: Plant = PLANT, **told: object) -> dict[str, Word]:
    """The headline's words of a plant of which nothing else is known."""
    nothing: dict[str, object] = {
        "newest_reading": None,
        "planned_at": None,
        "link": None,
        "processes": [],
        "is_stopped": False,
    }
    shown = headline.headline(plant, state, {}, **(nothing | told))  # type: ignore[arg-type]  # by name
    return {item.label: item.word for item in shown}


@pytest.mark.parametrize("link", [None, "lost: nothing answers"])
def test_a_start_is_no_fault(link: str | None) -> None:
    """In the first minute nothing that is not there yet is coloured; afterwards it is."""
    state = state_of(PLANT, {})
    silent = headline.process_row("plan", WALL - timedelta(hours=1), {}, WALL, 20)
    for processes in ([], [silent]):
        words = words_of(state, is_starting=True, link=link, processes=processes)
        for label in ("Connection", "Data", "Processes"):
            assert words[label].text == "starting"
            assert words[label].level is Level.CALM
        assert words["Mode"].text == text.NOTHING
    later = words_of(state, link="lost: nothing answers")
    assert later["Connection"].level is later["Data"].level is Level.ALARM


def test_a_stop_set_at_the_plant_is_abnormal() -> None:
    """It is no "enabled", and says that it is cleared there; our own stop is told first."""
    state = state_of(PLANT, {})
    word = words_of(state, is_stopped_at_plant=True)["Writing"]
    assert (word.text, word.level) == ("STOPPED AT THE PLANT", Level.ALARM)
    assert "Clear it at the plant" in word.reason
    assert words_of(state, is_stopped=True, is_stopped_at_plant=True)["Writing"].text == "STOPPED"


def test_a_planner_without_new_readings_waits() -> None:
    """One that has done its round is not silent; one that owes a round is."""
    long_ago = WALL - timedelta(minutes=5)
    waits = headline.process_row("plan", long_ago, {}, WALL, 20, has_nothing_to_do=True)
    silent = headline.process_row("plan", long_ago, {}, WALL, 20)
    fresh = headline.process_row("plan", WALL, {}, WALL, 20, has_nothing_to_do=True)
    assert [row.word.text for row in (waits, silent, fresh)] == [
        "waits for readings",
        "SILENT",
        "ALIVE",
    ]
    state = state_of(PLANT, {})
    assert words_of(state, processes=[waits])["Processes"].text == "plan waits for readings"
    assert words_of(state, processes=[waits])["Processes"].level is Level.ATTENTION
    assert words_of(state, processes=[silent])["Processes"].text == "plan SILENT"


def test_a_plant_without_physics_is_not_asked_for_its_planner() -> None:
    """Nothing plans it by design; the page says what planning would need."""
    bare = replace(PLANT, physics=None)
    assert "physics.py" in advice.no_proposal(bare, True, False)
    assert "planner alive" not in advice.no_proposal(bare, True, False)
    assert "planner alive" in advice.no_proposal(PLANT, True, False)
    assert "starting" in advice.no_proposal(PLANT, False, True)
    word = words_of(state_of(bare, {}), bare)["Planned"]
    assert (word.text, word.level) == ("never", Level.CALM)


def test_a_planner_may_rest_for_a_plant_step() -> None:
    """At speed 1 the planner beats once a minute and is not called silent for that."""
    slow, fast = headline.silent_after_s(PLANT, 1.0), headline.silent_after_s(PLANT, 20.0)
    assert slow > PLANT.step_s
    assert fast == 20.0


def test_figures_say_unknown_where_a_number_is_missing() -> None:
    """NaN never reaches the screen, and low trust is coloured."""
    nothing = Score(math.nan, math.nan, math.nan, {"tank_1.level": math.nan}, 1.0)
    figures = overview.figures(PLANT, None, nothing, Trust(0.6, 200))
    values = {label: word for label, word, _ in figures}
    assert values["Cost, last hour"].text == "unknown"
    assert values["Outside limits, last hour"].text == "unknown"
    assert values["Trust"].level is Level.ATTENTION
    assert [word.text for _, word, _ in overview.figures(PLANT, None, None, None)] == [
        "none",
        "unknown",
        "unknown",
        "unknown",
    ]


def test_figures_say_over_how_much_of_the_hour_they_are() -> None:
    """A short dropout does not hide the hour's cost; what it is worked out from is told."""
    short = Score(30.0, 29.0, 1.0, {"tank_1.level": 2.0, "tank_2.level": 0.0}, 57 / 60)
    told = {label: small for label, _, small in overview.figures(PLANT, None, short, None)}
    assert told["Cost, last hour"] == "limits: 1.00 ct/h; over 57 of 60 min"
    assert told["Outside limits, last hour"] == "tank_1.level 2; over 57 of 60 min"


def test_the_order_list_reads_as_batches() -> None:
    """Lines in use only, in the plant's zone, by start."""
    start = (NOON + timedelta(minutes=31)).timestamp()
    lines = {"order_2a.start": start, "order_2a.draw": 7.4, "order_2a.duration": 12.0}
    empty = {"order_1a.start": start, "order_1a.draw": 0.0, "order_1a.duration": 0.0}
    batches = overview.announced_batches(PLANT, state_of(PLANT, lines | empty))
    assert batches == [("tank_2.demand", "2026-01-05 13:31:00", "7.40 cm**3/s", "12 min")]
    assert "7.40 cm³/s" in markup.text_table([""] * 4, batches, "Announced batches")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7860, "2 h 11 min"),
        (273_600, "3 d 4 h"),
        (math.inf, text.NOTHING),
        (None, text.NOTHING),
    ],
)
def test_durations_read_in_two_units(seconds: float | None, shown: str) -> None:
    """Nobody counts 7860 seconds."""
    assert text.duration(seconds) == shown


def test_numbers_without_a_value_are_a_dash() -> None:
    """Nothing, NaN and infinity are no numbers; zero is one, and has no sign."""
    assert [text.number(v) for v in (None, math.nan, math.inf)] == [text.NOTHING] * 3
    assert text.number(-0.001) == "0.00"
    assert text.signed(0.0) == "0.00"
    assert text.signed(-0.42) == "-0.42"
    assert text.money(math.nan, "ct") == text.NOTHING
    assert text.span(LEVEL.engineering, 0) == "0 … 20"


def test_summer_time_is_the_plants() -> None:
    """The zone's offset follows the date."""
    assert text.clock_time(datetime(2026, 7, 1, 12, tzinfo=UTC), PLANT) == "14:00:00"
    assert text.zone_name(datetime(2026, 7, 1, 12, tzinfo=UTC), PLANT).endswith("UTC+02:00")
    assert text.zone_name(NOON, replace(PLANT, time_zone="UTC")) == "UTC"


def test_units_are_written_as_on_paper() -> None:
    """Powers are raised, products dotted; in every text of the page, hover texts included."""
    assert text.on_paper("cm**3/s") == "cm³/s"
    assert text.on_paper("ct/(W*h)") == "ct/(W·h)"
    sentence = "a move of 6.2 cm**3/s"
    for html in (
        markup.note(sentence, sentence),
        markup.words([Word("HIGH", Level.ATTENTION, sentence)]),
        markup.text_table(["What happened"], [[sentence]], "Audit"),
    ):
        assert "6.2 cm³/s" in html
        assert "**" not in html


def test_stored_sentences_read_as_a_person_writes() -> None:
    """Times in the plant's zone, seals by their beginning, codes as words, floods cut short."""
    seal = "a46e3ff2" + "0" * 24 + "." + "1" * 64
    cleared = f"clearance {seal} until 2026-01-07T00:09:36.960396+00:00"
    assert text.told(cleared, PLANT) == "clearance a46e3ff2 until 2026-01-07 01:09:36"
    assert text.told("9999-99-99 99:99:99Z", PLANT) == "9999-99-99 99:99:99Z"
    assert len(text.told("x" * 100_000, PLANT)) < 1100
    assert text.on_paper("no number with quality 0x80000000;") == "no number with quality bad;"
    doubled = "pump_1.setpoint needs pump_1.setpoint: pump_1.setpoint: 131 s old."
    assert text.on_paper(doubled) == "pump_1.setpoint: 131 s old."
    other = "pump_1.setpoint needs tank_1.level: tank_1.level: 131 s old."
    assert text.on_paper(other) == other
    old = "last reading is 27580278 s old; readings older than 60 s are not used."
    assert (
        text.on_paper(old)
        == "last reading is 319 d 5 h old; readings older than 60 s are not used."
    )
    for few in ("999 s old", "2.1234 s old", "1200 s/K", "tag.1200 set"):
        assert text.with_durations(few) == few


@given(st.from_regex(r"\A\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z\Z"))
def test_whatever_looks_like_a_time_can_be_shown(sentence: str) -> None:
    """No text that anybody wrote makes the page fail, whatever its digits."""
    assert text.told(sentence, PLANT)


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_a_time_at_the_edge_of_the_calendar_stays_as_it_stands(year: str) -> None:
    """Where the plant's zone has no such day."""
    edge = f"{year}-{'01-01 00:00:00' if year == '0001' else '12-31 23:59:59'}+00:00"
    west = replace(PLANT, time_zone="America/New_York" if year == "0001" else "Asia/Tokyo")
    assert text.told(edge, west) == edge


def test_no_text_can_become_markup() -> None:
    """Names, reasons and messages from the plant or a person are escaped."""
    evil = "<img src=x onerror=alert(1)>"
    for html in (
        markup.note(evil, evil),
        markup.words([Word(evil, Level.ALARM, f'" {evil}')]),
        markup.text_table([evil], [[evil]], evil),
        markup.headline(evil, evil, evil, [headline.Item(evil, Word(evil))], 1),
        markup.facts([(evil, Word(evil), evil)]),
    ):
        assert "<img" not in html
