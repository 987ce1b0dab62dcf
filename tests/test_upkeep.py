"""Rollups always say what is stored, and retention deletes only what may go."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from each_database import Server, is_sqlite, seen_by_hand
from each_database import by_hand as by_hand_told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_plant import DEMAND, LEVEL, NOON, PUMP, at, level, small_plant
from sqlalchemy import URL, event, select

from dashboard.beats import clock_detail
from dashboard.facts import COLLECTOR
from dashboard.settings import Settings
from dashboard.workers.upkeep import keep_once, keep_up
from twin.clock import wall_now
from twin.errors import RecordRefused
from twin.historian import AnnotationKind, Historian, Keep, upkeep
from twin.historian.database import reading, writing
from twin.historian.retention import Deleted
from twin.historian.rules import Rule, add_rules, drop_rules
from twin.historian.schema import microseconds, rollup_1h, rollup_1m, tag
from twin.plant import Plant
from twin.records import BAD, GOOD, UNCERTAIN, Reading

PLANT = small_plant()
DAY = timedelta(days=1)
#: One bucket: n, n_good, total, low, high, first, last, area, known seconds.
Bucket = tuple[float | None, ...]


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    with Historian.create(database) as opened:
        opened.register(PLANT)
        yield opened


def rolled(
    historian: Historian, name: str, width_s: int, plant: Plant = PLANT
) -> dict[datetime, Bucket]:
    """The stored buckets of a tag, in order, by when they begin."""
    table = {60: rollup_1m, 3600: rollup_1h}[width_s]
    of_tag = (tag.c.name == name, tag.c.plant == plant.plant)
    query = select(table).join(tag, tag.c.id == table.c.tag_id).where(*of_tag)
    query = query.order_by(table.c.bucket)
    with reading(historian._engine) as connection:
        rows = connection.execute(query).all()
    return {NOON + timedelta(microseconds=r[1] - microseconds(NOON)): tuple(r[2:]) for r in rows}


def by_hand(
    readings: Sequence[Reading], max_age_s: float, width_s: int, until: datetime
) -> dict[datetime, Bucket]:
    """The same buckets from all readings of a tag, added up one by one."""
    unique: dict[datetime, Reading] = {}
    for each in readings:
        unique.setdefault(each.source_time, each)
    ordered = [unique[moment] for moment in sorted(unique) if moment < until]
    good = [each for each in ordered if each.is_good]
    ends = [*(each.source_time for each in good[1:]), until][: len(good)]
    width = timedelta(seconds=width_s)
    inside: dict[int, list[Reading]] = {}
    known: dict[int, list[tuple[float, float]]] = {}
    for each in ordered:
        inside.setdefault((each.source_time - NOON) // width, []).append(each)
    for each, following in zip(good, ends, strict=True):
        assert each.value is not None
        first = each.source_time
        end = min(following, first + timedelta(seconds=max_age_s))
        while first < end:
            bucket = (first - NOON) // width
            last = min(end, NOON + (bucket + 1) * width)
            known.setdefault(bucket, []).append(((last - first).total_seconds(), each.value))
            first = last
    buckets: dict[datetime, Bucket] = {}
    for bucket in inside.keys() | known.keys():
        values = [r.value for r in inside.get(bucket, []) if r.is_good and r.value is not None]
        told = (sum(values), min(values), max(values), values[0], values[-1]) if values else ()
        buckets[NOON + bucket * width] = (
            len(inside.get(bucket, [])),
            len(values),
            *(told or (None,) * 5),
            sum(seconds * value for seconds, value in known.get(bucket, [])),
            sum(seconds for seconds, _ in known.get(bucket, [])),
        )
    return buckets


def same(found: dict[datetime, Bucket], expected: dict[datetime, Bucket]) -> None:
    assert found.keys() == expected.keys()
    starts = sorted(found)
    ours, theirs = (np.array([each[s] for s in starts], dtype=float) for each in (found, expected))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-5)


def check(
    historian: Historian,
    name: str,
    readings: Sequence[Reading],
    until: datetime,
    plant: Plant = PLANT,
) -> None:
    age_s = PLANT.tag(name).max_age_s
    mine = [each for each in readings if each.tag == name]
    for width_s in (60, 3600):
        found = rolled(historian, name, width_s, plant)
        same(found, by_hand(mine, age_s, width_s, until))


# Rollups


def test_a_minute_says_what_its_readings_said(historian: Historian) -> None:
    """Count, good ones, sum, extremes, ends, and what held for how long."""
    historian.store([level(0, 2.0), level(30, 4.0), level(45, 9.0, BAD), level(50, 1.0)])
    historian.maintain(at(60 + 90), PLANT)
    assert rolled(historian, LEVEL, 60) == {
        NOON: (4, 3, 7.0, 1.0, 4.0, 2.0, 1.0, 2.0 * 30 + 4.0 * 20 + 1.0 * 10, 60.0)
    }


def test_a_value_holds_no_longer_than_its_tag_allows(historian: Historian) -> None:
    """A level counts for 60 s; after that nothing is known, and that is no zero."""
    historian.store([level(30, 2.0), level(600, 8.0)])
    historian.maintain(at(900), PLANT)
    known = {start: bucket[-2:] for start, bucket in rolled(historian, LEVEL, 60).items()}
    assert known == {at(0): (60, 30), at(60): (60, 30), at(600): (480, 60)}
    assert rolled(historian, LEVEL, 3600)[NOON][-2:] == (600, 120)


def test_what_is_newer_than_the_watermark_waits(historian: Historian) -> None:
    """A minute is rolled once it is over and settled, not while readings still come."""
    historian.store([level(0, 2.0), level(70, 3.0)])
    assert historian.maintain(at(149), PLANT).rolled_until is None
    assert rolled(historian, LEVEL, 60) == {}
    assert historian.maintain(at(150), PLANT).rolled_until == at(60)
    assert list(rolled(historian, LEVEL, 60)) == [NOON]


@pytest.mark.parametrize("days_late", [0.01, 1, 7, 30])
def test_late_readings_change_what_they_belong_to(historian: Historian, days_late: float) -> None:
    """However late: the minutes and the hour of a late value, and those it holds into."""
    live = [level(10.0 * i, 5.0 + i % 3) for i in range(400)]
    late = [level(i - 86_400 * days_late, 50.0 + i) for i in (0.0, 47.0, 90.0)]
    end = at(4000)
    historian.store(live)
    historian.maintain(end + timedelta(seconds=90), PLANT)
    historian.store(late)
    assert historian.maintain(end + timedelta(seconds=90), PLANT).due == 0
    check(historian, LEVEL, live + late, at(3960))


READINGS = st.builds(
    lambda name, seconds, value, quality: level(seconds, value, quality, name),
    st.sampled_from((LEVEL, DEMAND, PUMP)),
    st.one_of(
        st.integers(0, 9000).map(lambda tenth: tenth / 10 * 8),
        st.floats(-20_000, 7200).map(lambda s: round(s, 6)),
    ),
    st.floats(-1e6, 1e6),
    st.sampled_from((GOOD, GOOD, GOOD, UNCERTAIN, BAD)),
)


NUMBERS = itertools.count()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.tuples(st.lists(READINGS, max_size=25), st.booleans()), max_size=6))
def test_rollups_say_what_is_stored_whatever_came_when(
    historian: Historian, batches: list[tuple[list[Reading], bool]]
) -> None:
    """Late, unordered, doubled and bad readings, with gaps: the same as adding up at the end."""
    plant = small_plant(f"plant_{next(NUMBERS)}")
    historian.register(plant)
    stored: list[Reading] = []
    for i, (batch, is_maintained) in enumerate(batches):
        # Of several values of one tag and time in one batch, the database may take any.
        known = {(r.tag, r.source_time) for r in stored}
        new = list({(r.tag, r.source_time): r for r in batch}.values())
        historian.store(new, plant)
        stored += [r for r in new if (r.tag, r.source_time) not in known]
        if is_maintained:
            historian.maintain(at(1200 * (i + 1)), plant)
    end = at(9000)
    historian.maintain(end + timedelta(seconds=90), plant)
    for name in (LEVEL, DEMAND, PUMP):
        check(historian, name, stored, end, plant)


def test_the_largest_numbers_stop_no_upkeep(historian: Historian) -> None:
    """A source's number for "none" is no sum's end: rolled, told and deleted is all the rest."""
    found = lived_days(historian, 5)
    largest = sys.float_info.max
    spoiled = NOON - 4 * DAY
    none = [level(-4 * 86_400 + s, largest) for s in (5.0, 15.0, 300.0)]
    vast = [level(-4 * 86_400 + 10.0 * i, 1.6e298, tag=PUMP) for i in range(1080)]
    historian.store(none + vast)
    report = historian.maintain(NOON, PLANT, Keep(raw_days=2.0))
    assert report.due == 0
    assert report.deleted.rows or report.deleted.days
    minute = rolled(historian, LEVEL, 60)[spoiled]
    assert minute == (3, 3, None, 576.0, largest, 576.0, largest, 0.0, 0.0)
    before, hour = (rolled(historian, LEVEL, 3600)[spoiled - k * DAY / 24] for k in (1, 0))
    assert before[-2:] == (pytest.approx(60 * sum(range(577, 583))), 360.0)
    assert hour[-2:] == (pytest.approx(60 * sum(range(571, 576))), 300.0)
    assert rolled(historian, PUMP, 3600)[spoiled][-2:] == (0.0, 0.0)
    means = historian.time_weighted_average(PLANT, [LEVEL, PUMP], NOON - 5 * DAY, NOON)
    assert means[LEVEL].value == pytest.approx(np.mean([each.value for each in found]), rel=0.01)
    trend = historian.trend(PLANT, [LEVEL], NOON - 5 * DAY, NOON, 120)[LEVEL]
    assert np.isfinite(trend.mean).all()
    assert trend.high.max() == largest


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 50), st.booleans()), min_size=2, max_size=6
    )
)
def test_what_is_due_is_done_wherever_stretches_meet(
    historian: Historian, monkeypatch: pytest.MonkeyPatch, batches: list[tuple[int, int, bool]]
) -> None:
    """Late stretches that overlap, or begin where a piece of another ends: none is forgotten."""
    monkeypatch.setattr(upkeep, "_PIECE_MINUTES", 10)
    plant = small_plant(f"plant_{next(NUMBERS)}")
    historian.register(plant)
    stored = {at(-1e5): level(-1e5, 0.0)}
    historian.store(stored.values(), plant)
    historian.maintain(at(9000), plant)
    for k, (first, minutes, is_maintained) in enumerate(batches):
        late = [level(60 * i + 1 + k, float(k)) for i in range(10 * first, 10 * first + minutes)]
        historian.store(late, plant)
        stored |= {each.source_time: each for each in late}
        if is_maintained:
            historian.maintain(at(9000), plant)
    assert historian.maintain(at(9000), plant).due == 0
    check(historian, LEVEL, [*stored.values()], at(8910), plant)


def test_rolling_again_changes_nothing(historian: Historian) -> None:
    """Storing the same readings again leaves every bucket bit by bit as it was."""
    live = [level(7.3 * i, math.sin(i)) for i in range(900)]
    historian.store(live)
    historian.maintain(at(7200), PLANT)
    before = rolled(historian, LEVEL, 60), rolled(historian, LEVEL, 3600)
    historian.store(live)
    historian.store([level(0, 99.0)])
    historian.maintain(at(7200), PLANT)
    assert (rolled(historian, LEVEL, 60), rolled(historian, LEVEL, 3600)) == before


def test_a_reading_of_long_ago_costs_no_empty_minutes(historian: Historian) -> None:
    """Thirty years of nothing between two readings are passed over, not computed."""
    historian.store([level(-30 * 365 * 86_400.0, 1.0), level(0, 2.0)])
    assert historian.maintain(at(300), PLANT, Keep(None, None)).due == 0
    check(historian, LEVEL, historian.readings(PLANT, [LEVEL], at(-1e9), at(9)), at(180))


KEEPS_ROLLING = """
import sys
from datetime import datetime
from small_plant import small_plant
from twin.historian import Historian, Keep

with Historian.open(sys.argv[1]) as historian:
    print("begun", flush=True)
    historian.maintain(datetime.fromisoformat(sys.argv[2]), small_plant(), Keep(raw_days=1.0))
    print("done", flush=True)
"""


def keeps_rolling(database: URL) -> subprocess.Popen[str]:
    """A process of its own that rolls up and deletes, once it has said that it begins."""
    url = database.render_as_string(hide_password=False)
    command = [sys.executable, "-c", KEEPS_ROLLING, url, at(0).isoformat()]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=Path(__file__).parent, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def test_a_rollup_that_the_database_refuses_stops_no_other(historian: Historian) -> None:
    """The other tags are rolled up; what is refused stays due, is told, and is made in the end."""
    readings = [level(s, 1.0, tag=tag) for s in range(0, 300, 10) for tag in (LEVEL, PUMP, DEMAND)]
    historian.store(readings)
    with writing(historian._engine) as connection:
        of_pump = select(tag.c.id).where(tag.c.name == PUMP)
        number = connection.execute(of_pump).scalar_one()
        rule = Rule("no_pump", "INSERT", "rollup_1m", "this tag is odd", f"NEW.tag_id = {number}")
        add_rules(connection, rule)
    for _ in range(2):
        with pytest.raises(RecordRefused, match="this tag is odd"):
            historian.maintain(at(600), PLANT)
        assert len(rolled(historian, LEVEL, 60)) == len(rolled(historian, DEMAND, 60)) == 6
        assert not rolled(historian, PUMP, 60)
    with writing(historian._engine) as connection:
        drop_rules(connection, rule)
    assert historian.maintain(at(600), PLANT).due == 0
    assert rolled(historian, PUMP, 60)


def test_killed_upkeep_is_carried_on(database: URL) -> None:
    """Killed again and again at any moment, upkeep ends where an undisturbed one does."""
    chance = random.Random(1000)
    live = [level(-4 * 86_400 + 10.0 * i, float(i % 7)) for i in range(34_550)]
    end = at(0)
    with Historian.create(database) as historian:
        historian.register(PLANT)
        historian.store(live)
    for _ in range(3):
        process = keeps_rolling(database)
        try:
            process.wait(chance.uniform(0.0, 0.3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    with Historian.open(database) as historian:
        while historian.maintain(end, PLANT, Keep(raw_days=1.0)).due:
            pass
        same(rolled(historian, LEVEL, 60), by_hand(live, 60.0, 60, at(-120)))
        kept = historian.readings(PLANT, [LEVEL], at(-1e7), at(0))
        assert kept == [each for each in live if each.source_time >= NOON - 1.5 * DAY]


# Retention


def lived_days(historian: Historian, days: int) -> list[Reading]:
    """A level every 10 minutes for some days before noon, rolled up."""
    found = [level(-600.0 * i, float(i)) for i in range(days * 144)][::-1]
    historian.store(found)
    return found


def test_old_readings_go_and_rollups_stay(historian: Historian) -> None:
    """What is older than the kept days is gone, its rollups are not; the audit says so."""
    found = lived_days(historian, 5)
    report = historian.maintain(NOON, PLANT, Keep(raw_days=2.0))
    midnight = NOON - 2.5 * DAY
    left = historian.readings(PLANT, [LEVEL], NOON - 9 * DAY, NOON)
    assert left == [each for each in found if each.source_time >= midnight]
    assert report.deleted.days > 0 or report.deleted.rows == len(found) - len(left)
    check(historian, LEVEL, found, at(-120))
    told = historian.events(PLANT, kind="retention")
    assert [each.message.split(":")[0] for each in told] == [
        "readings before 2026-01-03 are deleted"
    ]
    assert historian.maintain(NOON, PLANT, Keep(raw_days=2.0)).deleted == Deleted()
    assert historian.events(PLANT, kind="retention") == told


def test_tests_and_what_is_to_keep_are_never_deleted(historian: Historian) -> None:
    """A period that somebody marked stays, both ends included, for the tags it names."""
    found = lived_days(historian, 6)
    historian.store([level(-86_400.0 * d, 1.0, tag=DEMAND) for d in range(1, 6)])
    first, last = NOON - 5 * DAY, NOON - 4 * DAY
    historian.annotate(
        PLANT, AnnotationKind.TEST, first, last, by="Ada", reason="step test", at=NOON, tags=[LEVEL]
    )
    historian.maintain(NOON, PLANT, Keep(raw_days=2.0))
    left = historian.readings(PLANT, [LEVEL], NOON - 9 * DAY, NOON)
    cut = NOON - 2.5 * DAY
    assert left == [r for r in found if r.source_time >= cut or first <= r.source_time <= last]
    assert len(historian.readings(PLANT, [DEMAND], NOON - 9 * DAY, NOON)) == 2
    number = historian.annotations(PLANT)[0].number
    assert historian.withdraw_annotation(PLANT, number, by="Ada", reason="done", at=NOON) is None
    historian.store([level(86_400, 1.0)])
    historian.maintain(at(86_700), PLANT, Keep(raw_days=2.0))
    assert historian.readings(PLANT, [LEVEL], NOON - 9 * DAY, cut + 0.99 * DAY) == []


def test_a_day_on_which_nothing_goes_is_not_told(historian: Historian) -> None:
    """All that is old is kept by annotations: the audit tells no deletion, today or tomorrow."""
    found = lived_days(historian, 6)
    told = {"by": "Ada", "reason": "first week", "at": NOON, "tags": [LEVEL]}
    historian.annotate(PLANT, AnnotationKind.KEEP, NOON - 9 * DAY, NOON - 4 * DAY, **told)
    historian.annotate(PLANT, AnnotationKind.TEST, NOON - 4 * DAY, NOON - DAY, **told)
    for day in range(2):
        historian.store([level(86_400 * day, 1.0)])
        historian.maintain(at(86_400 * day + 300), PLANT, Keep(raw_days=2.0))
    assert historian.readings(PLANT, [LEVEL], NOON - 9 * DAY, at(-1)) == found[:-1]
    assert not historian.events(PLANT, kind="retention")


def test_a_reading_older_than_what_is_kept_spoils_no_rollup(historian: Historian) -> None:
    """Its minute was computed whole when all were there; where there is none, it is new."""
    found = lived_days(historian, 5)
    historian.maintain(NOON, PLANT, Keep(raw_days=2.0))
    minutes = rolled(historian, LEVEL, 60)
    old = found[0].source_time
    historian.store([Reading(LEVEL, 1e6, GOOD, old + timedelta(seconds=20), NOON)])
    historian.store([Reading(LEVEL, 7.0, GOOD, old + timedelta(minutes=5), NOON)])
    historian.maintain(NOON, PLANT, Keep(raw_days=2.0))
    after = rolled(historian, LEVEL, 60)
    assert {start: after[start] for start in minutes} == minutes
    new = {bucket[:3] for start, bucket in after.items() if start not in minutes}
    assert (1, 1, 7.0) in new
    assert not [bucket for bucket in new if bucket[0] > 1]


@pytest.mark.parametrize("minute_days", [4.0, None])
def test_an_old_record_is_rolled_up_whole_while_it_comes(
    historian: Historian, minute_days: float | None
) -> None:
    """Upkeep between the batches of an import leaves no half minute, hour or held value behind."""
    lived_days(historian, 6)
    keep = Keep(raw_days=2.0, minute_days=minute_days)
    historian.maintain(NOON, PLANT, keep)
    begin = -40 * 86_400.0
    told = {"by": "Ada", "reason": "imported", "at": NOON}
    period = (at(begin), at(begin + 7300))
    historian.annotate(PLANT, AnnotationKind.KEEP, *period, **told)
    record = [level(begin + 10 * i, math.sin(i)) for i in range(720)]
    for first in range(0, len(record), 91):
        historian.store(record[first : first + 91])
        historian.maintain(NOON, PLANT, keep)
    for width_s in (60, 3600):
        found = rolled(historian, LEVEL, width_s)
        old = {start: bucket for start, bucket in found.items() if start < at(begin + 9000)}
        same(old, by_hand(record, 60.0, width_s, at(-120)))


def test_minutes_go_after_their_years_and_hours_never(historian: Historian) -> None:
    """Minutes have their own time; an hour is for ever."""
    lived_days(historian, 6)
    historian.maintain(NOON, PLANT, Keep(raw_days=1.0, minute_days=3.0))
    assert min(rolled(historian, LEVEL, 60)) == NOON - 3.5 * DAY
    assert min(rolled(historian, LEVEL, 3600)) < NOON - 5.9 * DAY


def test_who_keeps_everything_loses_nothing(historian: Historian) -> None:
    """None means for ever."""
    found = lived_days(historian, 100)
    assert historian.maintain(NOON, PLANT, Keep(None, None)).deleted == Deleted()
    assert historian.readings(PLANT, [LEVEL], NOON - 999 * DAY, NOON) == found


def test_nothing_is_deleted_whose_rollup_is_due(historian: Historian) -> None:
    """Upkeep that had no time to roll up has none to delete either."""
    found = lived_days(historian, 5)
    report = historian.maintain(NOON, PLANT, Keep(raw_days=1.0), most_s=0.0)
    assert report.due == 1
    assert historian.count(PLANT) == len(found)


def test_others_can_write_while_upkeep_runs(database: URL) -> None:
    """Days of backlog are rolled and deleted beside a live writer, and nothing is lost."""
    with Historian.create(database) as historian:
        historian.register(PLANT)
        historian.store([level(-2 * 86_400 + 4.0 * i, 1.0) for i in range(40_000)])
        process = keeps_rolling(database)
        written = 0
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            written += historian.store([level(float(written), 2.0)])
        assert process.communicate()[0] == "done\n"
        assert written > 20
        assert len(historian.readings(PLANT, [LEVEL], at(0), at(1e6))) == written
    if is_sqlite(database):
        assert seen_by_hand(database, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("years", [1, 10, 1000])
def test_a_clock_that_is_years_ahead_costs_a_day_not_the_past(
    historian: Historian, years: int
) -> None:
    """A day counts only if there are readings of it. When the clock is right again, all is."""
    found = lived_days(historian, 8)
    keep = Keep(raw_days=3.0, minute_days=4.0)
    historian.maintain(NOON, PLANT, keep)
    cut = NOON - 3.5 * DAY
    ahead = 365.25 * 86_400 * years
    wrong = [level(ahead, 99.0), level(ahead + 600, 99.0)]
    historian.store(wrong)
    while historian.maintain(at(ahead + 900), PLANT, keep).due:
        pass
    left = [each for each in found if each.source_time >= cut + DAY]
    assert historian.readings(PLANT, [LEVEL], NOON - 9 * DAY, NOON) == left
    assert min(rolled(historian, LEVEL, 60)) == cut
    more = [level(60.0 * i, 1.0) for i in range(1, 60)]
    historian.store(more)
    while historian.maintain(at(3720), PLANT, keep).due:
        pass
    assert historian.readings(PLANT, [LEVEL], NOON - 9 * DAY, at(3600)) == left + more
    hours = by_hand(found + more + wrong, 60.0, 3600, at(ahead + 780))
    same(rolled(historian, LEVEL, 3600), hours)


def test_a_watermark_that_ran_ahead_comes_back(historian: Historian) -> None:
    """Once a clock that was a year ahead is right again, nothing new counts as late."""
    early = [level(10.0 * i, float(i)) for i in range(60)]
    wrong = [level(366 * 86_400, 99.0)]
    historian.store(early + wrong)
    while historian.maintain(NOON + 367 * DAY, PLANT, Keep(None, None)).due:
        pass
    assert historian.maintain(at(700), PLANT, Keep(None, None)).rolled_until == at(600)
    later = [level(610.0 + 10 * i, float(i)) for i in range(90)]
    for i, each in enumerate(later):
        historian.store([each])
        assert seen_by_hand(historian.url, "SELECT * FROM rollup_due") == []
        if i % 20 == 19:
            historian.maintain(each.source_time, PLANT, Keep(None, None))
    historian.maintain(at(1590), PLANT, Keep(None, None))
    by_now = [each for each in early + later if each.source_time < at(1500)]
    found = {b: told for b, told in rolled(historian, LEVEL, 60).items() if b < NOON + DAY}
    same(found, by_hand(by_now, 60.0, 60, at(1500)))
    historian.maintain(NOON + 367 * DAY, PLANT, Keep(None, None))  # time has come there
    check(historian, LEVEL, early + later + wrong, NOON + 367 * DAY - timedelta(seconds=120))


@pytest.mark.parametrize(
    ("kind", "tags", "ended_us"),
    [
        ("test", "oops", microseconds(NOON - 6 * DAY)),
        ("keeep", "[]", microseconds(NOON - 6 * DAY)),
        ("bad-data", '["tank.demand"]', 1 << 61),
    ],
)
def test_an_annotation_that_cannot_be_read_keeps_its_period(
    historian: Historian, kind: str, tags: str, ended_us: int
) -> None:
    """What it says is unknown, so nothing of its time goes, of no tag; all else does."""
    found = lived_days(historian, 9)
    first = NOON - 7 * DAY
    by_hand_told(
        historian.url,
        "INSERT INTO annotation (id, plant, kind, started_at, ended_at, tags, actor, reason, at) "
        f"VALUES (7, 'small', '{kind}', {microseconds(first)}, {ended_us}, '{tags}', 'Ada', '', 0)",
    )
    historian.maintain(NOON, PLANT, Keep(raw_days=2.0))
    cut = NOON - 2.5 * DAY
    left = [
        each
        for each in found
        if microseconds(first) <= microseconds(each.source_time) <= ended_us
        or each.source_time >= cut
    ]
    assert historian.readings(PLANT, [LEVEL], NOON - 99 * DAY, NOON) == left
    assert len(left) < len(found)
    assert [(each.kind, each.key) for each in historian.unreadable("small")] == [
        ("annotation", "7")
    ]


def test_a_plant_that_stood_still_keeps_its_days(historian: Historian) -> None:
    """After half a year without a reading the last days before are as new as they were."""
    found = lived_days(historian, 6)
    back = 183 * 86_400.0
    historian.store([level(back, 1.0)])
    historian.maintain(at(back + 300), PLANT, Keep(raw_days=2.0))
    left = historian.readings(PLANT, [LEVEL], NOON - 9 * DAY, NOON)
    assert left == [each for each in found if each.source_time >= NOON - 1.5 * DAY]


def test_what_is_annotated_while_old_readings_go_stays(historian: Historian) -> None:
    """Who speaks between two batches of deleting is heard by the second."""
    found = lived_days(historian, 90)
    told = {"by": "Ada", "reason": "step test", "at": NOON}
    first, last = NOON - 60 * DAY, NOON - 50 * DAY
    whole = (found[0].source_time, NOON)
    # With something to keep in each, no day goes as a whole.
    historian.annotate(PLANT, AnnotationKind.KEEP, *whole, tags=[DEMAND], **told)
    with Historian.open(historian.url) as other:

        def speak(*_connection: object) -> None:
            if len(found) > other.count(PLANT) and len(other.annotations(PLANT)) == 1:
                other.annotate(PLANT, AnnotationKind.TEST, first, last, **told)

        event.listen(historian._engine, "checkin", speak)  # between any two transactions
        historian.maintain(NOON, PLANT, Keep(raw_days=1.0))
        event.remove(historian._engine, "checkin", speak)
    left = [r for r in found if first <= r.source_time <= last]
    left += [r for r in found if r.source_time >= NOON - 1.5 * DAY]
    assert historian.readings(PLANT, [LEVEL], NOON - 99 * DAY, NOON) == left


@pytest.mark.parametrize("days", [0.5, math.nan, math.inf])
def test_less_than_a_day_is_never_kept(days: float) -> None:
    """Who mistypes a number of days does not lose the past by it."""
    with pytest.raises(ValueError, match="at least one day"):
        Keep(raw_days=days)


def test_more_days_than_there_are_keep_everything(historian: Historian) -> None:
    """A number of days beyond the calendar is no fault: it keeps all."""
    found = lived_days(historian, 3)
    assert historian.maintain(NOON, PLANT, Keep(1e7, 1e9)).deleted == Deleted()
    assert historian.count(PLANT) == len(found)


@pytest.mark.postgres
def test_whole_days_are_dropped_at_once(postgres: Server) -> None:
    """On a server, days that no plant keeps anything of go as tables; a kept one stays."""
    url = postgres.database()
    other = small_plant("other")
    with Historian.create(url) as historian:
        for plant in (PLANT, other):
            historian.register(plant)
            found = [level(-600.0 * i, float(i)) for i in range(10 * 144)]
            historian.store(found, plant)
        told = {"by": "Ada", "reason": "step test", "at": NOON}
        test = (NOON - 5 * DAY, NOON - 4.5 * DAY)
        historian.annotate(other, AnnotationKind.TEST, *test, **told)
        days = "SELECT relname FROM pg_class WHERE relname LIKE 'sample_2%' AND relkind = 'r'"
        before = len(seen_by_hand(url, days))
        historian.maintain(NOON, PLANT, Keep(raw_days=2.0))
        assert len(seen_by_hand(url, days)) == before  # the other plant keeps them yet
        historian.maintain(NOON, other, Keep(raw_days=2.0))
        assert 0 < len(seen_by_hand(url, days)) < before
        left = historian.readings(other, [LEVEL], *test)
        assert len(left) == 73
        assert historian.count(PLANT) == 360 + 1
    postgres.drop(url)


# Beside the collecting


def test_a_collecting_process_keeps_the_historian_up(historian: Historian, tmp_path: Path) -> None:
    """Minute by minute, up to the newest reading; days are kept as the settings say."""
    plant = replace(PLANT, opcua=None)  # a record: its newest reading is its present
    lived_days(historian, 5)
    settings = Settings(state_dir=tmp_path, keep_raw_days=2)

    async def live() -> None:
        upkeep = asyncio.create_task(keep_up(plant, settings, historian, every_s=0.01))
        async with asyncio.timeout(60):
            while not historian.events(plant, kind="retention"):
                await asyncio.sleep(0.01)
        upkeep.cancel()

    asyncio.run(live())
    assert max(rolled(historian, LEVEL, 60)) >= NOON - DAY / 100
    (told,) = historian.events(plant, kind="retention")
    assert "kept for 2 days" in told.message


def test_upkeep_that_fails_goes_on_and_is_told(historian: Historian, tmp_path: Path) -> None:
    """A table is gone: the audit says so, once; it is back: the audit says that, and it is done."""
    plant = replace(PLANT, opcua=None)
    lived_days(historian, 2)
    settings = Settings(state_dir=tmp_path)

    async def told(count: int) -> None:
        async with asyncio.timeout(60):
            while len(historian.events(plant, kind="upkeep")) < count:
                await asyncio.sleep(0.01)

    async def live() -> None:
        by_hand_told(historian.url, "ALTER TABLE rollup_1m RENAME TO away")
        upkeep = asyncio.create_task(keep_up(plant, settings, historian, every_s=0.01))
        await told(1)
        by_hand_told(historian.url, "ALTER TABLE away RENAME TO rollup_1m")
        await told(2)
        upkeep.cancel()

    asyncio.run(live())
    over, began = historian.events(plant, kind="upkeep")
    assert "rollup_1m" in began.message
    assert over.message == f"over: {began.message}"
    assert rolled(historian, LEVEL, 60)


def test_upkeep_waits_until_the_plants_time_is_known(historian: Historian, tmp_path: Path) -> None:
    """The newest stored stamp of a plant in a time of its own may be years wrong: nothing goes."""
    assert PLANT.opcua is not None
    plant = replace(PLANT, opcua=replace(PLANT.opcua, speed_node="speed"))
    found = lived_days(historian, 5)
    settings = Settings(state_dir=tmp_path, keep_raw_days=2)
    assert keep_once(plant, settings, historian)
    assert historian.count(plant) == len(found)
    historian.beat(plant, COLLECTOR, wall_now(), 1, clock_detail(NOON, 20.0))
    assert keep_once(plant, settings, historian)
    assert historian.count(plant) < len(found)
