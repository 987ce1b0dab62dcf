"""Whatever a message holds, it is a number with quality and time, or a fault in words."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.payloads import LARGEST_PAYLOAD, Payload, Said
from twin.records import BAD, GOOD, UNCERTAIN

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def said(payload: object, key: str = "") -> Said:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    found = Payload(text).said(key)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("payload", "value"),
    [(b"21.5", 21.5), (b" -3\n", -3.0), (b"1e3", 1000.0), (b"true", True), (b"False", False)],
)
def test_a_plain_payload_is_a_good_value_without_a_time(payload: bytes, value: float) -> None:
    """Most devices send a bare number; when it was measured they don't say."""
    assert said(payload) == Said(value, GOOD, None)


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-01-05T12:00:00Z",
        "2026-01-05T13:00:00+01:00",
        "20260105T120000Z",
        NOON.timestamp(),
        NOON.timestamp() * 1e3,
        NOON.timestamp() * 1e6,
        NOON.timestamp() * 1e9,
    ],
)
@pytest.mark.parametrize("key", ["time", "timestamp", "ts", "timestamp_ms"])
def test_a_time_is_understood_in_the_forms_devices_send(stamp: object, key: str) -> None:
    """ISO 8601 with a zone, or seconds to nanoseconds since 1970: always the same noon."""
    assert said({"value": 5, key: stamp}) == Said(5.0, GOOD, NOON)


def test_a_time_without_a_zone_is_the_plants() -> None:
    """As in tables: noon in Berlin in summer is ten o'clock UTC."""
    payload = b'{"value": 1, "time": "2026-07-01 12:00:00"}'
    found = Payload(payload, ZoneInfo("Europe/Berlin")).said()
    assert found is not None
    assert found.time == datetime(2026, 7, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("hour", [0, 1])
def test_the_hour_that_comes_twice_is_the_one_that_is_now(hour: int) -> None:
    """Clocks go back in October: 02:30 is half past midnight UTC, and again an hour later."""
    now = datetime(2026, 10, 25, hour, 31, tzinfo=UTC)
    payload = b'{"value": 1, "time": "2026-10-25 02:30:00"}'
    found = Payload(payload, ZoneInfo("Europe/Berlin"), now).said()
    assert found is not None
    assert found.time == datetime(2026, 10, 25, hour, 30, tzinfo=UTC)


@pytest.mark.parametrize("stamp", ["yesterday", True, [1], {}, 1e25, "2026-13-01T00:00:00Z", 0, 5])
def test_a_time_nobody_knows_makes_the_value_uncertain(stamp: object) -> None:
    """A value whose time cannot be read is kept, doubtful, and says so."""
    found = said({"value": 5, "time": stamp})
    assert (found.raw, found.quality, found.time) == (5.0, UNCERTAIN, None)
    assert "its time" in found.fault


@pytest.mark.parametrize(
    ("told", "quality"),
    [
        ("good", GOOD),
        ("GOOD_LocalOverride", GOOD),
        ("Uncertain", UNCERTAIN),
        ("bad", BAD),
        (True, GOOD),
        (False, BAD),
        (192, GOOD),
        (64, UNCERTAIN),
        (8, BAD),
        (0x808C_0000, 0x808C_0000),
        (None, GOOD),
    ],
)
def test_a_told_quality_is_kept(told: object, quality: int) -> None:
    """Words, truth values, OPC UA status codes and OPC classic's bytes."""
    assert said({"value": 5, "quality": told}) == Said(5.0, quality, None)


@pytest.mark.parametrize("told", ["ok?", 0, 128, 300, 1e20, 1.5, [], -1])
def test_an_unknown_quality_is_no_good_one(told: object) -> None:
    """0 is Good in OPC UA and Bad in OPC classic: nobody can know, so it is Uncertain."""
    found = said({"value": 5, "q": told})
    assert found.quality == UNCERTAIN
    assert "its quality" in found.fault


def test_a_key_leads_to_the_value_and_to_its_own_time() -> None:
    """The nearest object around a value that has a time or a quality tells them."""
    message = {
        "ts": "2026-01-05T11:00:00Z",
        "oven": {
            "left": 21.5,
            "right": {"value": 22, "ts": "2026-01-05T12:00:00Z", "q": "bad"},
            "zones": [{"value": 1}, {"value": 2}],
        },
    }
    assert said(message, "oven.left") == Said(21.5, GOOD, NOON.replace(hour=11))
    assert said(message, "oven.right") == Said(22.0, BAD, NOON)
    assert said(message, "oven.zones.1") == Said(2.0, GOOD, NOON.replace(hour=11))


@pytest.mark.parametrize("key", ["flow", "temp.deep", "zones.7", "zones.x", "zones.-1", ""])
def test_what_a_message_does_not_speak_of_is_nothing(key: str) -> None:
    """Devices send what has changed: a missing key is no reading, neither good nor bad."""
    assert Payload(b'{"temp": 5, "zones": [1]}').said(key) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"21,5",
        b"ON",
        b"{",
        b'{"value": }',
        b"\xff\xfe5",
        b"[" * 200_000,
        b'"21.5"',
        b"null",
        b"[1]",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 5_000,
        b'{"value": "21.5"}',
        b'{"value": null}',
        b'{"value": {"value": 5}}',
        b" " * (LARGEST_PAYLOAD + 1),
    ],
)
def test_what_is_no_number_is_bad_and_says_why(payload: bytes) -> None:
    """Wrong JSON, wrong types, NaN, huge and undecodable payloads: Bad without a value."""
    found = said(payload)
    assert found.raw is None
    assert found.quality >> 30 == 2
    assert found.fault


@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode), st.text(max_size=20))
def test_no_bytes_break_the_reading_of_a_message(payload: bytes, key: str) -> None:
    """Whoever may publish cannot stop us."""
    found = Payload(payload).said(key)
    assert found is None or found.raw is None or math.isfinite(found.raw)  # type: ignore[arg-type]  # a number by contract


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["value", "time", "q", "a"]), inner, max_size=4)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["", "a", "a.a", "value", "a.0"]),
)
def test_no_json_breaks_it_either(document: object, key: str) -> None:
    """Every document gives a finite value of known quality, a fault, or nothing."""
    found = Payload(json.dumps(document).encode()).said(key)
    if found is not None and found.raw is not None:
        assert isinstance(found.raw, bool | float)
        assert math.isfinite(found.raw)
        assert found.time is None or found.time.year > 1970
    elif found is not None:
        assert found.fault
        assert found.quality >> 30 == 2
