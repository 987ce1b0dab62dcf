"""Plant time follows the plant, and no single wrong stamp can take it elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.clock import PlantClock, latest_believable

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
YEARS = timedelta(days=3650)
HOUR = timedelta(hours=1)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def started(
    *times: datetime,
    has_own_time: bool = False,
    earlier: PlantClock | None = None,
    wall: datetime = NOON,
) -> PlantClock:
    """A clock of a plant whose tags show `times`, while the wall and all seconds stand still."""
    return PlantClock.start(
        times,
        wall=lambda: wall,
        has_own_time=has_own_time,
        earlier=earlier,
        monotonic=lambda: 0.0,
    )


def test_a_summer_time_error_is_further_ahead_than_clocks_may_differ() -> None:
    """An hour is a fault and shown as one; the drift of a clock that nobody sets is none."""
    assert NOON + minutes(15) < latest_believable(NOON) < NOON + minutes(59)


def test_what_may_be_late_grows_with_an_emulators_speed() -> None:
    """A minute of the wall is an hour of a plant at 60×; years ahead stay wrong at any speed."""
    assert NOON + HOUR < latest_believable(NOON, 60) < NOON + 2 * HOUR
    assert latest_believable(NOON, 1e300) < NOON + timedelta(days=2)
    assert latest_believable(datetime.max.replace(tzinfo=UTC), 60).year == 9999


@pytest.mark.parametrize("has_own_time", [False, True])
@given(ahead_s=st.floats(-1e9, 1e9))
def test_trust_moves_only_ahead_and_never_beyond_what_can_be_true(
    has_own_time: bool, ahead_s: float
) -> None:
    """Any stamp moves the clock to itself or not at all."""
    clock = started(NOON, NOON, has_own_time=has_own_time)
    stamp = NOON + timedelta(seconds=ahead_s)
    clock.trust(stamp)
    is_true = 0 <= ahead_s <= 30 * 60
    assert clock.now() == (max(stamp, NOON) if is_true else NOON)


def test_a_plant_in_real_time_cannot_creep_away_from_the_wall() -> None:
    """Stamp after stamp a little further ahead ends where clocks may not differ more."""
    clock = started(NOON)
    for step in range(1, 100):
        clock.trust(NOON + minutes(10 * step))
    assert clock.now() == NOON + minutes(30)


def test_an_emulator_that_catches_up_is_followed_however_far() -> None:
    """Samples that come one after the other are each near the one before."""
    clock = started(NOON, has_own_time=True)
    for step in range(1, 100):
        clock.trust(NOON + minutes(10 * step))
    assert clock.now() == NOON + minutes(990)


@pytest.mark.parametrize(
    ("times", "begins"),
    [
        ((), NOON),
        ((NOON - minutes(5), NOON - minutes(2)), NOON - minutes(2)),
        ((NOON - minutes(2), NOON + YEARS), NOON - minutes(2)),
        ((NOON + YEARS, NOON + YEARS), NOON),
        ((NOON - YEARS, NOON - HOUR), NOON),
    ],
)
def test_in_real_time_the_first_anchor_is_near_the_wall(
    times: tuple[datetime, ...], begins: datetime
) -> None:
    """The newest stamp that can be the present; where none can, the wall itself."""
    assert started(*times).now() == begins


@pytest.mark.parametrize(
    ("times", "begins"),
    [
        ((NOON, NOON - minutes(1)), NOON),
        ((NOON, NOON, NOON + YEARS), NOON),
        ((NOON, NOON, NOON + YEARS, NOON + YEARS), NOON),
        ((NOON - YEARS, NOON, NOON - minutes(1)), NOON),
        ((NOON, NOON + YEARS), NOON),
    ],
)
def test_an_emulators_first_anchor_is_what_most_tags_say(
    times: tuple[datetime, ...], begins: datetime
) -> None:
    """It may live in any year, so the wall says nothing; one tag of years ahead does not either."""
    assert started(*times, has_own_time=True, wall=NOON + YEARS).now() == begins


def test_a_clock_never_falls_behind_an_earlier_one() -> None:
    """A frozen source does not grow young by reconnecting, nor does a plant without any time."""
    earlier = started(NOON, has_own_time=True)
    for times in ((NOON - HOUR, NOON - HOUR), ()):
        again = started(*times, has_own_time=True, earlier=earlier, wall=NOON + YEARS)
        assert again.now() == NOON


steps_h = st.floats(-30_000, 30_000, allow_nan=False)


@dataclass
class Machine:
    """Ours: a wall that somebody may set, and seconds that nobody can."""

    wall_step: timedelta = timedelta(0)
    passed_s: float = 0.0

    def pass_on(self, seconds: float) -> None:
        self.passed_s += seconds

    def true(self) -> datetime:
        return NOON + timedelta(seconds=self.passed_s)

    def wall(self) -> datetime:
        return self.true() + self.wall_step

    def connect(self, *times: datetime, earlier: PlantClock | None = None) -> PlantClock:
        return PlantClock.start(
            times,
            wall=self.wall,
            has_own_time=False,
            earlier=earlier,
            monotonic=lambda: self.passed_s,
        )


@given(
    steps=st.lists(st.tuples(steps_h, st.floats(0, 10_000), st.booleans()), min_size=1, max_size=6)
)
def test_a_wall_that_is_set_ages_nothing_and_blinds_nobody(
    steps: list[tuple[float, float, bool]],
) -> None:
    """Whatever our wall is set to, and however often we connect again: a plant that is dated well
    is believed, and no reading of now grows old."""
    machine = Machine()
    clock = machine.connect(NOON)
    for step_h, seconds, is_new_link in steps:
        machine.wall_step = timedelta(hours=step_h)
        machine.pass_on(seconds)
        if is_new_link:
            clock = machine.connect(machine.true(), earlier=clock)
        assert machine.true() <= clock.latest()
        clock.trust(machine.true())
        assert abs(clock.now() - machine.true()) < timedelta(milliseconds=1)


@given(step_h=st.floats(-30_000, 0), ahead=st.floats(31, 1e7))
def test_a_wall_that_is_set_back_lets_no_false_stamp_through(step_h: float, ahead: float) -> None:
    """What was too far ahead before still is, also after a new connection."""
    machine = Machine()
    clock = machine.connect(NOON)
    machine.wall_step = timedelta(hours=step_h)
    for now in (clock, machine.connect(NOON, NOON + minutes(ahead), earlier=clock)):
        now.trust(NOON + minutes(ahead))
        assert now.now() == NOON


def test_a_wall_that_was_late_and_is_mended_lets_the_plant_in() -> None:
    """At the first start it was two hours behind, so the plant seemed ahead; then it is right."""
    machine = Machine(timedelta(hours=-2))
    clock = machine.connect(NOON)
    clock.trust(NOON)
    assert clock.now() == NOON - 2 * HOUR
    machine.wall_step = timedelta(0)
    clock.trust(NOON)
    assert clock.now() == NOON


def test_an_emulator_that_lives_on_later_takes_its_clock_along() -> None:
    """Where most tags agree on a later time the plant itself is there."""
    earlier = started(NOON, has_own_time=True)
    later = NOON + timedelta(days=2)
    assert started(later, later, has_own_time=True, earlier=earlier).now() == later
