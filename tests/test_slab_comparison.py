"""How a furnace's arms are scored and compared, on slabs whose figures paper can tell."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from furnace_line import FURNACE, PLANT
from made_furnace import made_residual
from small_plant import small_plant

from dashboard.comparison import check_whole_steps, comparison_of, forced_stop, slab_errors, slabs
from dashboard.comparison.forced_stop import (
    SLABS_AFTER,
    StopEffect,
    stop_effect,
    stop_figures,
    stopped_slab,
)
from dashboard.comparison.lockstep import ArmResult
from dashboard.comparison.slab_errors import (
    ArmErrors,
    SlabErrors,
    first_promoted,
    forecast_figures,
    forecast_rows,
)
from dashboard.comparison.slab_figures import criteria, interval, rows, slab_figures
from dashboard.comparison.slab_score import (
    SlabScore,
    Stretch,
    in_spec,
    mill_limit,
    score_slabs,
)
from dashboard.comparison.slab_seed import ARMS, SlabSeed
from dashboard.comparison.slabs import ONLINE, OURS, SlabArm, run_arm
from twin.errors import UsageError
from twin.plant import Limits, Role
from twin.plants.furnace.truth import Minute
from twin.plants.furnace.works import Discharge
from twin.plants.furnace.yard import Slab, Yard
from twin.records import Samples

SEED = 1000
ZERO_S = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
#: 10 t at 100 t/h and a gap as scheduled: the mill takes it in six minutes.
TEN_TONNES = replace(
    Yard(SEED).slab(0), rate_t_per_h=100.0, gap_factor=1.0, stop_s=0.0, expected_stop_s=0.0
)
_M_PER_TONNE = TEN_TONNES.thickness_m / (TEN_TONNES.mass_kg / 1000.0)
TEN_TONNES = replace(
    TEN_TONNES, thickness_m=10.0 * _M_PER_TONNE, real_thickness_m=10.0 * _M_PER_TONNE
)


def slab(at_min: float, mean_c: float = 1220.0, of: Slab = TEN_TONNES, **what: float) -> Discharge:
    """A slab of 10 t that left so many minutes into the record; even, unburnt, 100 kg of scale."""
    told = {"difference_k": 10.0, "hottest_c": 1240.0, "scale_kg": 100.0, "held_s": 0.0} | what
    return Discharge(
        at_s=60.0 * at_min, slab=of, mean_c=mean_c, pyrometer_c=mean_c, tracker_c=mean_c, **told
    )


def seen_of() -> dict[str, Samples]:
    """One hour of readings in the middle of their limits, minute by minute."""
    usual = {"K/min": 0.0, "MW": 60.0, "degC": 1200.0}
    times_s = ZERO_S + 60.0 * np.arange(1, 61)
    return {
        tag.name: Samples(times_s, np.full(60, usual[tag.unit])) for tag in PLANT.with_role(Role.CV)
    }


def hour(
    slabs: Sequence[Discharge], *, stored_j: float = 0.0, seen: Mapping[str, Samples] | None = None
) -> Stretch:
    """An hour at 36 MW: 36 MWh, or 129.6 GJ. A slab in spec left before it."""
    minute = Minute(fuel_w=(9e6, 9e6, 9e6, 9e6), gas_c=(1200.0,) * 4, hottest_c=1240.0)
    return Stretch(
        0.0, 3600.0, ZERO_S, [slab(-5), *slabs], [minute] * 60, stored_j, seen or seen_of()
    )


FOUR = [
    slab(5),
    slab(15, 1190.0, held_s=240.0),
    slab(25, 1234.0, difference_k=31.0),
    slab(35, 1236.0),
]


def test_four_known_slabs_have_the_score_that_paper_says() -> None:
    """In spec: the first alone. 40 t in the hour; 400 kg of them burned away."""
    score = score_slabs(PLANT, hour(FOUR))
    assert score.in_spec_percent == 25.0
    assert (score.cold_percent, score.warm_percent, score.uneven_percent) == (25.0, 25.0, 25.0)
    assert score.t_per_h == pytest.approx(40.0)
    assert score.mean_c == pytest.approx(1220.0)
    assert score.held_min == 4.0
    assert score.fuel_gj_per_t == pytest.approx(129.6 / 40.0)
    assert score.limits_passed == ()


def test_fuel_scale_and_slabs_out_of_spec_are_priced_apart() -> None:
    """Per tonne, by the plant file: 36 MWh of fuel, 0.4 t of steel, three slabs, over 40 t."""
    score, spec = score_slabs(PLANT, hour(FOUR)), FURNACE.spec
    assert score.fuel_cost_per_t == pytest.approx(36.0 * spec.fuel_price_per_mwh / 40.0)
    assert score.scale_cost_per_t == pytest.approx(0.4 * spec.steel_price_per_t / 40.0)
    assert score.off_spec_cost_per_t == pytest.approx(3 * spec.off_spec_price / 40.0)


def test_heat_left_in_store_is_not_counted_as_burned() -> None:
    """A furnace that ends 10 GJ hotter has burned 13 GJ for the slabs to come."""
    ends_hotter = score_slabs(PLANT, hour(FOUR, stored_j=10e9))
    assert ends_hotter.fuel_gj_per_t == pytest.approx((129.6 - 13.0) / 40.0)


def test_the_spec_is_the_plant_files() -> None:
    """Mean at both ends, difference and surface; each alone puts a slab out."""
    spec = FURNACE.spec
    for good in (slab(0, spec.mean_c[0]), slab(0, spec.mean_c[1], hottest_c=spec.surface_c)):
        assert in_spec(spec, good)
        assert not in_spec(replace(spec, difference_k=9.0), good)
        assert not in_spec(replace(spec, surface_c=1239.0), good)
        assert not in_spec(replace(spec, mean_c=(1219.0, 1221.0)), good)


def test_the_mill_alone_would_have_rolled_faster() -> None:
    """Three slabs of six minutes, the second followed by a stop of ten: 16 min. Ours took 20."""
    stopping = replace(TEN_TONNES, stop_s=600.0)
    assert mill_limit([slab(0), slab(9, of=stopping), slab(20)]) == pytest.approx(80.0)
    assert mill_limit([slab(0), slab(6, of=stopping), slab(16)]) == pytest.approx(100.0)
    assert math.isnan(mill_limit([slab(0)]))


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("zone_3.temperature", [1200.0] * 5 + [1330.5]),
        ("zone_1.ramp", [0.0, -10.2, 0.0, 0.0, 0.0, 0.0]),
        ("furnace.fuel", [105.1] + [60.0] * 5),
        ("tracker.surface", [1291.0] * 6),
        ("zone_2.temperature", [math.nan] + [1200.0] * 5),
        ("zone_2.temperature", [1200.0] * 5 + [math.nan]),
        ("zone_2.temperature", []),
    ],
)
def test_a_limit_that_was_passed_or_is_not_known_to_be_kept_is_told(
    tag: str, values: list[float]
) -> None:
    """By name. A reading that is missing hides nothing, wherever it is among the others."""
    seen = seen_of()
    times_s = seen[tag].times_s[: len(values)]
    score = score_slabs(PLANT, hour(FOUR, seen=seen | {tag: Samples(times_s, np.array(values))}))
    assert score.limits_passed == (tag,)
    if tag == "zone_2.temperature" and values:
        assert math.isnan(score.zone_c)


def test_a_face_that_really_was_too_hot_is_told() -> None:
    """Whatever the tracker shows."""
    burnt = hour(FOUR)
    burnt = replace(
        burnt, minutes=[*burnt.minutes[1:], replace(burnt.minutes[0], hottest_c=1290.5)]
    )
    assert score_slabs(PLANT, burnt).limits_passed == ("surface of a slab",)


def test_a_header_that_really_gave_too_much_is_told_once() -> None:
    """Whatever its meter shows; 105 MW sharp is none too many."""
    of_zone = {"enough": 105e6 / 4, "too much": 105.1e6 / 4}
    passed = {}
    for name, fuel_w in of_zone.items():
        stretch = hour(FOUR)
        minute = replace(stretch.minutes[0], fuel_w=(fuel_w,) * 4)
        stretch = replace(stretch, minutes=[*stretch.minutes[1:], minute])
        passed[name] = score_slabs(PLANT, stretch).limits_passed
    assert passed == {"enough": (), "too much": (FURNACE.fuel,)}
    metered = seen_of() | {FURNACE.fuel: Samples(np.array([ZERO_S + 60.0]), np.array([105.1]))}
    assert score_slabs(PLANT, replace(stretch, seen=metered)).limits_passed == (FURNACE.fuel,)


def test_minutes_outside_operator_limits_are_those_of_the_slab_that_left_last() -> None:
    """1190 °C from 15:00 to 25:00, then 1234, then 1236 °C from 35:00 to the end: 10 + 26 min.

    Values count at the end of each minute, the hour's last one too.
    """
    assert score_slabs(PLANT, hour(FOUR)).limit_min == 10.0 + 26.0


def test_an_hour_without_a_slab_has_no_figures_and_is_no_fault() -> None:
    """A stop may last longer than what is scored."""
    score = score_slabs(PLANT, hour([]))
    assert score.t_per_h == 0.0
    assert math.isnan(score.fuel_gj_per_t)
    assert math.isnan(score.in_spec_percent)


USUAL = score_slabs(PLANT, hour(FOUR))


def arm(gj_per_t: float, **what: float) -> SlabArm:
    """An arm with this fuel, steered in two rounds."""
    result = ArmResult(rounds=2, proposals=2, refused=1, untrusted=1, planning_cpu_ms=[40.0, 60.0])
    score: SlabScore = replace(USUAL, fuel_gj_per_t=gj_per_t, **what)
    return SlabArm(score, result)


def test_arms_are_paired_seed_by_seed() -> None:
    """Savings of 5 and 15 % make 10 % on average, whatever order the seeds came in."""
    arms = {
        OURS: {1: arm(0.95, in_spec_percent=95.0), 2: arm(1.70, in_spec_percent=91.0)},
        "fair": {2: arm(2.0, in_spec_percent=90.0), 1: arm(1.0, in_spec_percent=90.0)},
        "least fuel": {1: arm(0.95), 2: arm(1.70)},
        "hold": {2: arm(2.2)},
    }
    told = criteria(arms, [])
    assert told["fuel_saving_percent_mean"] == pytest.approx(10.0)
    # Two values 10 apart: sem 5, t quantile of one degree of freedom 12.706.
    assert told["fuel_saving_percent_low"] == pytest.approx(10.0 - 12.706 * 5.0, abs=0.01)
    assert told["in_spec_difference_pp_low"] == pytest.approx(3.0 - 12.706 * 2.0, abs=0.01)
    assert told["fuel_vs_optimal_table_percent"] == pytest.approx(0.0)
    assert (told["round_ms_median"], told["round_ms_max"]) == (50.0, 60.0)
    table = {row["arm"]: row for row in rows(arms)}
    assert table["hold"]["saving_percent"] == pytest.approx(-10.0)
    assert (table["hold"]["seeds"], table["hold"]["saving_low"]) == (1, None)
    assert (table[OURS]["refused"], table[OURS]["untrusted"]) == (2, 2)


def test_hard_limits_count_in_every_minute_that_is_steered() -> None:
    """What is scored, the hours of running in before it and forced stops: none is let off.

    A limit passed both before and in the scored hours is one; arms of other names do not count.
    """
    both = replace(arm(1.0, limits_passed=("zone_1.ramp",)), passed_before=("zone_1.ramp",))
    before = replace(arm(1.0), passed_before=("furnace.fuel", "zone_2.ramp"))
    clean = {1: arm(1.0), 2: arm(1.0)}
    arms = {OURS: {1: both, 2: before}, "fair": clean, "least fuel": clean, "hold": {1: both}}
    stops = [StopEffect(1, np.zeros(SLABS_AFTER), 0.0, 100.0, limits_passed=("surface of a slab",))]
    assert criteria(arms, [])["hard_limits_passed"] == 3.0
    assert criteria(arms, stops)["hard_limits_passed"] == 4.0
    table = {row["arm"]: row["limits_passed"] for row in rows(arms)}
    assert (table[OURS], table["fair"]) == ("furnace.fuel, zone_1.ramp, zone_2.ramp", "")


def test_limits_are_watched_from_the_takeover_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that no minute can keep is told of the running in and of the forced stop."""
    for module in (slabs, forced_stop):  # half an hour of running in is as good as six
        monkeypatch.setattr(module, "RUN_IN_H", 0.5)
    no_furnace = Limits(high=500.0)
    tags = [
        replace(tag, engineering=no_furnace) if tag.name == "zone_4.temperature" else tag
        for tag in PLANT.tags
    ]
    plant = replace(
        PLANT, tags=tuple(tags), plan_every_steps=120
    )  # what is planned is all the same
    assert run_arm(plant, SEED, ONLINE, history_h=1.0, hours=1.0).passed_before == (
        "zone_4.temperature",
    )
    assert stop_effect(plant, SEED, ONLINE, history_h=1.0).limits_passed == ("zone_4.temperature",)


def test_an_interval_needs_two() -> None:
    """One seed has none, rather than one of no width."""
    assert interval([3.0]) is None
    assert interval([3.0, 3.0, 3.0]) is not None


def test_the_record_is_that_of_other_plants_and_holds_nothing_unknown() -> None:
    """The keys that the four tanks' record has, as JSON; what is not known is null."""
    errors = {"physics only": {3600.0: {"discharge.temperature": np.array([3.0, -4.0])}}}
    planned = [
        {horizon: {"furnace.fuel": (1.0, True)} for horizon in (300.0, 900.0, 1800.0, 3600.0)}
    ]
    arms = {name: arm(1.0) for name in ARMS} | {OURS: arm(0.9, limit_min=math.nan)}
    record = slab_figures([SlabSeed(1, 24.0, arms, "physics+residual", errors, planned)])
    told = json.loads(json.dumps(record, allow_nan=False))
    assert told["saving_percent"] == {"mean": pytest.approx(10.0), "low": None, "high": None}
    assert {"hold", "baseline", "physics only", OURS} <= told["ablation"].keys()
    assert told["forecast_rmse"]["physics only"]["3600"]["discharge.temperature"] == pytest.approx(
        math.sqrt(12.5)
    )
    assert told["coverage90"]["3600"] == 1.0
    assert told["cv_limit_minutes"][OURS] is None
    assert told["cost_per_h"].keys() == told["cv_limit_minutes"].keys() == {"baseline", OURS}
    assert (told["proposals"], told["refused"], told["writes_outside_limits"]) == (2, 1, 0)


def test_the_comparison_is_chosen_by_what_the_plant_has() -> None:
    """A furnace's is shorter by itself; a plant that nothing plans for has none."""
    assert (comparison_of(PLANT).seeds, comparison_of(PLANT).hours) == (3, 24.0)
    assert "benchmarks/furnace.py" in comparison_of(PLANT).note
    with pytest.raises(UsageError, match="nothing can be compared"):
        comparison_of(small_plant())


def test_a_forced_stop_is_paired_by_slab() -> None:
    """Fixed setpoints go on heating for 40 min; slabs, weather and noise are the same otherwise."""
    effect = stop_effect(PLANT, SEED, "naive", history_h=1.0)
    assert effect.changes_k.shape == (SLABS_AFTER,)
    assert effect.change_k > 2.0
    assert np.abs(effect.changes_k).max() < 20.0  # slabs of other sizes differ by more
    assert effect.excess_k > effect.change_k  # it was too hot without the stop
    again = stop_effect(PLANT, SEED, "naive", history_h=1.0)
    assert (again.changes_k == effect.changes_k).all()
    assert stopped_slab(SEED, 2.0) > stopped_slab(SEED, 1.0)


def test_a_stop_that_cools_counts_like_one_that_heats() -> None:
    """Undershoot on one seed does not make up for overshoot on another."""

    def effect(change_k: float, excess_k: float) -> StopEffect:
        return StopEffect(1, np.full(SLABS_AFTER, change_k), excess_k, 90.0)

    told = stop_figures([effect(-4.0, 1.0), effect(4.0, 1.0)], [effect(8.0, 4.0), effect(8.0, 4.0)])
    assert told["stop_change_over_baseline"] == pytest.approx(0.5)
    assert told["stop_excess_over_baseline"] == pytest.approx(0.25)
    assert told["stop_in_spec_percent"] == 90.0


def test_slabs_made_hotter_do_not_make_up_for_those_made_colder() -> None:
    """+10 and −10 K leave a mean as it was, and twelve slabs are off by 10 K all the same."""
    mixed = StopEffect(1, np.array([10.0, -10.0] * 6), 1.0, 90.0)
    hotter = StopEffect(1, np.full(SLABS_AFTER, 20.0), 1.0, 90.0)
    told = stop_figures([mixed], [hotter])
    assert told["stop_change_over_baseline"] == 0.0
    assert told["stop_change_per_slab_over_baseline"] == pytest.approx(0.5)


def test_where_no_slab_left_errors_are_not_known() -> None:
    """A short run judges zones alone: what no slab tells is NaN, without a warning, never zero."""
    none, seen = np.empty(0), np.array([[3.0, -3.0]])
    errors = ArmErrors(none, np.array([math.nan]), seen, np.array([2.0]))
    result = SlabErrors(1, "physics", None, dict.fromkeys(slab_errors.ARMS, errors))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row, figures = forecast_rows([result])[0], forecast_figures([result])
    assert [math.isnan(row[name]) for name in ("slab_k", "slab_bias_k", "shown_k")] == [True] * 3
    assert (row["zone_k"], row["fuel_mw"]) == (3.0, 2.0)
    assert math.isnan(figures["forecast_rmse_over_physics"])
    assert figures["zone_forecast_rmse_over_physics"] == 1.0


def test_the_first_promoted_residual_is_the_first_seeds_that_has_one() -> None:
    """A seed whose training promoted none says nothing of the others'."""
    residual = made_residual(off_per_k=-0.6)
    none, some = SlabErrors(1, "physics", None, {}), SlabErrors(2, "physics+residual", residual, {})
    assert first_promoted([none, some]) is residual
    assert first_promoted([none, none]) is None


@pytest.mark.parametrize("hours", [1.01, 2.001])
def test_arms_are_compared_over_whole_steps(hours: float) -> None:
    """An arm that is stepped would end 36 s before one that runs through; what to give is told."""
    with pytest.raises(UsageError, match=rf"--hours {hours}: .* whole steps of 60 s") as refused:
        check_whole_steps(PLANT, hours)
    near = re.findall(r"Give (\S+) or (\S+)\.$", str(refused.value))[0]
    for told in (1.1, 48.0, *map(float, near)):
        check_whole_steps(PLANT, told)


def test_setpoints_that_are_held_stay() -> None:
    """Under the table zones move with the mix and with stops; held, they stay where they were."""
    held, fair = (run_arm(PLANT, SEED, name, history_h=1.0, hours=4.0) for name in ("hold", "fair"))
    assert held.score.ramp_k_per_min < 0.7 * fair.score.ramp_k_per_min
    assert held.score.t_per_h > 0.0
