"""What the spool took is on the disk, in order, until it is stored; nothing blocks another."""

from __future__ import annotations

import random
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_tank import NOON

from connectors.parcels import (
    Batch,
    Heard,
    Lost,
    Note,
    Parcel,
    Silence,
    packed,
    rows_of,
    unpacked,
)
from connectors.spool import Spool
from twin.errors import SpoolTaken
from twin.records import BAD, GOOD, UNCERTAIN, Mark, Reading

times = st.datetimes().map(lambda moment: moment.replace(tzinfo=NOON.tzinfo))
readings = st.builds(
    Reading,
    st.text(max_size=5),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([GOOD, UNCERTAIN, BAD, 0x80230000, 0x00000480]),
    times,
    times,
    st.sampled_from(Mark) | st.just(Mark.BACKFILLED | Mark.UNDATED),
)
parcels = st.one_of(
    st.builds(Batch, st.text(), st.lists(readings, min_size=1)),
    st.builds(Lost, st.text(), times, times, st.text(), st.none() | st.text()),
    st.builds(Silence, st.text(), times, st.text(), st.none() | st.text(), st.floats(0, 1e9)),
    st.builds(Heard, st.text(), times, st.none() | st.text()),
    st.builds(Note, st.text(), st.text(), st.text(), times, st.text()),
)


def batch(row: int, count: int = 3) -> Batch:
    at = NOON + timedelta(seconds=row)
    return Batch("opcua", [Reading(f"tag{k}", float(row), GOOD, at, at) for k in range(count)])


def taken_out(spool: Spool) -> list[Parcel]:
    found: list[Parcel] = []
    while some := spool.first(10):
        found += [parcel for _, parcel in some]
        spool.stored(some[-1][0])
    return found


@given(parcels)
def test_every_parcel_comes_back_as_it_went_in(parcel: Parcel) -> None:
    """Values, qualities, marks and times to the microsecond, of any year."""
    assert unpacked(packed(parcel)) == parcel


@pytest.mark.parametrize(("quality", "mark"), [(2**32, 0), (-1, 0), (GOOD, 256)])
def test_a_number_that_has_no_room_is_refused_and_never_cut(quality: int, mark: int) -> None:
    """Cut to its lower bits, a bad quality would become a good one."""
    odd = Reading("tag", 1.0, quality, NOON, NOON, Mark(mark))
    with pytest.raises(OverflowError, match="quality or mark"):
        packed(Batch("opcua", [odd]))


@given(st.binary(max_size=60))
def test_other_bytes_are_no_parcel(stored: bytes) -> None:
    """They are told as such, never taken for readings."""
    with pytest.raises(ValueError, match="parcel"):
        unpacked(stored)


def test_what_was_put_comes_out_in_order_also_after_a_restart(tmp_path: Path) -> None:
    """What was not stored is still there; what was is not."""
    marks = [Silence("opcua", NOON, "not connected"), batch(0), Heard("opcua", NOON), batch(1)]
    with Spool(tmp_path / "spool") as spool:
        spool.put(marks[:2])
        spool.put(marks[2:])
        assert spool.rows == 6
        (number, _), *_ = spool.first(1)
        spool.stored(number)
        spool.tidy()
    with Spool(tmp_path / "spool") as again:
        assert again.rows == 6
        assert taken_out(again) == marks[1:]
        assert (again.rows, again.bytes, again.is_empty) == (0, 0, True)
        again.put([batch(2)])
        assert taken_out(again) == [batch(2)]


def test_what_is_taken_but_not_stored_is_handed_out_again(tmp_path: Path) -> None:
    """Taking alone deletes nothing: only what was told as stored is gone."""
    with Spool(tmp_path / "spool") as spool:
        spool.put([batch(0), batch(1)])
        assert spool.first(100) == spool.first(100)
        spool.stored(spool.first(1)[0][0])
        spool.put([batch(2)])
        assert [parcel for _, parcel in spool.first(100)] == [batch(1), batch(2)]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """Readings of a plant are nobody else's business: the file, its log and its ballast."""
    with Spool(tmp_path / "spool") as spool:
        spool.put([batch(0)])
        files = list(tmp_path.iterdir())
        assert len(files) >= 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_second_process_is_told_that_it_is_taken(tmp_path: Path) -> None:
    """Two processes never write into one spool; when one ends, the other may."""
    open_it = "from pathlib import Path; from connectors.spool import Spool; "
    open_it += f"Spool(Path({str(tmp_path / 'spool')!r})).__enter__(); print('open')"
    with Spool(tmp_path / "spool") as spool:
        with pytest.raises(SpoolTaken, match="another process"), Spool(tmp_path / "spool"):
            pass
        other = subprocess.run([sys.executable, "-c", open_it], capture_output=True, text=True)
        assert "SpoolTaken" in other.stderr
        first = spool.identity
    other = subprocess.run([sys.executable, "-c", open_it], capture_output=True, text=True)
    assert other.stdout == "open\n"
    with Spool(tmp_path / "spool") as again:
        assert again.identity == first


def test_a_damaged_parcel_is_set_aside_and_its_stretch_told(tmp_path: Path) -> None:
    """One rotten sector costs its own readings: they become a lost stretch, the rest goes on."""
    path = tmp_path / "spool"
    with Spool(path) as spool:
        spool.put([batch(0), batch(1), batch(2)])
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE parcel SET blob = zeroblob(40) WHERE id = 2")
    raw.close()
    with Spool(path) as again:
        at = NOON + timedelta(seconds=1)
        lost = Lost("opcua", at, at, "damaged on the disk of the spool")
        assert taken_out(again) == [batch(0), lost, batch(2)]
        assert again.quarantined_rows == 3
    with Spool(path) as later:
        assert later.quarantined_rows == 3
        (aside,) = later.quarantined()
        assert (aside.rows, aside.parcel) == (3, None)


def test_a_ruined_file_is_kept_and_a_new_one_begun(tmp_path: Path) -> None:
    """Collecting goes on; the old file stays for whoever can mend it."""
    path = tmp_path / "spool"
    path.write_bytes(b"this was a spool once" * 400)
    with Spool(path) as spool:
        assert spool.damaged_file is not None
        assert spool.damaged_file.read_bytes().startswith(b"this was a spool once")
        spool.put([batch(0)])
        assert taken_out(spool) == [batch(0)]


def test_what_never_fits_waits_for_a_person(tmp_path: Path) -> None:
    """Set aside with its reason, counted, and still there after a restart."""
    with Spool(tmp_path / "spool") as spool:
        spool.set_aside(batch(0), "no such tag")
    with Spool(tmp_path / "spool") as again:
        assert again.quarantined_rows == rows_of(batch(0))
        (aside,) = again.quarantined()
        assert (aside.reason, aside.parcel) == ("no such tag", batch(0))
        assert again.is_empty


def test_at_the_quota_there_is_no_room_until_something_is_stored(tmp_path: Path) -> None:
    """The quota is of bytes; gap rows and audit lines have a little more."""
    with Spool(tmp_path / "spool", quota_bytes=3_000) as spool:
        count = 0
        while spool.has_room:
            spool.put([batch(count)])
            count += 1
        assert 1 <= spool.share < 1.2
        assert 8 < count < 60
        spool.stored(spool.first(1)[0][0])
        spool.stored(spool.first(1)[0][0])
        assert spool.has_room


def test_without_its_ballast_it_takes_no_readings(tmp_path: Path) -> None:
    """The room that the ballast gave is for emptying, not for more."""
    with Spool(tmp_path / "spool", ballast_bytes=10_000) as spool:
        assert spool.has_room
        spool.drop_ballast()
        assert not spool.has_room
        spool.load_ballast()
        assert spool.has_room


def test_an_emptied_spool_gives_the_disk_back(tmp_path: Path) -> None:
    """A database that was away for days leaves no large file behind."""
    path = tmp_path / "spool"
    with Spool(path, ballast_bytes=0) as spool:
        for _ in range(24):
            spool.put([Note("long", "", random.randbytes(1_000_000).hex(), NOON, "test")])
        grown = path.stat().st_size
        taken_out(spool)
        spool.tidy()
    assert path.stat().st_size < grown / 4


def tear(path: Path, share: float) -> None:
    """Zero one page, so far into the file, as a disk that forgets a sector."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    content, first = bytearray(path.read_bytes()), size * round(share * pages)
    content[first : first + size] = bytes(size)
    path.write_bytes(content)


def test_a_torn_page_costs_its_own_readings_alone(tmp_path: Path) -> None:
    """SQLite will not read or delete what lies there: the rest goes on in a new file, in order."""
    chance = random.Random(1000)
    put: list[Parcel] = []
    for row in range(8):
        at = NOON + timedelta(seconds=row)
        values = [chance.random() for _ in range(1_500)]
        put.append(
            Batch("opcua", [Reading(f"t{k}", v, GOOD, at, at) for k, v in enumerate(values)])
        )
    replaced = 0
    for share in (0.3, 0.4, 0.5, 0.6, 0.7):
        path = tmp_path / f"{share}"
        with Spool(path) as spool:
            identity = spool.identity
            spool.put(put)
        tear(path, share)
        with Spool(path) as again:
            found = taken_out(again)
            kept = [each for each in found if isinstance(each, Batch)]
            assert kept == [each for each in put if each in kept]
            (gone,) = (row for row, each in enumerate(put) if each not in kept)
            at, after = (NOON + timedelta(seconds=gone + k) for k in (0, 1))
            damage = "damaged on the disk of the spool"
            if again.quarantined_rows:  # what it was could be read, if not its readings
                assert found[gone] == Lost("opcua", at, at, damage)
            else:  # from the newest reading that is stored by then
                assert found[gone : gone + 2] == [
                    Silence("opcua", after, damage),
                    Heard("opcua", after),
                ]
            assert again.identity == identity
            again.put([batch(99)])
            assert taken_out(again) == [batch(99)]
            replaced += again.damaged_file is not None
        with Spool(path) as later:
            assert later.is_empty
    assert replaced


def tear_in_use(spool: Spool, *tables: str) -> None:
    """Ruin the first page of tables, or without any that of the file, under whoever uses it."""
    used = spool._database
    used.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (size,) = used.execute("PRAGMA page_size").fetchone()
    query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    pages = [used.execute(query, (table,)).fetchone()[0] for table in tables] or [1]
    with spool.path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
    used.execute("PRAGMA shrink_memory")


@pytest.mark.parametrize(
    "tables", [("parcel",), ("parcel", "spool"), ("parcel", "sqlite_sequence"), ()]
)
@pytest.mark.parametrize("waiting", [0, 3])
def test_what_comes_after_a_file_in_use_was_ruined_is_kept(
    tables: tuple[str, ...], waiting: int, tmp_path: Path
) -> None:
    """Nothing that is put goes the way of the damage, and what did is marked before it."""
    with Spool(tmp_path / "spool") as spool:
        identity = spool.identity
        spool.put([batch(row) for row in range(20)])
        taken = spool.first(1_000)
        spool.stored(taken[-1 - waiting][0])
        tear_in_use(spool, *tables)
        later = [batch(row) for row in range(30, 33)]
        for each in later:
            spool.put([each])
        assert spool.damaged_file is not None
        found = taken_out(spool)
        assert [each for each in found if each in later] == later
        if waiting and batch(19) not in found:
            at, damage = NOON + timedelta(seconds=30), "damaged on the disk of the spool"
            assert found[:2] == [Silence("opcua", at, damage), Heard("opcua", at)]
        else:
            assert found[: -len(later)] == [batch(row) for row in range(20 - waiting, 20)]
        assert spool.identity == identity
        spool.set_aside(batch(40), "no")
        assert spool.quarantined_rows == 3
    with Spool(tmp_path / "spool") as again:
        assert (again.identity, again.is_empty, again.quarantined_rows) == (identity, True, 3)


def test_a_ruined_quarantine_holds_nothing_up(tmp_path: Path) -> None:
    """What never fits is set aside all the same, and what waits goes on."""
    with Spool(tmp_path / "spool") as spool:
        spool.put([batch(0), batch(1)])
        spool.set_aside(batch(7), "no")
        tear_in_use(spool, "quarantine")
        spool.set_aside(batch(8), "no")
        assert taken_out(spool) == [batch(0), batch(1)]
        assert [each.parcel for each in spool.quarantined()] == [batch(8)]


def test_whatever_is_damaged_the_rest_goes_on(tmp_path: Path) -> None:
    """SQLite hands out much of a torn page as it is, numbers that are none and texts of no signs:
    that is damage too. What comes out is what was put, in order, and what is put next."""
    path, put = tmp_path / "spool", [batch(row) for row in range(40)]
    with Spool(path, ballast_bytes=1) as spool:
        for each in put:
            spool.put([each])
        spool.set_aside(batch(50), "no")
        spool._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        whole = path.read_bytes()
    chance, mended = random.Random(1000), 0
    for _ in range(60):
        content = bytearray(whole)
        at, length = chance.randrange(len(whole)), chance.choice([1, 100, 512, 4096])
        content[at : at + length] = chance.choice([bytes(length), chance.randbytes(length)])
        for each in tmp_path.iterdir():
            each.unlink()
        path.write_bytes(content[: chance.choice([None, at])])
        with Spool(path, ballast_bytes=1) as again:
            found = [each for each in taken_out(again) if isinstance(each, Batch)]
            assert found == [each for each in put if each in found]
            again.put([batch(99)])
            assert batch(99) in taken_out(again)
            again.quarantined()
            mended += again.damaged_file is not None
    assert mended > 20


def test_another_programs_database_is_kept_and_a_new_file_begun(tmp_path: Path) -> None:
    """Whoever put it there finds it again; collecting goes on."""
    with closing(sqlite3.connect(tmp_path / "spool")) as foreign:
        foreign.execute("CREATE TABLE parcel (sender TEXT, weight_kg REAL)")
    with Spool(tmp_path / "spool") as spool:
        spool.put([batch(0)])
        assert taken_out(spool) == [batch(0)]
        assert spool.damaged_file is not None
        with closing(sqlite3.connect(spool.damaged_file)) as kept:
            assert kept.execute("SELECT sender FROM parcel").fetchall() == []


def test_a_parcel_that_is_gone_without_a_word_is_missed(tmp_path: Path) -> None:
    """Parcels are numbered without a hole: one that is not found there is told as lost."""
    with Spool(tmp_path / "spool") as spool:
        spool.put([batch(row) for row in range(5)])
    with closing(sqlite3.connect(tmp_path / "spool")) as raw:
        raw.execute("DELETE FROM parcel WHERE id = 3")
        raw.commit()
    at, damage = NOON + timedelta(seconds=3), "damaged on the disk of the spool"
    with Spool(tmp_path / "spool") as again:
        marks = [Silence("opcua", at, damage), Heard("opcua", at)]
        assert taken_out(again) == [batch(0), batch(1), *marks, batch(3), batch(4)]
