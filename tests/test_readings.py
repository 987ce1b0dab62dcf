"""Readings by the thousand, as columns, are what they were one by one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from datetime import datetime

import pytest
from each_database import by_hand
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_plant import DEMAND, LEVEL, NOON, PUMP, at, level, small_plant
from sqlalchemy import URL

from twin.errors import UnknownTag
from twin.historian import Historian
from twin.readings import Readings
from twin.records import BAD, GOOD, UNCERTAIN, Mark, Reading

NUMBERS = itertools.count()
TAGS = (LEVEL, DEMAND, PUMP)
QUALITIES = (GOOD, UNCERTAIN, BAD, BAD | 7, 0xC0000000)

MADE = st.builds(
    Reading,
    st.sampled_from(TAGS),
    st.none() | st.floats(),
    st.sampled_from(QUALITIES),
    st.integers(-2, 10).map(at) | st.integers(-3, 3).map(lambda day: at(86_400 * day)),
    st.integers(-1, 20).map(at),
    st.sampled_from([*Mark, Mark.NONE, Mark.BACKFILLED | Mark.UNDATED]),
)
OF_ANY_TIME = st.builds(
    Reading,
    st.text(max_size=3),
    st.none() | st.floats(allow_nan=False),
    st.integers(0, 2**32 - 1),
    *[st.datetimes().map(lambda time: time.replace(tzinfo=NOON.tzinfo))] * 2,
    st.sampled_from([*Mark, Mark.NONE]),
)


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    with Historian.create(database) as opened:
        yield opened


@given(st.lists(OF_ANY_TIME), st.slices(8))
def test_columns_read_as_the_records_they_were_made_of(
    given_readings: list[Reading], part: slice
) -> None:
    """Whole, in part, one by one, and joined; times of any year to the microsecond."""
    columns = Readings.of(given_readings)
    assert columns == given_readings
    assert columns[part] == given_readings[part]
    assert Readings.of(columns) is columns
    assert [columns[i] for i in range(-len(columns), len(columns))] == given_readings * 2
    joined = Readings.joined([columns[part], columns, Readings.of([])])
    assert joined == given_readings[part] + given_readings
    with pytest.raises(IndexError):
        columns[len(columns)]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"source_time": datetime(2026, 1, 5)}, ValueError),  # noqa: DTZ001 - what is refused
        ({"value": "5"}, TypeError),
        ({"value": 10**400}, OverflowError),
        ({"quality": 2**64}, OverflowError),
    ],
)
def test_what_no_column_holds_is_refused(changed: dict[str, object], fault: type) -> None:
    """A text that spells a number is none; a time without a zone is not guessed."""
    strange = dataclasses.replace(level(0, 1.0), **changed)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(fault):
        Readings.of([level(0, 1.0), strange])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.tuples(st.lists(MADE, max_size=12), st.booleans()), max_size=5))
def test_columns_and_records_leave_the_same_history(
    historian: Historian, batches: list[tuple[list[Reading], bool]]
) -> None:
    """Of doubled readings the first stands, in whatever order and form they come; NaN is none."""
    plant = small_plant(f"plant_{next(NUMBERS)}")
    historian.register(plant)
    stands: dict[tuple[str, datetime], Reading] = {}
    for batch, by_columns in batches:
        before = len(stands)
        for each in batch:
            stands.setdefault((each.tag, each.source_time), stored(each))
        new = historian.store(Readings.of(batch) if by_columns else iter(batch), plant)
        assert new == len(stands) - before
    expected = [stands[key] for key in sorted(stands)]
    found = historian.readings(plant, TAGS, at(-1e6), at(1e6))
    assert sorted(found, key=lambda each: (each.tag, each.source_time)) == expected
    assert historian.last_readings(plant) == {each.tag: each for each in expected}


@pytest.mark.parametrize("by_columns", [True, False])
def test_unknown_tags_are_all_named_and_nothing_is_stored(
    historian: Historian, by_columns: bool
) -> None:
    """Also where known ones come with them; a name that no reading has any more is no matter."""
    plant = small_plant()
    historian.register(plant)
    given_readings = [level(0, 1.0), level(0, 1.0, tag="x"), level(1, 1.0, tag="w")]
    batch = Readings.of(given_readings) if by_columns else given_readings
    with pytest.raises(UnknownTag, match=r"^w, x: not registered"):
        historian.store(batch, plant)
    assert historian.count(plant) == 0
    assert historian.store(batch[:1], plant) == 1


def test_a_last_value_that_is_behind_costs_no_reading(historian: Historian) -> None:
    """Somebody took last values away: what is stored already is found all the same."""
    plant = small_plant()
    historian.register(plant)
    historian.store([level(s, float(s)) for s in range(5)], plant)
    by_hand(historian.url, "DELETE FROM last_value")
    assert historian.store(Readings.of([level(s, 9.0) for s in range(7)]), plant) == 2
    values = [each.value for each in historian.readings(plant, [LEVEL], at(0), at(9))]
    assert values == [0.0, 1.0, 2.0, 3.0, 4.0, 9.0, 9.0]


def stored(given_reading: Reading) -> Reading:
    """How a reading comes back: what is not a finite number is none, and bad."""
    value, quality = given_reading.value, given_reading.quality
    if value is None or not math.isfinite(value):
        value, quality = None, quality if quality >> 30 == 2 else BAD
    return dataclasses.replace(given_reading, value=value, quality=quality)
