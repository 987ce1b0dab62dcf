"""Engineering units as OPC UA servers tell them, in the plant file's way of writing units."""

from __future__ import annotations

from typing import Any

from twin.errors import ExpressionError
from twin.expressions import units

_CEFACT = "http://www.opcfoundation.org/UA/units/un/cefact"

# Common codes of UNECE Recommendation 20, which OPC UA's EUInformation holds as a number
# (OPC 10000-8, 5.6.3.3). Others are understood by the symbol that the server shows beside.
_BY_CODE = {
    "CEL": "degC",
    "KEL": "K",
    "FAH": "degF",
    "BAR": "bar",
    "MBR": "mbar",
    "PAL": "Pa",
    "A97": "hPa",
    "KPA": "kPa",
    "MPA": "MPa",
    "MTR": "m",
    "CMT": "cm",
    "MMT": "mm",
    "MTQ": "m**3",
    "CMQ": "cm**3",
    "MQH": "m**3/h",
    "2J": "cm**3/s",
    "KGM": "kg",
    "GRM": "g",
    "KGS": "kg/s",
    "C26": "ms",
    "SEC": "s",
    "MIN": "min",
    "HTZ": "Hz",
    "KHZ": "kHz",
    "RPM": "rpm",
    "WTT": "W",
    "KWT": "kW",
    "MAW": "MW",
    "JOU": "J",
    "VLT": "V",
    "AMP": "A",
    "P1": "percent",
    "59": "ppm",
    "NEW": "N",
    "MTS": "m/s",
    "KMH": "km/h",
    "DD": "degree",
}
_BY_SYMBOL = {
    "°C": "degC",
    "℃": "degC",
    "°F": "degF",
    "%": "percent",
    "°": "degree",
    "r/min": "rpm",
    "U/min": "rpm",
    "m3/h": "m**3/h",
    "m3/s": "m**3/s",
    "m3": "m**3",
    "m2": "m**2",
    "Ohm": "ohm",
}
# What a unit parser takes for something else than people who write it on a server mean: Pint reads
# picohenry, coulomb, farad, poise and gauss.
_AMBIGUOUS = frozenset({"pH", "PH", "C", "F", "P", "G"})


def unit_of(told: Any) -> tuple[str, str]:
    """The plant file's unit for an EUInformation, and the server's own symbol for it.

    The unit is "" where it cannot be told for sure, as is a plain number's.
    """
    symbol = str(getattr(told.DisplayName, "Text", None) or "").strip()
    if told.NamespaceUri == _CEFACT and (code := _code(told.UnitId)) in _BY_CODE:
        return _BY_CODE[code], symbol or code
    return _of_symbol(symbol), symbol


def _code(number: int) -> str:
    """The common code in an EUInformation's number: its characters, one byte each."""
    if not 0 < number < 2**24:
        return ""
    return number.to_bytes(3, "big").lstrip(b"\0").decode("ascii", errors="replace")


def _of_symbol(symbol: str) -> str:
    known = _BY_SYMBOL.get(symbol)
    if known is not None or not symbol or symbol in _AMBIGUOUS:
        return known or ""
    try:
        units.unit(symbol)
    except ExpressionError:
        return ""
    return symbol
