"""Readings that come a week late, in the wrong order, twice or with another value: each once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from collected import collecting
from counted_source import counting_plant
from one_tank import until
from test_collecting_faults import is_told, numbers, source_of
from test_upkeep import by_hand, rolled, same

from connectors.progress import SourceState
from twin.historian import Gap, Historian
from twin.records import Reading

WEEK = timedelta(days=7)
DAY = timedelta(days=1)
QUIET, OTHER = "counter0", "counter1"


def gap_of(gaps: list[Gap]) -> Gap:
    (gap,) = (gap for gap in gaps if gap.tag == QUIET)
    return gap


def test_late_and_shuffled_readings_stand_at_their_times_and_end_no_silence(
    tmp_path: Path,
) -> None:
    """Stored = sent, rollups as added up by hand, and a gap ends with a reading of now alone."""
    plant = counting_plant(2)
    source = source_of(plant)
    late: dict[tuple[str, float | None], Reading] = {}

    def odd(readings: list[Reading]) -> list[Reading]:
        """One tag is silent but for last week's; the other's come backwards, and again, changed."""
        old = [replace(each, source_time=each.source_time - WEEK) for each in readings]
        late.update({(each.tag, each.value): each for each in old})
        other = [each for each in readings if each.tag == OTHER]
        changed = [replace(each, value=(each.value or 0) + 0.5) for each in (*other, *old)]
        return [*reversed(old), *reversed(other), *changed, *old]

    async def story(historian: Historian) -> Gap:
        async with collecting(plant, historian, connect=source.connect()) as told:
            await until(is_told(told, SourceState.LIVE), "the link")
            await until(lambda: len(numbers(historian, source, QUIET)) > 60, "some samples")
            historian.maintain(source.at(source.number), plant)  # before the late ones come
            source.altered = lambda readings: [each for each in readings if each.tag == OTHER]
            await until(lambda: told[-1].sources[0].silent == (QUIET,), "the silence")
            await until(lambda: bool(historian.gaps(plant, still_open=True)), "its row")
            source.altered = odd
            await until(lambda: late_rows(historian) > 100, "last week's")
            assert told[-1].sources[0].silent == (QUIET,)
            assert gap_of(historian.gaps(plant)).ended_at is None
            source.altered = lambda readings: readings
            await until(lambda: told[-1].sources[0].silent == (), "the end of the silence")
            source.last = source.number
            wanted = [float(number) for number in range(source.last + 1)]
            for tag in source.tags:
                await until(lambda tag=tag: present(historian, tag) == wanted, tag)  # type: ignore[misc]  # bound now
            await until(lambda: told[-1].waiting == 0, "an empty spool")
        return gap_of(historian.gaps(plant))

    def present(historian: Historian, tag: str) -> list[float | None]:
        rows = historian.readings(plant, [tag], source.at(0), source.at(1_000_000))
        return [row.value for row in rows]

    def late_rows(historian: Historian) -> int:
        return len(historian.readings(plant, source.tags, source.at(0) - WEEK, source.at(-1)))

    with Historian.create(tmp_path / "plant.db") as historian:
        gap = asyncio.run(story(historian))
        assert source.last is not None
        rows = historian.readings(plant, source.tags, source.at(0) - WEEK, source.at(source.last))
        seen = {(row.tag, row.source_time): row.value for row in rows}
        assert len(rows) == len(seen)
        expected = {(row.tag, row.source_time): row.value for row in late.values()}
        for each in source.samples(0, source.last):
            expected[each.tag, each.source_time] = each.value
        assert seen == expected
        for tag in source.tags:
            times = [row.source_time for row in rows if row.tag == tag]
            assert times == sorted(times)
        silent = [number for tag, number in late if tag == QUIET]
        assert gap.started_at < source.at(int(min(n for n in silent if n is not None)))
        assert gap.ended_at is not None
        assert gap.ended_at > source.at(int(max(n for n in silent if n is not None)))
        end = source.at(source.last) + DAY
        while historian.maintain(end, plant).due:
            pass
        done = historian.maintain(end, plant).rolled_until
        assert done is not None
        assert done > source.at(source.last)
        for tag in plant.tags:
            mine = [row for row in rows if row.tag == tag.name]
            for width_s in (60, 3600):
                found = rolled(historian, tag.name, width_s, plant)
                same(found, by_hand(mine, tag.max_age_s, width_s, done))
