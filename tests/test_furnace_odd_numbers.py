"""Numbers that no furnace can have: one of them is told as a fault and teaches nothing."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
from furnace_line import AT, FURNACE, MILL, PLANT, full_furnace
from hypothesis import given
from hypothesis import strategies as st
from made_furnace import made_past

from twin.furnace.faults import Faults
from twin.furnace.mill_watch import MillWatch
from twin.furnace.records import Records
from twin.furnace.rollout import leaving_steps
from twin.furnace.state import FurnaceState
from twin.furnace.stops import StopRecord, remaining_stop_s, stop_belief
from twin.furnace.tracking import Tracker
from twin.records import Window
from twin.simulation.line import simulate_line

_ANY = st.floats(allow_nan=True, allow_infinity=True)
_ABSURD = (-1e300, -5.0, 1e5, 1e9, 1e12, 1e300, math.inf, math.nan)


@pytest.fixture(scope="module")
def past() -> Window:
    """Two hours of a furnace."""
    return made_past(2)


def tracked(past: Window, **odd: float) -> tuple[Tracker, FurnaceState]:
    """Followed through `past`, in whose last but tenth minute the `odd` tags show something."""
    values = {tag: series.copy() for tag, series in past.values.items()}
    for tag, value in odd.items():
        values[tag.replace("__", ".")][-10] = value
    tracker = Tracker(FURNACE, MILL)
    tracker.observe(Window(past.end, past.step_s, values))
    state = tracker.state()
    assert state is not None
    return tracker, state


@pytest.mark.parametrize("shown_mw", _ABSURD)
def test_fuel_that_no_burner_can_burn_teaches_no_loss(past: Window, shown_mw: float) -> None:
    """One absurd reading of a meter; ten minutes later losses are what they would have been."""
    tracker, state = tracked(past, zone_2__fuel=shown_mw)
    _, honest = tracked(past)
    for zone, usual in zip(state.zones, honest.zones, strict=True):
        assert zone.extra_w == pytest.approx(usual.extra_w, abs=0.1e6)
        assert zone.fuel_w == pytest.approx(usual.fuel_w)
    told = [fault.message for fault in (*tracker.past_faults, *tracker.faults)]
    assert any("zone_2.fuel" in text for text in told)


@pytest.mark.parametrize("shown_c", [each for each in _ABSURD if not math.isnan(each)])
def test_a_followed_setpoint_that_cannot_be_is_held(past: Window, shown_c: float) -> None:
    """A loop that follows 1e9 °C would be rolled out at full fire: the last one is held."""
    values = {tag: series.copy() for tag, series in past.values.items()}
    values[FURNACE.zones[0].followed][-1] = shown_c
    tracker = Tracker(FURNACE, MILL)
    tracker.observe(Window(past.end, past.step_s, values))
    state = tracker.state()
    assert state is not None
    assert state.zones[0].followed_c == past.values[FURNACE.zones[0].followed][-2]
    assert any(FURNACE.zones[0].followed in fault.message for fault in tracker.faults)


def seen_stop(record: StopRecord, began_s: float, restart_s: float, minutes: int = 20) -> None:
    """The mill rolls for an hour, stands for `minutes` and rolls again, as the tags tell it."""
    for minute in range(60 + minutes + 2):
        stands = 60 <= minute < 60 + minutes
        at = AT + timedelta(minutes=minute)
        told = (0.0, began_s, restart_s) if stands else (1.0, 0.0, 0.0)
        record.see(at, *told)


@pytest.mark.parametrize("began_s", [1.0, 1e9, AT.timestamp() - 86_400.0])
def test_a_stop_that_began_while_the_mill_rolled_teaches_nothing(began_s: float) -> None:
    """A clock reset to 1970 once would make the mill's stops last for decades ever after."""
    record = StopRecord()
    seen_stop(record, began_s, 0.0)
    assert record.past == ()


def test_a_stop_as_old_as_the_first_minute_seen_is_learned_from() -> None:
    """After a takeover nobody knows since when it stands but its own record."""
    record = StopRecord()
    for minute in range(5):
        record.see(AT + timedelta(minutes=minute), 0.0, AT.timestamp() - 3600.0, 0.0)
    record.see(AT + timedelta(minutes=5), 1.0, 0.0, 0.0)
    assert [stop.lasted_s for stop in record.past] == [3600.0 + 5 * 60.0 - 30.0]


def test_a_stop_that_flickers_is_one_stop_of_its_whole_length() -> None:
    """The mill's bit shows 1 for a minute in its middle; the beginning on record stays."""
    record, began_s = StopRecord(), AT.timestamp()
    for minute in range(1, 31):
        running = 1.0 if minute == 10 else 0.0
        record.see(AT + timedelta(minutes=minute), running, began_s, 0.0)
    record.see(AT + timedelta(minutes=31), 1.0, 0.0, 0.0)
    assert [stop.lasted_s for stop in record.past] == [31 * 60.0 - 30.0]


@pytest.mark.parametrize("ahead_s", [1e-7, 6e10, 1e12, 1e300, math.inf])
def test_an_estimate_that_no_crew_gives_is_no_estimate(ahead_s: float) -> None:
    """A thousand years or nothing: told, not believed, and not learned from."""
    began_s = AT.timestamp()
    record = StopRecord()
    seen_stop(record, began_s + 3600.0, began_s + 3600.0 + ahead_s)
    assert len(record.past) == 1
    assert stop_belief(MILL, record.past).estimate_factor == pytest.approx(1.0, abs=0.05)
    told = Faults()
    mill = MillWatch(MILL, told)
    seen = dict(zip(mill.tags, (0.0, began_s, began_s + ahead_s, 1.0), strict=True))
    mill.see(AT, seen, is_held=False)
    restart = mill.state(AT).expected_restart
    assert restart is None or restart - AT < timedelta(seconds=1)
    if restart is None:
        assert any(MILL.expected_restart in fault.message for fault in told.present(AT))


@pytest.mark.parametrize("shown", [0.0, -1.0, 1e9, math.inf])
def test_a_pace_at_which_no_mill_rolls_is_told_and_the_last_one_counts(shown: float) -> None:
    """A pace of nothing would make the next slab due never, a negative one yesterday."""
    told = Faults()
    mill = MillWatch(MILL, told)
    for pace in (0.9, shown):
        mill.see(AT, dict(zip(mill.tags, (1.0, 0.0, 0.0, pace), strict=True)), is_held=False)
    assert mill.pace == 0.9
    assert [fault.subject for fault in told.present(AT)] == [MILL.pace]


@given(running=_ANY, began_s=_ANY, restart_s=_ANY, pace=_ANY)
def test_whatever_the_mill_tells_a_stop_has_a_length(
    running: float, began_s: float, restart_s: float, pace: float
) -> None:
    """No number of the four raises, and what is left of a stop is a number of days at most."""
    mill = MillWatch(MILL, Faults())
    seen = dict(zip(mill.tags, (running, began_s, restart_s, pace), strict=True))
    for minute in range(3):
        mill.see(AT + timedelta(minutes=minute), seen, is_held=False)
    at = AT + timedelta(minutes=2)
    state = full_furnace(mill.state(at))
    left_s = remaining_stop_s(MILL, state)
    assert left_s is None or 0.0 <= left_s < 30 * 86_400.0


def test_what_a_record_does_not_say_is_not_told_as_a_number() -> None:
    """Nobody is helped by a thickness of nan mm: it is not told."""
    records = Records(FURNACE)
    seen = dict.fromkeys(records.tags, 0.0)
    numbers = (7.0, math.nan, math.nan, math.nan, math.nan)
    parts = ("slab", "thickness", "charge", "grade", "rate")
    seen |= {FURNACE.slot_tag(5, part): at for part, at in zip(parts, numbers, strict=True)}
    read = records.read(seen)
    assert "nan" not in read.doubts[5]
    assert "thickness is not told; 220 mm is taken" in read.doubts[5]
    assert "grade is not told" in read.doubts[5]


@pytest.mark.parametrize("pace", [0.0, -1.0, 1e9, math.nan])
def test_no_slab_leaves_at_a_pace_that_no_mill_has(pace: float) -> None:
    """Slabs that leave ever faster, or never, would be counted without end."""
    with pytest.raises(ValueError, match="a pace of"):
        leaving_steps(FURNACE, full_furnace(), 240, pace=pace, restart_s=None)
    moves = {zone.setpoint: np.array([1200.0]) for zone in FURNACE.zones}
    with pytest.raises(ValueError, match=r"pace\.setpoint: "):
        simulate_line(
            PLANT, full_furnace(), {**moves, MILL.pace: np.array([pace])}, seed=1, steps=9
        )
