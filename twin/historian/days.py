"""PostgreSQL keeps the samples of each day (UTC) in a partition of its own; SQLite has none.

A whole day is then forgotten at once, and a question about an hour looks at one day. Where there
are very many days, as of an imported record of years, each further part is what is left of a month.
What comes of a day without a part waits in `sample_default`, and moves when that is made. Making
and dropping a part takes locks that a backup or a long question is in the way of: then it is left
for later. Where the table is a hypertable of TimescaleDB, that keeps the parts and nothing is done
here.
"""

from __future__ import annotations

import time
from calendar import monthrange
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta

import numpy as np
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from twin.historian import hypertable
from twin.historian.bulk import Rows
from twin.historian.database import fetch, reading, writing

DAY_US = 86_400_000_000
#: Days since 1970: from which, and until before which.
Span = tuple[int, int]

# Chosen: a question about all of them takes two locks for each, of the 6,400 a server has by
# default. Days beyond wait in the default partition.
_MOST_PARTS = 1000
# Chosen: with more parts than these each new one is of a month; the rest is for some 30 years.
_MOST_DAYS = 600
# Chosen: so many rows of one day in a batch are a record of that day, not a wrong stamp.
_RECORD_ROWS = 100
# More rows than this of one day stay in the default partition: moving so many takes about 0.5 s.
_MOST_WAITING = 50_000
# Who asks for a lock on a table holds up all who come after, readers too.
_LOCK_MS = 100
# A large default partition is looked through for a new day's rows; everybody waits meanwhile.
_MAKING_MS = 2_000
# After a lock was refused. Days are made one ahead, so there is a day to get one in.
_AGAIN_S = 60.0
_LOCK_REFUSED = ("55P03", "57014")  # PostgreSQL: lock not available, query cancelled
# Counting so many takes about a second.
_MANY_ROWS = 10_000_000
_FIRST = date(1970, 1, 1)
_DEFAULT = "sample_default"
_PARTS = (
    "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
    "WHERE inhparent = to_regclass('sample') ORDER BY child.relname"
)


class Days:
    """The days of one database, made as readings of them come."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keeps_days: bool | None = None
        self._known: set[int] = set()
        self._again_at = 0.0

    def prepare(self, rows: Rows) -> None:
        """Make the days that these rows call for, before they are stored.

        Where that cannot be done now the rows wait in the default partition: no reading is ever
        refused for want of a day.
        """
        if self._keeps_days is None:
            with reading(self._engine) as connection:
                self._keeps_days = has_days(connection)
        if not self._keeps_days or time.monotonic() < self._again_at:
            return
        new = missing_days(rows, self._known)
        if not new:
            return
        with writing(self._engine) as connection:
            is_made = make_days(connection, new)
        if is_made:
            self._known |= new
        else:
            self._again_at = time.monotonic() + _AGAIN_S


def has_days(connection: Connection) -> bool:
    """Whether samples are kept by day: on PostgreSQL, unless TimescaleDB keeps them."""
    if connection.dialect.name != "postgresql":
        return False
    kind = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('sample')"
    return bool(connection.exec_driver_sql(kind).scalar())


def missing_days(rows: Rows, known: set[int]) -> set[int]:
    """The days (since 1970) to make before these rows are stored, beside the `known` ones.

    Those of live readings with the day that follows, so that each is made before it begins, and
    of what looks like a record of that day. A few late or wrongly stamped rows make none.
    """
    row_days = rows.times_us // DAY_US
    days, counts = np.unique(row_days, return_counts=True)
    if {*days.tolist(), *(days[-1:] + 1).tolist()} <= known:
        return set()
    live = set(np.unique(row_days[np.abs(rows.delays_us) < DAY_US]).tolist())
    records = set(days[counts >= _RECORD_ROWS].tolist())
    return (records | live | {day + 1 for day in live}) - known


def make_days(connection: Connection, days: Iterable[int]) -> bool:
    """Make parts for those of these days that have none yet, with what waited for them.

    False where others use the table for longer than they may be held up, and some are not made. A
    day of which very much waits gets none.
    """
    there = [span for _, span in _parts(connection)]
    for day in sorted(days):
        if len(there) >= _MOST_PARTS or any(first <= day < end for first, end in there):
            continue
        span = (day, day + 1) if len(there) < _MOST_DAYS else _rest_of_month(day, there)
        if _is_much_waiting(connection, span):
            continue
        if not _unless_in_use(connection, _making(span)):
            return False
        there.append(span)
    return True


def _rest_of_month(day: int, there: Sequence[Span]) -> Span:
    """The days around one, as far as no part has them and they are of its month."""
    on = _date(day)
    first = day - on.day + 1
    end = first + monthrange(on.year, on.month)[1]
    before = [other_end for _, other_end in there if other_end <= day]
    after = [other_first for other_first, _ in there if other_first > day]
    return max([first, *before]), min([end, *after])


def _making(span: Span) -> list[str]:
    part, start, end = _name(span), span[0] * DAY_US, span[1] * DAY_US
    return [
        "LOCK TABLE ONLY sample IN SHARE UPDATE EXCLUSIVE MODE",
        f"LOCK TABLE {_DEFAULT} IN ACCESS EXCLUSIVE MODE",
        f"CREATE TABLE {part} (LIKE sample INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        f"WITH waiting AS (DELETE FROM {_DEFAULT} WHERE ts >= {start} AND ts < {end} "
        f"RETURNING *) INSERT INTO {part} SELECT * FROM waiting",
        f"ALTER TABLE sample ATTACH PARTITION {part} FOR VALUES FROM ({start}) TO ({end})",
    ]


def _is_much_waiting(connection: Connection, span: Span) -> bool:
    """Whether more of some days waits in the default partition than can be moved in a moment."""
    of_tag = (
        f"SELECT 1 FROM {_DEFAULT} WHERE tag_id = tag.id "
        f"AND ts >= {span[0] * DAY_US} AND ts < {span[1] * DAY_US} LIMIT {_MOST_WAITING + 1}"
    )
    rows = f"SELECT 1 FROM tag, LATERAL ({of_tag}) AS of_tag LIMIT {_MOST_WAITING + 1}"
    query = f"SELECT count(*) FROM ({rows}) AS waiting"
    return int(connection.exec_driver_sql(query).scalar_one()) > _MOST_WAITING


def _unless_in_use(connection: Connection, statements: Sequence[str]) -> bool:
    """Do all of it; nothing, and False, where others would wait too long for it."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MS}")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {_MAKING_MS}")
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("SET LOCAL lock_timeout = DEFAULT")
            connection.exec_driver_sql("SET LOCAL statement_timeout = DEFAULT")
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) not in _LOCK_REFUSED:
            raise
        return False
    return True


def drop_days(
    connection: Connection, before_us: int, wanting: Callable[[int, int], Sequence[str]]
) -> int:
    """Forget whole parts that ended by `before_us`, and return how many.

    A part stays while it has rows of a plant that is `wanting` it (from, until, in µs). Days apart
    are for PostgreSQL. What waits in the default partition, and the rest of a part that has not
    ended by then, stays; so does all while others use the table for longer than they may be held
    up.
    """
    if not has_days(connection):
        is_wanted = any(wanting(-(1 << 62), before_us))
        return 0 if is_wanted else hypertable.drop_chunks(connection, before_us)
    gone = [
        part
        for part, (first, end) in _parts(connection)
        if end <= before_us // DAY_US
        and not _has_rows_of(connection, part, wanting(first * DAY_US, end * DAY_US))
    ]
    if not gone or not _unless_in_use(connection, _dropping(gone)):
        return 0
    return len(gone)


def _dropping(parts: Sequence[str]) -> list[str]:
    first = "LOCK TABLE ONLY sample IN ACCESS EXCLUSIVE MODE"
    return [first, *(f"DROP TABLE {part}" for part in parts)]


def _has_rows_of(connection: Connection, part: str, plants: Sequence[str]) -> bool:
    query = (
        f"SELECT tag.id FROM tag WHERE plant = ? "
        f"AND EXISTS (SELECT 1 FROM {part} WHERE tag_id = tag.id) LIMIT 1"
    )
    return any(fetch(connection, query, (plant,)) for plant in plants)


def count_samples(connection: Connection) -> int:
    """How many samples are stored; a server's own estimate where counting would take long."""
    if connection.dialect.name == "postgresql":
        of_parts = f"SELECT sum(reltuples) FROM pg_class WHERE relname IN ({_PARTS})"
        estimate = connection.exec_driver_sql(of_parts).scalar() or 0
        if estimate > _MANY_ROWS:
            return int(estimate)
    return int(connection.exec_driver_sql("SELECT count(*) FROM sample").scalar_one())


def count_of_plant(connection: Connection, plant: str, most: int) -> int:
    """How many samples a plant has, no further than `most`: in a time that never grows long."""
    query = (
        "SELECT count(*) FROM (SELECT 1 FROM tag JOIN sample ON sample.tag_id = tag.id "
        "WHERE tag.plant = ? LIMIT ?) AS counted"
    )
    ((found,),) = fetch(connection, query, (plant, most))
    return int(found)


def oldest_us(connection: Connection) -> int | None:
    """The earliest source time of a sample; None where there is none."""
    if not has_days(connection):
        return _oldest_in(connection, "sample")
    waiting = _oldest_in(connection, _DEFAULT)
    for part, _ in _parts(connection):
        oldest = _oldest_in(connection, part)
        if oldest is not None:
            return oldest if waiting is None else min(oldest, waiting)
    return waiting


def _oldest_in(connection: Connection, table: str) -> int | None:
    of_tag = f"SELECT min(ts) AS ts FROM {table} WHERE tag_id = tag.id"
    query = f"SELECT min(oldest) FROM (SELECT ({of_tag}) AS oldest FROM tag) AS each_tag"
    found: int | None = connection.exec_driver_sql(query).scalar_one()
    return found


def _parts(connection: Connection) -> list[tuple[str, Span]]:
    """Every part but the default one with its days, in order."""
    names = connection.exec_driver_sql(_PARTS).scalars().all()
    return [(name, _span(name)) for name in names if name != _DEFAULT]


def _span(part: str) -> Span:
    """The days of a part, of whose name they are: the first and, if of several, the last."""
    ends = [(date.fromisoformat(text) - _FIRST).days for text in part.split("_")[1:]]
    return ends[0], ends[-1] + 1


def _name(span: Span) -> str:
    days = (_date(day) for day in (span[0], span[1] - 1))
    ends = dict.fromkeys(day.isoformat().replace("-", "") for day in days)
    return "_".join(["sample", *ends])


def _date(day: int) -> date:
    return _FIRST + timedelta(days=day)
