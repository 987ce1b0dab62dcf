"""The shape of a reheating furnace and of its rolling mill in a plant file.

`kind: furnace` and `kind: mill` are blocks of the discrete part: slabs step through the one to the
other. The text below a key is what editors show for it (`plantwright schema`). Numbers that no
instrument shows carry their source in a comment of the plant file. What the numbers must be to each
other stands in `furnace_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from twin.plant.values import (
    BetweenTrips,
    Finite,
    Label,
    Lasting,
    NonNegative,
    Positive,
    RelativeError,
    TagName,
)

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)

#: What a slab's record says, by the last part of its tag, and the unit it must have.
RECORD = {"slab": "", "thickness": "mm", "charge": "degC", "grade": "", "rate": "t/h"}
#: Stands for 01, 02, … in the patterns of slab records.
PLACE = "{place}"

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True)]
Places = Annotated[int, Field(ge=1, le=200, strict=True)]
Grade = Annotated[int, Field(ge=0, le=10_000, strict=True)]
#: Of a logarithm. Below 0.01 a number is known to one per cent, which nobody knows of a stop; at 3,
#: nine of ten lie within a factor of 140 either way. Beyond, sums of what is left overflow.
LogSpread = Annotated[float, Field(ge=0.01, le=3, allow_inf_nan=False, strict=True)]


@dataclass(frozen=True, config=STRICT)
class FurnaceZone:
    """One zone: its four tags, where it ends, its burners and its two lumps of heat."""

    temperature: TagName
    """The thermocouple that the zone's loop follows, °C."""
    setpoint: TagName
    """The MV, °C."""
    followed: TagName
    """The ramped setpoint that the loop follows, °C."""
    fuel: TagName
    """What its burners burn, MW."""
    ends_at: Share
    """Where it ends, as a share of the furnace's length from the charging end; the last at 1."""
    fuel_mw: tuple[NonNegative, Positive]
    """What its burners burn at least (pilots) and at most, MW."""
    lump_mj_per_k: Positive
    """Heat capacity of gas and hot face, MJ/K."""
    wall_mj_per_k: Positive
    """Heat capacity of the lining behind, MJ/K."""
    lump_to_wall_kw_per_k: Positive
    """From the hot face into the lining, kW/K."""
    wall_to_hall_kw_per_k: Positive
    """From the lining into the hall, kW/K."""
    skid_mw: NonNegative
    """What skids lose into cooling water at 1200 °C, MW; it grows with T⁴."""


@dataclass(frozen=True, config=STRICT)
class SlabSpec:
    """When a slab is in spec, and what fuel, burned-away steel and a slab out of spec cost."""

    mean_c: tuple[Finite, Finite]
    """Mean temperature at discharge, from and to, °C."""
    difference_k: Positive
    """Between its hottest and its coldest place at discharge, at most, K."""
    surface_c: Finite
    """Its surface on the whole way, at most, °C."""
    fuel_price_per_mwh: NonNegative
    """Money per MWh of fuel, in the currency of `economics`."""
    steel_price_per_t: NonNegative
    """Money per tonne of steel that scale takes."""
    off_spec_price: NonNegative
    """Money per slab that leaves out of spec."""


@dataclass(frozen=True, config=STRICT)
class Furnace:
    """A walking-beam furnace: slabs step from slot 1 (charging) to the last one (discharging).

    The record of the slab in a place has five tags, named by the pattern and what they tell:
    `.slab` (its number), `.thickness` mm, `.charge` °C, `.grade` (a key of `grades`) and `.rate`,
    the rolling rate in t/h.
    """

    kind: Literal["furnace"]
    name: Label
    slots: Annotated[int, Field(ge=4, le=200, strict=True)]
    """How many slabs lie in it."""
    slot: Label
    """Pattern of the tags of slots, like "slot_{place}"; {place} stands for 01, 02, …"""
    yard: Label
    """The same for slabs that wait; place 1 is charged next."""
    yard_places: Places
    """How many waiting slabs are told."""
    discharged: TagName
    """Number of the slab that left last."""
    pyrometer: TagName
    """How hot it was, °C."""
    interlock: TagName
    """1 while the plant holds a slab back as too cold."""
    hold_below_c: Finite
    """The plant holds a slab back that its own tracker believes to be colder, °C …"""
    hold_longest_min: NonNegative
    """… for so long at most, min."""
    fuel: TagName
    """What all burners together burn, MW."""
    zones: Annotated[tuple[FurnaceZone, ...], Field(min_length=1, max_length=12)]
    """From the charging end to the discharging end."""
    spec: SlabSpec
    slab_length_m: Positive
    """Across the furnace, m."""
    slab_width_m: Positive
    """Along the furnace, m."""
    grades: Mapping[Grade, Positive]
    """A grade's number and its conductivity over that of carbon steel."""
    emissivity: Share
    """Of gas and slab together."""
    border_slots: NonNegative
    """A zone's border is blended over so many slots to either side."""
    header_mw: Positive
    """What all burners together get at most, MW."""
    fuel_mw_per_min: Positive
    """How fast one zone's burners change, MW/min."""
    ramp_k_per_min: tuple[Positive, Positive]
    """How fast the PLC moves a followed setpoint up and down, K/min."""
    between_zones_kw_per_k: NonNegative
    """Exchange between neighbouring zones, kW/K."""
    flue_heat: tuple[Finite, Finite]
    """Heat in flue gas of T °C per heat burned: T × (first + second × T)."""
    air_heat_per_k: NonNegative
    """Heat in combustion air per heat burned and K."""
    air_preheat: tuple[NonNegative, Finite]
    """Combustion air is so large a share of the first zone's °C, and at most so hot, °C."""
    pyrometer_sd_k: Positive
    """Noise of one pyrometer reading, K."""
    scale_kg2_per_m4_s: Positive
    """Parabolic scale growth: steel burned away, squared, kg²/(m⁴ s), times exp(−E/RT) …"""
    scale_j_per_mol: Positive
    """… and its activation energy E, J/mol."""

    @property
    def face_m2(self) -> float:
        """The area of one of a slab's two faces."""
        return self.slab_length_m * self.slab_width_m

    def slot_tag(self, place: int, part: str) -> str:
        """The tag of a part of the record of the slab in slot `place` (1 is at charging)."""
        return record_tag(self.slot, place, part)

    def yard_tag(self, place: int, part: str) -> str:
        """The same for a place in the yard (1 is charged next)."""
        return record_tag(self.yard, place, part)


@dataclass(frozen=True, config=STRICT)
class Mill:
    """The rolling mill behind: it takes a slab in the time that the slab's own rate gives it.

    Stops come at random and last log-normally; the crew tells when it expects to go on.
    """

    kind: Literal["mill"]
    name: Label
    running: TagName
    """1 while it rolls."""
    stopped_at: TagName
    """Since when it stands, s since 1970 UTC; 0 while it rolls."""
    expected_restart: TagName
    """When its crew expects to go on, s since 1970 UTC; 0 while it rolls."""
    pace: TagName
    """An MV that scales every slab's rolling rate."""
    gap_sd: RelativeError
    """Standard deviation of the time between two slabs, as a share of it."""
    mean_between_h: BetweenTrips
    """Mean rolling time between two stops, h."""
    stop_mean_min: Lasting
    """Mean length of a stop, min."""
    stop_sigma: LogSpread
    """Standard deviation of a stop's logarithm."""
    stop_min: tuple[Lasting, Lasting]
    """The shortest and the longest stop, min."""
    estimate_sd: LogSpread
    """Standard deviation of the logarithm of the crew's estimate over what it becomes."""
    tonne_worth: NonNegative | None = None
    """Money that a tonne rolled brings beyond steel and fuel; without it no pace is planned."""


def record_tag(pattern: str, place: int, part: str) -> str:
    """The tag of one part of the record that the pattern names at `place`."""
    return f"{pattern.replace(PLACE, f'{place:02}')}.{part}"


def named_tags(block: Furnace | Mill) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """The tags that the block names one by one: where in it, the name, the unit it must have.

    Those of slab records are not among them.
    """
    if isinstance(block, Mill):
        yield ("running",), block.running, ""
        yield ("stopped_at",), block.stopped_at, "s"
        yield ("expected_restart",), block.expected_restart, "s"
        yield ("pace",), block.pace, ""
        return
    yield ("discharged",), block.discharged, ""
    yield ("pyrometer",), block.pyrometer, "degC"
    yield ("interlock",), block.interlock, ""
    yield ("fuel",), block.fuel, "MW"
    for position, zone in enumerate(block.zones):
        for key in ("temperature", "setpoint", "followed"):
            yield ("zones", position, key), getattr(zone, key), "degC"
        yield ("zones", position, "fuel"), zone.fuel, "MW"
