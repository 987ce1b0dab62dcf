"""OPC UA values and types as we take them: numbers with quality and time, or nothing.

Whether a node can hold a tag is judged here; no connection is made.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from asyncua import ua

from twin.clock import utc
from twin.errors import WriteFault
from twin.records import GOOD, UNCERTAIN, Mark, Reading, reading


def judge_node(data_type: Any, rank: Any, value: Any) -> tuple[Any | None, str]:
    """The node's built-in number type if known, and what is wrong with it, if anything."""
    if data_type.StatusCode.is_bad():
        return None, f"does not exist ({data_type.StatusCode.name})"
    told_type: Any = raw_value(data_type)
    kind = _number_type(told_type)
    if kind is None and value.Value is not None and not value.StatusCode.is_bad():
        shown = value.Value.VariantType
        kind = shown if shown in _NUMBERS else None
        if kind is None and shown is not ua.VariantType.Null:
            return None, f"holds {shown.name}; a number or Boolean is needed"
    if kind is None and _is_never_a_number(told_type):
        name = ua.VariantType(told_type.Identifier).name
        return None, f"holds {name}; a number or Boolean is needed"
    dimensions = raw_value(rank) if rank.StatusCode.is_good() else None
    if isinstance(dimensions, int) and dimensions >= 0:
        return None, "holds an array; a single number is needed"
    if value.Value is not None and value.Value.is_array:
        return None, "holds an array; a single number is needed"
    return kind, ""


def tells_changes(interval: Any) -> bool:
    """Whether its MinimumSamplingInterval says so: 0 means at every change (OPC 10000-3, 5.6.2)."""
    return interval.StatusCode.is_good() and raw_value(interval) == 0


_WHOLE = {
    ua.VariantType.SByte: (-(2**7), 2**7 - 1),
    ua.VariantType.Byte: (0, 2**8 - 1),
    ua.VariantType.Int16: (-(2**15), 2**15 - 1),
    ua.VariantType.UInt16: (0, 2**16 - 1),
    ua.VariantType.Int32: (-(2**31), 2**31 - 1),
    ua.VariantType.UInt32: (0, 2**32 - 1),
    ua.VariantType.Int64: (-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: (0, 2**64 - 1),
}
_LARGEST_FLOAT = 3.4028234e38
_NUMBERS = (ua.VariantType.Boolean, *_WHOLE, ua.VariantType.Float, ua.VariantType.Double)
# Bits of a status code (OPC 10000-4, 7.39.1): what the low bits are about, and "values were lost".
_INFO_TYPE, _OF_DATA_VALUE, _OVERFLOW = 0xC00, 0x400, 0x080
# OPC UA's earliest and latest time stand for none (OPC 10000-6, 5.2.2.5), and the year in which
# Unix began counting for a clock that was never set.
_NO_TIME_UNTIL, _NO_TIME_FROM = 1970, 9999
_BUILT_IN = 25  # ids 1 to 25 of namespace 0 are the built-in types


def _built_in(data_type: Any) -> int | None:
    """The number of a built-in type; None of any other, and where a server says nothing."""
    if not isinstance(data_type, ua.NodeId):
        return None
    identifier = data_type.Identifier
    is_built_in = data_type.NamespaceIndex == 0 and isinstance(identifier, int)
    return identifier if is_built_in and 1 <= identifier <= _BUILT_IN else None


def _number_type(data_type: Any) -> Any | None:
    identifier = _built_in(data_type)
    kind = ua.VariantType(identifier) if identifier is not None else None
    return kind if kind in _NUMBERS else None


def _is_never_a_number(data_type: Any) -> bool:
    identifier = _built_in(data_type)
    variable = ua.ObjectIds.BaseDataType  # its values may still be numbers
    return identifier is not None and identifier != variable and _number_type(data_type) is None


def typed(name: str, value: float, kind: Any | None) -> float | int | bool:
    """The value in Python's form of the node's type; raises WriteFault where it has none."""
    if kind is None:
        raise WriteFault(f"{name}: its node has no known number type, so nothing is written.")
    if not math.isfinite(value):
        raise WriteFault(f"{name} = {value}: only finite numbers are written.")
    if kind is ua.VariantType.Boolean:
        if value not in (0, 1):
            raise WriteFault(f"{name} = {value:g}: the node holds 0 or 1 (Boolean).")
        return bool(value)
    if kind in _WHOLE:
        low, high = _WHOLE[kind]
        if value != int(value) or not low <= value <= high:
            text = f"the node holds whole numbers from {low} to {high} ({kind.name})."
            raise WriteFault(f"{name} = {value:g}: {text}")
        return int(value)
    if kind is ua.VariantType.Float and abs(value) > _LARGEST_FLOAT:
        raise WriteFault(f"{name} = {value:g} is too large for the node's type (Float).")
    return float(value)


def is_unanswered(status: Any) -> bool:
    """Codes a gateway sends when the device behind it did not answer."""
    codes = ua.StatusCodes
    unknown = (codes.BadTimeout, codes.BadCommunicationError, codes.BadNoCommunication)
    return status.value in unknown


def is_surely_refused(status: Any) -> bool:
    """Codes with which a server turns a write down before it reaches the device behind it.

    Chosen from the Write service's result codes (OPC UA Part 4). Not BadOutOfRange: a PLC may say
    so and take the nearest it can.
    """
    codes = ua.StatusCodes
    return status.value in (
        codes.BadNodeIdInvalid,
        codes.BadNodeIdUnknown,
        codes.BadAttributeIdInvalid,
        codes.BadNotWritable,
        codes.BadWriteNotSupported,
        codes.BadUserAccessDenied,
        codes.BadTypeMismatch,
    )


def raw_value(value: Any) -> object:
    """What a data value holds, whatever that is."""
    return value.Value.Value if value.Value is not None else None


def quality_of(value: Any) -> int:
    """Its OPC UA status code."""
    return int(value.StatusCode.value) if value.StatusCode is not None else GOOD


def has_overflowed(value: Any) -> bool:
    """Whether the server had to drop values of this item before it could send them."""
    quality = quality_of(value)
    return quality & _INFO_TYPE == _OF_DATA_VALUE and bool(quality & _OVERFLOW)


def source_time_of(value: Any) -> datetime | None:
    """When the source says it was measured; None where it does not say."""
    return _moment(value.SourceTimestamp)


def stamp_of(value: Any) -> datetime | None:
    """The source's time, else the server's; None where neither says one."""
    return source_time_of(value) or _moment(value.ServerTimestamp)


def misdated(tag: str, arrival: datetime) -> Reading:
    """What is kept of a value whose time cannot be true: that it came, and why it is none."""
    status = int(ua.StatusCodes.BadInvalidTimestamp)
    return Reading(tag, None, status, arrival, arrival, Mark.UNDATED)


def reading_of(tag: str, value: Any, arrival: datetime, marks: Mark = Mark.NONE) -> Reading:
    """A data value as a Reading with these `marks`.

    Without any time from the source it is marked as undated and Uncertain at best. A time in the
    past stands as it is, however long ago: such a reading is old at once.
    """
    quality = quality_of(value)
    source_time = source_time_of(value)
    if source_time is None:
        source_time = stamp_of(value) or arrival
        quality = quality if quality >> 30 else UNCERTAIN
        marks |= Mark.UNDATED
    return reading(tag, raw_value(value), quality, source_time, arrival, marks)


def _moment(stamp: datetime | None) -> datetime | None:
    """The stamp in UTC; None for one that stands for no time, as that of a clock never set."""
    if stamp is None or not _NO_TIME_UNTIL < stamp.year < _NO_TIME_FROM:
        return None
    return utc(stamp)
