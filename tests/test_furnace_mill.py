"""What is believed of the mill when its tags fall silent, stick, or tell of a stop late.

The mill rolls a slab every seven minutes, as the slabs that leave show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from furnace_line import AT, FURNACE, MILL, full_furnace
from hypothesis import given
from hypothesis import strategies as st
from made_furnace import made_past

from twin.furnace.faults import Faults
from twin.furnace.hold import reasons_to_hold
from twin.furnace.mill_watch import MillWatch
from twin.furnace.state import Stop
from twin.furnace.stops import StopRecord
from twin.furnace.tracking import Tracker
from twin.records import Series, Window

_NEVER = math.nan


def after(minute: float) -> datetime:
    return AT + timedelta(minutes=minute)


def s_at(minute: float) -> float:
    return after(minute).timestamp()


def tracked(hours: int, edit: Callable[[dict[str, Series]], None]) -> Tracker:
    """Followed through hours in which a slab leaves every 7 min; row k is minute k + 1."""
    past = made_past(hours)
    values = {tag: series.copy() for tag, series in past.values.items()}
    edit(values)
    tracker = Tracker(FURNACE, MILL)
    tracker.observe(Window(past.end, past.step_s, values))
    return tracker


def told(tracker: Tracker) -> list[str]:
    return [fault.message for fault in (*tracker.past_faults, *tracker.faults)]


@dataclass
class Watched:
    """A mill watched minute by minute."""

    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self.mill = MillWatch(MILL, self.faults)

    def see(
        self, minute: int, running: float, began_s: float = 0.0, *, left: bool = False
    ) -> Watched:
        seen = dict(zip(self.mill.tags, (running, began_s, 0.0, 1.0), strict=True))
        self.mill.see(after(minute), seen, is_held=False)
        if left:
            self.mill.slab_left(after(minute), 420.0)
        return self

    def stops(self) -> list[Stop]:
        return list(self.mill.stops)

    def stands_since(self, minute: int) -> datetime | None:
        return self.mill.state(after(minute)).stopped_since

    def texts(self, minute: int) -> list[str]:
        return [fault.message for fault in self.faults.present(after(minute))]


# --- a bit that is silent or stuck


@pytest.mark.parametrize("shown", [_NEVER, 0.0], ids=["silent", "stuck"])
def test_slabs_that_leave_end_a_stop_that_only_the_bit_still_shows(shown: float) -> None:
    """Five minutes of a stop are seen; for hours more slabs leave: no furnace is let down."""

    def edit(values: dict[str, Series]) -> None:
        values[MILL.running][60:] = shown
        values[MILL.running][60:65] = 0.0
        for tag in (MILL.stopped_at, MILL.expected_restart):
            values[tag][60:] = shown
            values[tag][60:65] = s_at(61)

    tracker = tracked(5, edit)
    state = tracker.state()
    assert state is not None
    assert state.mill.stopped_since is None
    assert any("a slab has left; it is taken to roll" in text for text in told(tracker))
    assert tracker.stops == ()
    is_held_for = any("whether the mill rolls" in why for why in reasons_to_hold(FURNACE, state))
    assert is_held_for == math.isnan(shown)


def test_a_stop_that_slabs_refuted_teaches_nothing() -> None:
    """Five hours of a stuck bit were no stop of five hours, and the next real one counts."""
    watched = Watched()
    for minute in range(300):
        watched.see(minute, 0.0, s_at(0), left=minute % 7 == 0)
    for minute in range(300, 308):
        watched.see(minute, 1.0, left=minute == 301)
    assert watched.stops() == []
    for minute in range(308, 328):
        watched.see(minute, 0.0, s_at(308), left=minute == 308)
    assert watched.stands_since(327) == after(308)
    watched.see(328, 1.0)
    assert [stop.lasted_s for stop in watched.stops()] == [20 * 60.0 - 30.0]


def test_a_stop_dated_while_the_bit_sticks_teaches_nothing() -> None:
    """It may be real, but when it ends the bit does not show: slabs go on, and the bit stays."""
    watched = Watched()
    for minute in range(100):
        began_s = s_at(0) if minute < 30 else s_at(29)
        watched.see(minute, 0.0, began_s, left=minute in (7, 14, 21, 28) or minute % 7 == 4)
    watched.see(100, 1.0)
    assert watched.stops() == []


def test_a_stuck_bit_is_believed_again_when_no_slab_leaves() -> None:
    """Bit and slabs say the same then: the mill stands, since its last slab."""
    watched = Watched()
    for minute in range(61):
        watched.see(minute, 0.0, s_at(0), left=minute in (7, 14, 21))
        if minute == 40:
            assert watched.stands_since(minute) is None
    assert watched.stands_since(60) == after(21)


def test_the_slab_that_a_stop_follows_does_not_end_it() -> None:
    """It leaves in the stop's first minute, and its record may come a minute later."""
    for late in range(3):
        watched = Watched().see(0, 1.0)
        for minute in range(1, 11):
            watched.see(minute, 0.0, s_at(1), left=minute == 1 + late)
        assert watched.stands_since(10) == after(1)


def test_two_stops_with_one_slab_between_are_two() -> None:
    """The mill rolls for seconds that no minute shows: the new beginning is the sign of it."""
    watched = Watched().see(0, 1.0, left=True)
    for minute in range(1, 21):
        began_s = s_at(0) if minute < 11 else s_at(10.5)
        watched.see(minute, 0.0, began_s, left=minute == 11)
    assert watched.stands_since(20) == after(10.5)
    assert watched.texts(20) == []


def test_a_discharge_told_late_ends_no_stop() -> None:
    """Which slab left last is silent as the mill stops, and told 20 min later: it is no sign."""

    def edit(values: dict[str, Series]) -> None:
        values[MILL.running][62:] = 0.0  # the slab of minute 63 leaves in the first minute of it
        values[MILL.stopped_at][62:] = values[MILL.expected_restart][62:] = s_at(62.5)
        for tag in values:
            if tag.startswith(("slot_", "yard_")) or tag in (FURNACE.discharged,):
                values[tag][62:] = values[tag][62]
                values[tag][60:82] = math.nan

    state = tracked(2, edit).state()
    assert state is not None
    assert state.mill.stopped_since == after(62.5)


@pytest.mark.parametrize("unseen_min", [10, 11])
def test_a_mill_that_nothing_shows_for_over_ten_minutes_is_held_for(unseen_min: int) -> None:
    """Whether slabs leave or wait would be a guess, and a plan for the wrong one harms."""
    watched = Watched().see(0, 1.0)
    for minute in range(1, unseen_min + 2):
        watched.see(minute, _NEVER)
    mill = watched.mill.state(after(unseen_min + 1))
    state = replace(full_furnace(mill), at=after(unseen_min + 1))
    reasons = reasons_to_hold(FURNACE, state)
    assert bool(reasons) == (unseen_min > 10)
    assert all("since 2026-01-05 09:01 UTC whether the mill rolls" in text for text in reasons)
    assert reasons_to_hold(FURNACE, replace(state, mill=watched.see(20, 1.0).mill.state(AT))) == ()


# --- a stop that is declared late, or whose minutes are missing


def test_stops_declared_late_are_learned_from_and_as_old_as_they_are() -> None:
    """Ten minutes after its last slab the mill says that it has stood since then."""
    watched = Watched()
    for stop in range(5):
        begin = 60 * stop
        watched.see(begin, 1.0, left=True)
        for minute in range(begin + 1, begin + 10):
            watched.see(minute, 1.0)
        for minute in range(begin + 10, begin + 40):
            watched.see(minute, 0.0, s_at(begin))
            assert watched.stands_since(minute) == after(begin)
        for minute in range(begin + 40, begin + 60):
            watched.see(minute, 1.0, left=minute % 7 == 0)
    assert [stop.lasted_s for stop in watched.stops()] == [40 * 60.0 - 30.0] * 5
    assert watched.texts(299) == []


def test_a_stop_declared_late_is_learned_from_where_no_slab_is_known() -> None:
    """The record of weeks holds the mill's tags alone."""
    record = StopRecord()
    for minute in range(120):
        stands = 70 <= minute < 100
        record.see(after(minute), 0.0 if stands else 1.0, s_at(60) if stands else 0.0, 0.0)
    assert [stop.lasted_s for stop in record.past] == [40 * 60.0 - 30.0]


def test_a_minute_unseen_before_a_flicker_loses_no_stop() -> None:
    """The beginning was seen; after both it is still the same."""
    record = StopRecord()
    for minute in range(100):
        running = 1.0 if minute < 20 or minute >= 90 or minute == 71 else 0.0
        running = _NEVER if minute == 70 else running
        record.see(after(minute), running, 0.0 if running else s_at(20), 0.0)
    assert [stop.lasted_s for stop in record.past] == [70 * 60.0 - 30.0]


def test_a_stop_does_not_begin_in_the_one_before() -> None:
    """The mill stood for 40 min; ten minutes later a stop is dated back into that."""
    record = StopRecord()
    for minute in range(100):
        running = 0.0 if 10 <= minute < 50 or 60 <= minute < 80 else 1.0
        began_s = s_at(10) if minute < 50 else s_at(42)
        record.see(after(minute), running, began_s, 0.0)
    assert [stop.began_s for stop in record.past] == [s_at(10)]


def test_an_end_that_nobody_saw_is_not_learned() -> None:
    """The mill stands, is unseen for half an hour, and rolls: when it went on is not known."""
    record = StopRecord()
    for minute in range(90):
        running = 1.0 if minute < 20 or minute >= 60 else 0.0
        running = _NEVER if 30 <= minute < 60 else running
        record.see(after(minute), running, s_at(20), 0.0)
    assert record.past == ()


def test_an_old_beginning_is_no_beginning_of_the_next_stop() -> None:
    """`stopped_at` sticks at the first stop of the day: later ones are not hours long."""
    watched = Watched()
    for minute in range(240):
        stands = minute % 60 >= 50
        watched.see(minute, 0.0 if stands else 1.0, s_at(50), left=not stands and minute % 7 == 0)
    assert [stop.lasted_s for stop in watched.stops()] == [10 * 60.0 - 30.0]
    assert watched.stands_since(239) == after(230)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, _NEVER]), st.booleans()), max_size=90))
def test_no_stop_is_longer_than_no_slab_has_left(minutes: list[tuple[float, bool]]) -> None:
    """Whatever the bit shows, a stop that is believed or learned has let no slab pass."""
    watched, left = Watched(), [-1000]
    began_s = 0.0
    shown = 1.0
    for minute, (running, leaves) in enumerate(minutes):
        began_s = s_at(minute) if running == 0.0 and shown == 1.0 else began_s
        shown = running if math.isfinite(running) else shown
        watched.see(minute, running, began_s, left=leaves)
        left += [minute] if leaves else []
        since = watched.stands_since(minute)
        assert since is None or since >= after(left[-1] - 5) or minute - left[-1] > 30
    for stop in watched.stops():
        inside = [m for m in left if stop.began_s + 300 < s_at(m) < stop.began_s + stop.lasted_s]
        assert inside == []


# --- in words


@pytest.mark.parametrize(
    ("began_s", "words"),
    [
        (0.0, "0 is no time; while the mill stands it must be when it stopped, UTC"),
        (1.0, "1970-01-01 00:00 UTC is over 31 days ago"),
        (s_at(1440), "2026-01-06 09:00 UTC; while the mill stands it must be in the past"),
        (1e300, "1e+300 s since 1970; while the mill stands it must be in the past"),
        (s_at(-120), "2026-01-05 07:00 UTC is before the mill last rolled or a slab last left"),
    ],
)
def test_an_odd_beginning_is_told_as_a_time_that_can_be_checked(began_s: float, words: str) -> None:
    """Nobody on a night shift reads seconds since 1970; and what counts instead is told."""
    watched = Watched().see(0, 1.0, left=True)
    watched.see(1, 0.0, began_s)
    expected = f"{MILL.stopped_at}: {words}. 2026-01-05 09:01 UTC counts"
    assert watched.texts(1) == [expected]


def test_an_odd_estimate_is_told_as_a_time() -> None:
    """A restart in the year 2106 is a clock set wrong, and reads like one."""
    watched = Watched()
    seen = dict(zip(watched.mill.tags, (0.0, s_at(0), 2.0**32, 1.0), strict=True))
    watched.mill.see(AT, seen, is_held=False)
    assert any("2106-02-07 06:28 UTC is over 31 days ahead" in text for text in watched.texts(0))


# --- other tags that fall silent


@pytest.mark.parametrize("tag", [MILL.pace, FURNACE.interlock])
def test_a_silent_tag_is_told_after_minutes(tag: str) -> None:
    """What counts meanwhile is no secret; a reading that is late for minutes is no fault."""

    def silent(minutes: int) -> Tracker:
        def edit(values: dict[str, Series]) -> None:
            values[tag][-minutes:] = math.nan

        return tracked(1, edit)

    assert [text for text in told(silent(5)) if tag in text] == []
    assert [text for text in told(silent(6)) if f"{tag}: nothing usable for 5 min" in text]


@pytest.mark.parametrize("shown_c", [_NEVER, 1e9], ids=["silent", "impossible"])
def test_the_zones_temperature_counts_for_a_followed_setpoint_that_is_lost(shown_c: float) -> None:
    """A loop does not stay where it was last told to be; it is told, and ends with the silence."""
    zone = FURNACE.zones[0]

    def lost(values: dict[str, Series]) -> None:
        values[zone.followed][30:] = shown_c
        values[zone.temperature][30:] += 100.0

    tracker = tracked(2, lost)
    state = tracker.state()
    assert state is not None
    assert state.zones[0].followed_c == state.zones[0].gas_c
    assert any(f"{zone.followed}: nothing usable for 5 min" in text for text in told(tracker))

    def back(values: dict[str, Series]) -> None:
        lost(values)
        values[zone.followed][-1] = 1100.0

    returned = tracked(2, back)
    state = returned.state()
    assert state is not None
    assert state.zones[0].followed_c == 1100.0
    assert returned.loops is not None
    assert set(returned.loops.memory) == {0.0}, "no loop was asked for that jump"
