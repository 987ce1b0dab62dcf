"""What a furnace's planning keeps between rounds, and one round without any database.

`SlabController` opens the same door as `optimizer.controller.Controller`: it takes in samples,
tracks the slabs, plans and asks the gate. Nothing here reads a clock or writes to a plant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from optimizer.controller import Model, Round, beside_holding, held_round, trusting
from optimizer.moves import hard_range, nearest_inside, next_setpoints, within_room
from optimizer.slab_moves import block_bounds, moved_mvs, paces
from optimizer.slab_plan import LastPlan, SlabPlan, SlabPlanner, Tuning
from optimizer.slab_steady import SteadyPlanner, target_words
from optimizer.slab_trust import SlabTrust
from twin.furnace.faults import Fault
from twin.furnace.hold import reasons_to_hold
from twin.furnace.rollout import Rollout, is_pace, leaving_steps
from twin.furnace.state import FurnaceState, Stop
from twin.furnace.tracking import Tracker
from twin.plant import Plant
from twin.records import (
    Estimate,
    Forecast,
    Plan,
    PlanStatus,
    PlantState,
    Samples,
    Series,
    Stage,
    Window,
)
from twin.resampling import Breaks
from twin.safety import GateContext, check, move_room
from twin.simulation.line import line_of
from twin.slab_forecast import slab_forecast
from twin.state import window

_JUDGED_EVERY = 5  # minutes between forecasts of the zones, and how far they look ahead
#: Of the steady target, sought once an hour, .1 to .2 s of CPU a rank. Patient, so that a busy
#: machine plans as a free one does.
_STEADY_DEADLINE_S = 20.0
#: Of the room that the gate leaves, while the plant's own control may move the setpoint on before
#: a person accepts: a plan that used all of it would be refused then. Chosen: 5 K of 25.
_ROOM_IN_AUTO = 0.8


class SlabController:
    """One furnace's planning between rounds: slab tracking, trust, and the last plan.

    `stops` of the mill are known from before what is observed.
    """

    def __init__(
        self,
        plant: Plant,
        model: Model | None = None,
        *,
        tuning: Tuning | None = None,
        stops: Sequence[Stop] = (),
    ) -> None:
        self.plant = plant
        self.furnace, self.mill = line_of(plant)
        self._planner = SlabPlanner(self.furnace, self.mill, tuning)
        self._steady = SteadyPlanner(
            plant, self._planner.tuning.pricing, deadline_s=_STEADY_DEADLINE_S
        )
        self._zone_mvs = [zone.setpoint for zone in self.furnace.zones]
        self.model = model or Model()
        self._forget(stops)

    def _forget(self, stops: Sequence[Stop]) -> None:
        model = self.model
        self.tracker = Tracker(
            self.furnace,
            self.mill,
            learns=model.learns_bias,
            residual=model.zone_residual,
            stops=stops,
        )
        self.trust = SlabTrust(len(self.furnace.zones))
        self._steady.forget()
        self.observed_until: datetime | None = None
        self._judged_from: FurnaceState | None = None
        self._path: list[Series] = []
        self._last: LastPlan | None = None
        self._is_stopped = False

    def use(self, model: Model, *, forget: bool = False) -> None:
        """Plan with `model` from now on; `forget` drops the past, to be observed anew.

        It has to be, too, where tracking learns from now on and has not, or the other way round.
        """
        forget |= model.learns_bias != self.model.learns_bias
        self.model = model
        self.tracker.residual = model.zone_residual
        if forget:
            self._forget(self.tracker.stops)

    @property
    def followed_tags(self) -> tuple[str, ...]:
        """The tags whose samples `observe` needs."""
        return (*self.tracker.tags, *self._zone_mvs)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with records and instruments: the newest that is over, and what stands."""
        return (*self.tracker.past_faults, *self.tracker.faults)

    @property
    def estimate(self) -> Estimate | None:
        """Zones as tracked, and how far short forecasts held; None while nothing is known."""
        state = self.tracker.state()
        if state is None:
            return None
        share, count = self.trust.score(state.at)
        zones = zip(self.furnace.zones, state.zones, strict=True)
        temperatures = {zone.temperature: seen.gas_c for zone, seen in zones}
        return Estimate(state.at, temperatures, {}, {}, share, count)

    def is_due(self, now: datetime) -> bool:
        """Whether a round is wanted at `now`: every round, and when the mill stops or starts."""
        if self._last is None or self._is_stopped != self._stands():
            return True
        return now - self._last.at >= timedelta(seconds=self.plant.round_s)

    def observe(
        self,
        samples: Mapping[str, Samples],
        until: datetime,
        rows: int,
        broken: Mapping[str, Breaks] | None = None,
    ) -> None:
        """Take in the newest `rows` minutes up to `until`, which follow what is known.

        Inside the `broken` stretches of a tag nothing is.
        """
        known = self.observed_until
        if known is not None and known != until - timedelta(seconds=rows * self.plant.step_s):
            raise ValueError(f"{rows} steps up to {until} do not follow {known}")
        past = window(self.plant, samples, until, rows, broken=broken)
        for row in range(rows):
            end = until - timedelta(seconds=(rows - 1 - row) * self.plant.step_s)
            minute = {tag: values[row : row + 1] for tag, values in past.values.items()}
            self._minute(Window(end, self.plant.step_s, minute))
        self.observed_until = until

    def _minute(self, minute: Window) -> None:
        gone = self.tracker.left[-1] if self.tracker.left else None
        self.tracker.observe(minute)
        left = self.tracker.left
        if left and left[-1] is not gone:
            noise_k = self.furnace.pyrometer_sd_k
            newest = left[-1]
            sd_k = float(np.hypot(newest.sd_k, noise_k))
            self.trust.judge_slab(newest.shown_c - newest.expected_c, sd_k)
        self._path.append(np.array([minute.values[mv][0] for mv in self._zone_mvs]))
        if len(self._path) == _JUDGED_EVERY:
            seen = [minute.values[zone.temperature][0] for zone in self.furnace.zones]
            then = self._zones_then()
            if then is not None:
                self.trust.judge_zones(minute.end, then[0], np.array(seen), then[1])
            self._judged_from, self._path = self.tracker.state(), []

    def _zones_then(self) -> tuple[Series, Series] | None:
        """Where the zones should have come to since judged last, with setpoints as they came.

        And how far each had to go: to its setpoint, from where its gas was then.
        """
        begun, path = self._judged_from, np.array(self._path)
        if begun is None or not np.isfinite(path).all():
            return None
        stands = begun.mill.stopped_since is not None
        still_s = float(_JUDGED_EVERY * 60) if stands else None
        leaves = leaving_steps(
            self.furnace, begun, len(path), pace=self.tracker.pace, restart_s=still_s
        )
        gas_c: Series = Rollout(self.furnace, begun, leaves).run(path).gas_c[-1]
        return gas_c, path[-1] - np.array([zone.gas_c for zone in begun.zones])

    def trusted(self, context: GateContext) -> GateContext:
        """`context` with what is known of the model's trust."""
        return trusting(context, self.estimate)

    def round(self, state: PlantState, context: GateContext, now: datetime) -> Round:
        """Plan from the tracked furnace and the present `state`, and ask the gate."""
        trusted, furnace = self.trusted(context), self.tracker.state()
        current = np.array([_known(state, self.plant.tag(mv).stands_at) for mv in self._zone_mvs])
        unseen = [mv for mv, at in zip(self._zone_mvs, current, strict=True) if np.isnan(at)]
        why = reasons_to_hold(self.furnace, furnace, self.tracker.faults) or tuple(
            f"{mv} has not been seen yet" for mv in unseen
        )
        if furnace is None or why:
            return self._held(state, context, now, "; ".join(why))
        low, high = self._bounds(state, trusted, now, current)
        target = self._steady.recent(furnace)
        found = self._planner.plan(
            furnace, self._planner.start(now, current, self._last), low, high, current,
            self._paces(state, trusted, now), target.setpoints_c if target.is_usable else None,
            keeps_pace=not self._may_move_pace(state, trusted),
        )  # fmt: skip
        self._last = LastPlan(found.blocks_c, now)
        self._is_stopped = self._stands()
        plan = self._plan(found, state, trusted, now)
        setpoints = next_setpoints(self.plant, plan, state)
        verdict = check(self.plant, state, setpoints, trusted, now)
        currency = self.plant.economics.currency if self.plant.economics is not None else ""
        steady = target_words(target, currency)
        return Round(state, self.estimate, furnace, plan, setpoints, verdict, trusted, steady)

    def _held(self, state: PlantState, context: GateContext, now: datetime, why: str) -> Round:
        """A round that plans nothing. Every minute it is looked whether planning can go on."""
        self._last = None
        return held_round(self.plant, state, context, now, why)

    def forecast(self, done: Round, moves: Mapping[str, Series], seed: int) -> Forecast:
        """The fan of every zone and slab under `moves`, from where `done` found the furnace.

        A pace that `moves` does not tell stays what it is.
        """
        assert isinstance(done.twin, FurnaceState)
        moves = {self.mill.pace: np.array([self.tracker.pace]), **moves}
        return slab_forecast(self.plant, done.twin, moves, seed=seed, model=self.model.version)

    def compared_forecast(self, done: Round, seed: int) -> Forecast:
        """The fan of the plan of `done`, beside where everything goes if no MV moves.

        Both meet the same slabs and stops, so what parts them is the plan's doing.
        """
        return beside_holding(self.forecast, self.plant, done, seed)

    def _stands(self) -> bool:
        state = self.tracker.state()
        return state is not None and state.mill.stopped_since is not None

    def _bounds(
        self, state: PlantState, context: GateContext, now: datetime, current: Series
    ) -> tuple[Series, Series]:
        """(block, zone) bounds: limits, and in the first block where the gate lets each one go.

        An MV that it lets go nowhere stands still for now; one that only computes while others may
        move (shadow) stands still over the whole plan. Both are planned around. A reason that
        refuses every MV is the gate's to tell.
        """
        stands = dict(zip(self._zone_mvs, current, strict=True))
        reach = {mv: self._reach(mv, state, context, now) for mv in stands}
        if any(reach.values()):
            may_go = {mv: reach[mv] or (at, at) for mv, at in stands.items()}
        else:
            may_go = {
                mv: within_room(self.plant.tag(mv), at, room)
                for mv, at in stands.items()
                if (room := move_room(self.plant, mv, context, now)) is not None
            }
        blocks = len(self._planner.tuning.block_edges_min)
        shadows = [mv for mv in stands if self._is_shadow(mv, context)]
        return block_bounds(self.plant, blocks, current, may_go, shadows)

    def _is_shadow(self, mv: str, context: GateContext) -> bool:
        """Whether `mv` only computes while another MV of the plan may move."""
        planned = moved_mvs(self.plant)
        if self.mill.tonne_worth is None:
            planned = planned[:-1]
        shadows = [context.stages.get(each) is Stage.SHADOW for each in planned]
        return context.stages.get(mv) is Stage.SHADOW and not all(shadows)

    def _reach(
        self, mv: str, state: PlantState, context: GateContext, now: datetime
    ) -> tuple[float, float] | None:
        """From where to where the gate would let `mv` go now; None: nowhere.

        What relieves a limit may be clear in one direction alone.
        """
        tag = self.plant.tag(mv)
        current = state.value(tag.stands_at)
        room = move_room(self.plant, mv, context, now)
        if current is None or room is None:
            return None
        if tag.remote is not None and state.value(tag.remote.tag) != tag.remote.remote:
            room *= _ROOM_IN_AUTO
        least = 10.0**-tag.decimals
        lowest, highest = hard_range(tag)
        at = nearest_inside(tag, current, room)
        goes_down, stays, goes_up = (
            check(self.plant, state, {mv: target}, context, now).is_clear
            for target in (max(at - least, lowest), at, min(at + least, highest))
        )
        if not (goes_down or stays or goes_up):
            return None
        low, high = within_room(tag, current, room)
        return low if goes_down else at, high if goes_up else at

    def _paces(self, state: PlantState, context: GateContext, now: datetime) -> list[float]:
        """The paces that the mill may take now, the present one first."""
        mv = self.mill.pace
        present = _known(state, mv)
        if not is_pace(present):
            return [self.tracker.pace]
        if self._stands() or not self._may_move_pace(state, context):
            return [present]
        return paces(present, self._reach(mv, state, context, now))

    def _may_move_pace(self, state: PlantState, context: GateContext) -> bool:
        """Whether it is seen where the pace stands, and a plan may ever move it."""
        mv = self.mill.pace
        has_worth = self.mill.tonne_worth is not None
        return has_worth and is_pace(_known(state, mv)) and not self._is_shadow(mv, context)

    def _plan(
        self, found: SlabPlan, state: PlantState, context: GateContext, now: datetime
    ) -> Plan:
        path = self._planner.path(found.blocks_c)
        steps = self.plant.horizon_steps
        path = np.concatenate([path, np.tile(path[-1], (max(0, steps - len(path)), 1))])[:steps]
        moves = {mv: path[:, z] for z, mv in enumerate(self._zone_mvs)}
        if self.mill.tonne_worth is not None and is_pace(_known(state, self.mill.pace)):
            pace = np.full(steps, found.pace)
            if self._may_move_pace(state, context):
                pace[self._planner.tuning.pace_min :] = 1.0
            moves[self.mill.pace] = pace
        predicted = {
            zone.temperature: found.passage.gas_c[:steps, z]
            for z, zone in enumerate(self.furnace.zones)
        }
        predicted |= {
            zone.fuel: found.passage.fuel_w[:steps, z] / 1e6
            for z, zone in enumerate(self.furnace.zones)
        }
        return Plan(
            PlanStatus.SOLVED, "", now, self.plant.step_s, moves, predicted,
            cost_per_h=found.cost_per_h, hold_cost_per_h=found.holding_per_h,
            binding=found.binding, solve_ms=found.solve_ms,
        )  # fmt: skip


def _known(state: PlantState, tag: str) -> float:
    value = state.last_known(tag)
    return float("nan") if value is None else value
