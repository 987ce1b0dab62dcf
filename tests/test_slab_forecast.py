"""The furnace's forecast: a fan per tag and an outlook per slab that real slabs keep to."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from furnace_line import AT, FURNACE, HOLD, MILL, PLANT, full_furnace, stands

from twin.errors import RecordUnreadable
from twin.furnace.state import FurnaceState
from twin.furnace.tracking import Tracker
from twin.historian import stored
from twin.plants.furnace.truth import Truth
from twin.records import Forecast, Series, SlabOutlook, Window
from twin.slab_forecast import slab_forecast
from twin.state import window

START = datetime(2026, 1, 5, tzinfo=UTC)
SEED = 1000  # a training seed


def _forecast(
    state: FurnaceState | None = None,
    moves: Mapping[str, Series] = HOLD,
    *,
    seed: int = 5,
    replications: int = 50,
    steps: int = 150,
) -> Forecast:
    state = state or full_furnace()
    return slab_forecast(PLANT, state, moves, seed=seed, replications=replications, steps=steps)


def _minutes(slab: SlabOutlook) -> float:
    return (slab.leaves_at - AT).total_seconds() / 60.0


def test_a_mill_that_stands_now_keeps_slabs_in_and_heats_them() -> None:
    """Half an hour of standing: every slab leaves later, and those near the door hotter."""
    rolls, stops = _forecast(), _forecast(full_furnace(stands(5.0, 30.0)))
    assert stops.middle[MILL.running][5] == 0.0
    assert rolls.middle[MILL.running][5] > 0.9
    for before, after in zip(rolls.slabs[:8], stops.slabs[:8], strict=True):
        assert before.number == after.number
        assert _minutes(after) > _minutes(before) + 10.0
        assert after.mean_c > before.mean_c + 5.0
        assert after.sd_k > before.sd_k
    assert stops.middle[FURNACE.fuel][10:20].mean() < rolls.middle[FURNACE.fuel][10:20].mean() - 5


def test_when_a_stop_ends_moves_with_its_age() -> None:
    """An estimate is used up minute by minute; where nobody gave one, an old stop lasts on."""
    told = [
        _minutes(_forecast(full_furnace(stands(age_min, 30.0 - age_min))).slabs[0])
        for age_min in (1.0, 20.0)
    ]
    assert told[0] > told[1] + 5.0
    assert told[1] > 5.0  # even so it is not over at once
    untold = [
        _minutes(_forecast(full_furnace(stands(age_min, None)), steps=240).slabs[0])
        for age_min in (15.0, 60.0, 150.0)
    ]
    assert untold[0] + 2.0 < untold[1] < untold[2] - 2.0


def test_two_plans_differ_by_their_moves_alone() -> None:
    """On one seed the same slabs meet the same stops: 10 K more in every zone make each hotter."""
    warmer = {tag: path + 10.0 for tag, path in HOLD.items()}
    base, hot, again = _forecast(), _forecast(moves=warmer), _forecast()
    assert base.slabs == again.slabs
    for tag, line in base.middle.items():
        assert np.array_equal(line, again.middle[tag], equal_nan=True)
    for before, after in zip(base.slabs[8:], hot.slabs[8:], strict=False):
        assert after.mean_c > before.mean_c + 2.0
        assert after.cold_chance <= before.cold_chance
    assert _forecast(seed=6).slabs != base.slabs


def test_chances_follow_temperature() -> None:
    """Slabs far too cold, right, far too hot: the chances say so."""
    cold = _forecast(full_furnace(warmer_k=-120.0)).slabs[0]
    right = _forecast(full_furnace(warmer_k=25.0)).slabs[0]
    hot = _forecast(full_furnace(warmer_k=90.0)).slabs[0]
    assert cold.cold_chance > 0.95
    assert cold.in_spec_chance < 0.05
    assert abs(right.mean_c - 1220.0) < 10.0
    assert right.in_spec_chance > 0.8
    assert right.cold_chance < 0.1
    assert hot.in_spec_chance < 0.05
    assert hot.cold_chance < 1e-6


def test_a_doubtful_slab_is_told_and_less_sure() -> None:
    """What tracking doubts reaches the outlook, with a wider interval for that slab alone."""
    sure = _forecast(full_furnace(warmer_k=25.0)).slabs
    doubtful = _forecast(full_furnace(warmer_k=25.0, doubt="no record")).slabs
    assert (sure[0].doubt, doubtful[0].doubt, doubtful[1].doubt) == ("", "no record", "")
    assert doubtful[0].sd_k > 3 * sure[0].sd_k
    assert doubtful[0].high_c - doubtful[0].low_c > 3 * (sure[0].high_c - sure[0].low_c)
    # Slabs behind it are as sure as before; that it may be held concerns them too.
    assert doubtful[2].sd_k < 2 * sure[2].sd_k


def test_an_unsure_grade_makes_all_its_slabs_unsure() -> None:
    """What is learned of a grade's emissivity is as sure as tracking says, at the door."""
    state = dataclasses.replace(full_furnace(warmer_k=25.0), emissivity_percent={0: 0.0})
    learned = _forecast(state, replications=100, steps=30).slabs[0]
    new = dataclasses.replace(state, emissivity_sd_k={0: 6.0})
    unlearned = _forecast(new, replications=100, steps=30).slabs[0]
    added_k = np.sqrt(unlearned.sd_k**2 - learned.sd_k**2)
    assert added_k == pytest.approx(6.0, rel=0.25)


def test_the_fan_holds_its_middle_and_widens_where_stops_may_come() -> None:
    """Every tag of zones, burners, mill and door; no reading of the pyrometer before a slab."""
    found = _forecast()
    zones = {tag for z in FURNACE.zones for tag in (z.temperature, z.fuel, z.setpoint)}
    assert zones | {FURNACE.fuel, FURNACE.pyrometer, MILL.running} <= set(found.middle)
    assert found.replications >= 50
    for tag, line in found.middle.items():
        known = ~np.isnan(line)
        assert known[-1]
        assert (found.low[tag][known] <= found.high[tag][known]).all()
    shown = found.middle[FURNACE.pyrometer]
    assert np.isnan(shown[0])  # the first slab is due in three minutes
    width_k = found.high[FURNACE.pyrometer] - found.low[FURNACE.pyrometer]
    assert width_k[10] > 2 * 1.64 * FURNACE.pyrometer_sd_k
    widths_mw = found.high[FURNACE.fuel] - found.low[FURNACE.fuel]
    assert widths_mw[100:].mean() > widths_mw[:5].mean() + 2.0
    price = 30.0  # €/MWh, the plant file's
    assert found.cost_per_h == pytest.approx(price * found.middle[FURNACE.fuel].mean(), rel=1e-6)


def test_slabs_are_named_while_half_of_the_futures_have_them_leave() -> None:
    """In their order, within the horizon, and no slab that nobody has seen."""
    slabs = _forecast(steps=60).slabs
    assert [slab.number for slab in slabs] == list(range(100, 100 + len(slabs)))
    assert 6 <= len(slabs) <= 10
    assert _minutes(slabs[-1]) <= 60.0
    far = _forecast(steps=480, replications=8).slabs
    assert far[-1].number == 128 + 15


def test_an_outlook_is_stored_with_its_forecast() -> None:
    """It comes back whole; what an earlier version stored has none; a damaged one is refused."""
    found = _forecast(full_furnace(doubt="no record"), replications=5, steps=30)
    packed = stored.packed_forecast(found)
    assert stored.forecast(packed).slabs == found.slabs
    assert found.slabs
    content = json.loads(zlib.decompress(packed))
    short = {**content, "slabs": [row[:-1] for row in content["slabs"]]}
    with pytest.raises(RecordUnreadable):
        stored.forecast(zlib.compress(json.dumps(short).encode()))
    del content["slabs"]
    assert stored.forecast(zlib.compress(json.dumps(content).encode())).slabs == ()


def test_real_slabs_leave_inside_their_intervals() -> None:
    """A day of the real furnace under the setpoints that came: nine in ten, 30 and 60 min ahead."""
    hours = 34
    truth = Truth(PLANT, seed=SEED, start=START)
    samples = truth.advance_samples(START + timedelta(hours=hours))
    past = window(PLANT, samples, truth.now, hours * 60 - 20)
    real = {left.slab.number: left for left in truth.discharged}
    tracker = Tracker(FURNACE, MILL)
    inside: dict[int, list[bool]] = {30: [], 60: []}
    for row in range(past.rows - 80):
        at = past.end - timedelta(minutes=past.rows - 1 - row)
        minute = {tag: past.values[tag][row : row + 1] for tag in tracker.tags}
        tracker.observe(Window(at, past.step_s, minute))
        if row < 12 * 60 or row % 30:
            continue
        came = {mv: past.values[mv][row + 1 : row + 81] for mv in HOLD}
        state = tracker.state()
        assert state is not None
        found = slab_forecast(PLANT, state, came, seed=row, steps=80)
        for slab in found.slabs:
            left = real[slab.number]
            ahead_s = (truth.zero + timedelta(seconds=left.at_s) - at).total_seconds()
            for minutes, hits in inside.items():
                if abs(ahead_s / 60.0 - minutes) <= 8.0:
                    hits.append(slab.low_c <= left.mean_c <= slab.high_c)
                    assert slab.sd_k < 12.0
    for hits in inside.values():
        assert len(hits) > 50
        assert 0.8 <= np.mean(hits) < 1.0


def test_a_yard_that_shows_nothing_is_planned_around() -> None:
    """Without records of the yard the last slab inside stands for what comes."""
    state = dataclasses.replace(full_furnace(), yard=())
    found = _forecast(state)
    assert found.slabs[-1].number <= 127
    assert np.isfinite(found.middle[FURNACE.fuel]).all()
