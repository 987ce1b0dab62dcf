"""What one value of a plant or study file may be: names, texts, numbers, spans of time.

Every bound has its reason beside it. It is wide enough for any plant we can think of; what lies
beyond is a typing error that would otherwise come back as a hang, an overflow or an empty page.
What values must be to each other stands in `rules`.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

ODD_CHARACTER = "odd_character"  # the kind of fault that a text with one has


def odd_character(text: str) -> str:
    """The first character that can't be seen, in words: control, direction or zero width; or ""."""
    for character in text:
        # C: control, format, surrogate, private, unassigned; Zl, Zp: separators of lines.
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
            return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"
    return ""


def foreign_letter(text: str) -> str:
    """The first letter from outside ASCII, by its name: it may look like one inside; or ""."""
    found = next((c for c in text if not c.isascii()), "")
    return f"{found!r} is {unicodedata.name(found, f'U+{ord(found):04X}')}" if found else ""


def _seen_whole(text: str) -> str:
    odd = "only blanks" if text.isspace() else odd_character(text)
    if odd:
        raise PydanticCustomError(ODD_CHARACTER, "holds {odd}", {"odd": odd})
    return text


def _no_number(value: object) -> object:
    if isinstance(value, int | float):
        raise PydanticCustomError("datetime_parsing", "is a number")
    return value


_Seen = AfterValidator(_seen_whole)
_NAME = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$"

TagName = Annotated[str, Field(pattern=_NAME, max_length=64)]
#: Part of the names of files (database, models, stop latch), which end at 255 bytes.
PlantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
#: Part of the names of environment variables and of rows that people read.
SourceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]
#: A sentence or two for people, which may be left empty.
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), _Seen]
#: A heading or a name: one line of a table.
Label = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), _Seen
]
#: What people are told in the control room.
Message = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), _Seen
]
#: A unit, currency or time zone: no known one is longer.
ShortText = Annotated[str, Field(max_length=60)]
#: An identifier on the plant's server. OPC UA part 3, 8.2.4: at most 4096 characters.
NodeText = Annotated[str, Field(max_length=4096), _Seen]
GivenNodeText = Annotated[str, Field(min_length=1, max_length=4096), _Seen]
Address = Annotated[str, Field(max_length=1000), _Seen]
FileName = Annotated[str, Field(min_length=1, max_length=255), _Seen]

# Strict: YAML's yes and "5" are not numbers. A power plant in W is 1e9, a year in s 3e7, seconds
# since 1970 are 2e9: beyond 1e12 sums of such numbers lose the digits that count.
_MOST = 1e12
Finite = Annotated[float, Field(ge=-_MOST, le=_MOST, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, le=_MOST, allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=1 / _MOST, le=_MOST, allow_inf_nan=False, strict=True)]
#: Also 64-bit numbers of a PLC, as far as a reading's float holds them exactly.
Whole = Annotated[int, Field(ge=-(2**53), le=2**53, strict=True)]
Column = Annotated[int, Field(strict=True, ge=1, le=100_000)] | Label

#: Room to either side for runs and tables of any length, in calendars that end.
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_no_number),
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC)),
]
#: A planning step. Trust is judged over one plant hour, so none is longer; a round takes a tenth
#: of a second, and the 26 h that planning looks back on are kept in memory step by step.
PlanStep = Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False, strict=True)]
#: How often a tag is sampled: servers sample at 10 ms at best.
SamplePeriod = Annotated[float, Field(ge=0.01, le=3600, allow_inf_nan=False, strict=True)]
#: How long something in a control room stays valid, s: from one sample to 31 days.
Age = Annotated[float, Field(ge=0.01, le=31 * 86_400, allow_inf_nan=False, strict=True)]
#: How long a proposal or a silent heartbeat is waited for, s.
Patience = Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False, strict=True)]
#: Between two publishes, ms. A link is judged by them: slower, and a dead one stays unnoticed.
PublishPeriod = Annotated[float, Field(ge=10, le=60_000, allow_inf_nan=False, strict=True)]
#: A year: what is older comes in by `import`.
HistoryDays = Annotated[float, Field(ge=0, le=366, allow_inf_nan=False, strict=True)]
#: What the twin simulates event by event, min: above 6 s so that a run ends, at most a week.
Lasting = Annotated[float, Field(ge=0.1, le=10_080, allow_inf_nan=False, strict=True)]
#: A mean wait for the next order, min: up to a year, which means that none comes.
MeanGap = Annotated[float, Field(ge=0.1, le=527_040, allow_inf_nan=False, strict=True)]
#: A wait that may be none, min.
Wait = Annotated[float, Field(ge=0, le=10_080, allow_inf_nan=False, strict=True)]
#: Mean hours between two trips, from a minute to a century.
BetweenTrips = Annotated[float, Field(ge=1 / 60, le=876_000, allow_inf_nan=False, strict=True)]
#: A relative error's standard deviation: as large as the value itself at most.
RelativeError = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
#: A rank of limits: each better one weighs four times as much (see `optimizer.transcription`),
#: and 4**20 is all that a solver's numbers carry.
Rank = Annotated[int, Field(strict=True, ge=1, le=20)]
