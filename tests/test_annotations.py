"""What people say of the past stays on record, and training respects it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine, clear_environment
from each_database import REFUSED, by_hand, seen_by_hand
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_plant import DEMAND, LEVEL, NOON, PUMP, at, small_plant
from sqlalchemy import URL

from dashboard.workers.trainer import train_once
from twin.dynamics.frames import signals_of
from twin.dynamics.past import past_to_learn
from twin.dynamics.record import Record
from twin.errors import UnknownTag
from twin.historian import AnnotationKind, Historian
from twin.plant import Plant, Role, Tag
from twin.records import GOOD, Reading

PLANT = small_plant()
LEARNER = Plant(
    plant="learner",
    title="Two tags that move",
    tags=(
        Tag(name="pump.flow", role=Role.MV, unit="cm**3/s", max_age_s=120, aggregate="mean"),
        Tag(name="tank.level", role=Role.CV, unit="cm", max_age_s=300),
    ),
    step_s=60.0,
    horizon_steps=10,
)
CONTEXT_ROWS = 5
ROWS = 400
POISON = 1e9


@pytest.fixture
def historian(database: URL) -> Iterator[Historian]:
    with Historian.create(database) as opened:
        opened.register(PLANT)
        yield opened


def annotated(
    historian: Historian,
    kind: AnnotationKind = AnnotationKind.BAD_DATA,
    start: datetime = NOON,
    tags: tuple[str, ...] = (),
) -> int:
    end = start + timedelta(hours=1)
    by = {"by": "Ada", "reason": "probe cleaned", "at": at(7200)}
    return historian.annotate(PLANT, kind, start, end, tags=tags, **by)


def test_an_annotation_comes_back_as_it_went_in(historian: Historian) -> None:
    """Kind, period, tags, who, why and when; and the audit tells of it."""
    number = annotated(historian, tags=(LEVEL, DEMAND))
    (found,) = historian.annotations(PLANT)
    assert (found.number, found.kind, found.tags) == (number, "bad-data", (LEVEL, DEMAND))
    assert (found.started_at, found.ended_at, found.at) == (NOON, at(3600), at(7200))
    assert (found.by, found.reason) == ("Ada", "probe cleaned")
    assert found.holds_for(LEVEL)
    assert not found.holds_for(PUMP)
    (event,) = historian.events(PLANT, kind="annotation")
    assert (event.by, event.subject) == ("Ada", f"{LEVEL}, {DEMAND}")
    assert "probe cleaned" in event.message


def test_taking_back_is_a_further_row_and_happens_once(historian: Historian) -> None:
    """What is withdrawn stands no more, and both rows and both names stay on record."""
    number = annotated(historian)
    told = {"by": "Bob", "reason": "it was fine", "at": at(9000)}
    assert historian.withdraw_annotation(PLANT, number, **told) is None
    assert historian.annotations(PLANT) == []
    refusal = historian.withdraw_annotation(PLANT, number, **told)
    assert refusal is not None
    assert str(number) in refusal
    assert [event.by for event in historian.events(PLANT, kind="annotation")] == ["Bob", "Ada"]
    assert seen_by_hand(historian.url, "SELECT count(*) FROM annotation") == [(2,)]


def test_nobody_annotates_without_name_reason_or_sense(historian: Historian) -> None:
    """Who and why are needed, the tag must exist, and time runs forward."""
    good = {"by": "Ada", "reason": "why", "at": at(0)}
    for wrong in ({"by": " "}, {"reason": ""}):
        with pytest.raises(ValueError, match="named person"):
            historian.annotate(PLANT, AnnotationKind.TEST, at(0), at(1), **good | wrong)
    with pytest.raises(ValueError, match="ends"):
        historian.annotate(PLANT, AnnotationKind.TEST, at(1), at(0), **good)
    with pytest.raises(UnknownTag):
        historian.annotate(PLANT, AnnotationKind.TEST, at(0), at(1), tags=["nix"], **good)
    assert historian.annotations(PLANT) == []


@pytest.mark.parametrize(
    "statement", ["UPDATE annotation SET reason = 'none'", "DELETE FROM annotation"]
)
def test_an_annotation_is_never_changed(historian: Historian, statement: str) -> None:
    """Not even by hand."""
    annotated(historian)
    with pytest.raises(REFUSED):
        by_hand(historian.url, statement)
    assert len(historian.annotations(PLANT)) == 1


def test_kinds_and_times_are_asked_for(historian: Historian) -> None:
    """Those that stand come by their beginning; only some kinds or the later ones, if asked."""
    later = annotated(historian, AnnotationKind.TEST, at(86_400))
    first = annotated(historian, AnnotationKind.CAMPAIGN)
    assert [a.number for a in historian.annotations(PLANT)] == [first, later]
    assert [a.number for a in historian.annotations(PLANT, since=at(3601))] == [later]
    assert [a.number for a in historian.annotations(PLANT, [AnnotationKind.CAMPAIGN])] == [first]


# Training


def live(historian: Historian, poisoned: list[tuple[float, float]], tags: tuple[str, ...]) -> None:
    """Readings every 20 s; those of some tags inside the stretches (s after noon) are poison."""
    rng = np.random.default_rng(1000)
    readings = []
    for i in range(ROWS * 3 + 30):
        second = 20.0 * i
        is_inside = any(start <= second <= end for start, end in poisoned)
        for tag in LEARNER.tags:
            value = POISON if is_inside and tag.name in tags else rng.uniform(0.0, 10.0)
            readings.append(Reading(tag.name, value, GOOD, at(second), at(second)))
    historian.store(readings, LEARNER)


PERIODS = st.lists(
    st.tuples(st.floats(0, ROWS * 60.0), st.floats(0.0, 1800.0)).map(
        lambda drawn: (round(drawn[0], 3), round(drawn[0] + drawn[1], 3))
    ),
    max_size=3,
    unique_by=lambda period: period[0],  # a gap is known by its beginning
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    periods=PERIODS,
    is_gap=st.booleans(),
    tags=st.sampled_from([("pump.flow",), ("tank.level",), ("pump.flow", "tank.level")]),
)
def test_no_reading_of_a_bad_period_or_an_unfilled_gap_reaches_a_dataset(
    tmp_path_factory: pytest.TempPathFactory,
    periods: list[tuple[float, float]],
    is_gap: bool,
    tags: tuple[str, ...],
) -> None:
    """Neither to fit, nor to choose by, nor to judge by: not as a value, nor inside a mean."""
    with Historian.create(tmp_path_factory.mktemp("learnt") / "h.db") as historian:
        historian.register(LEARNER)
        live(historian, periods, tags)
        for start, end in periods:
            if is_gap:  # what lies inside it came before it was known to be one
                for tag in tags:
                    span = (at(start - 0.001), at(end + 0.001))
                    historian.add_gap(LEARNER, *span, "not connected", tag=tag)
            else:
                historian.annotate(
                    LEARNER, AnnotationKind.BAD_DATA, at(start), at(end),
                    by="Ada", reason="probe cleaned", at=at(0), tags=tags,
                )  # fmt: skip
        names = [tag.name for tag in LEARNER.tags]
        past = past_to_learn(LEARNER, historian, names, at(ROWS * 60.0), ROWS)
        record = Record(LEARNER, signals_of(LEARNER, None), past, CONTEXT_ROWS)
        for cuts in (record.fit(3), record.validation(3), record.held_out()):
            for numbers in (cuts.past.levels, cuts.past.inputs, cuts.future, cuts.truth):
                assert not (np.abs(numbers) > 10.0).any()
            assert np.isfinite(cuts.future).all()


def test_the_property_above_can_fail(tmp_path: Path) -> None:
    """Without an annotation the poison is in the datasets; a filled gap keeps nothing out."""
    with Historian.create(tmp_path / "h.db") as historian:
        historian.register(LEARNER)
        live(historian, [(600.0, 1200.0)], ("tank.level",))
        historian.add_gap(LEARNER, at(600), at(1200), "not connected", is_filled=True)
        past = past_to_learn(LEARNER, historian, ["tank.level"], at(ROWS * 60.0), ROWS)
        assert np.nanmax(past.values["tank.level"]) == POISON


def test_training_itself_sees_no_bad_data(tmp_path: Path) -> None:
    """`train` fits to the past without it: the ranges on the card never saw the poison."""
    from dashboard.settings import Settings

    settings = Settings(state_dir=tmp_path)
    with Historian.create(tmp_path / "learner.db") as historian:
        historian.register(LEARNER)
        live(historian, [(6000.0, 9000.0)], ("pump.flow", "tank.level"))
        told = {"by": "Ada", "reason": "probe cleaned", "at": at(0)}
        historian.annotate(LEARNER, AnnotationKind.BAD_DATA, at(6000), at(9000), **told)
        card = train_once(LEARNER, settings, historian, seed=1000)
    assert max(high for _, high in card.support.values()) <= 10.0


# The command


@pytest.fixture
def plantwright(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    clear_environment(monkeypatch, {"PLANTWRIGHT_STATE_DIR": str(tmp_path)})
    return CommandLine(monkeypatch, capsys)


def test_a_person_annotates_lists_and_withdraws(plantwright: CommandLine) -> None:
    """Three commands; times are the plant's zone, and who and why come along."""
    assert plantwright("db", "upgrade", "four_tank").code == 0
    period = ("--from", "2026-01-05T13:00", "--to", "2026-01-05T14:00+01:00")
    who = ("--by", "Ada", "--reason", "probe cleaned [/x]")
    added = plantwright(
        "annotate", "add", "four_tank", "--kind", "bad-data", *period, *who, "--json"
    )
    number = added.record["number"]
    listed = plantwright("annotate", "list", "four_tank", "--json").record["annotations"]
    assert [(a["number"], a["kind"], a["by"], a["tags"]) for a in listed] == [
        (number, "bad-data", "Ada", [])
    ]
    assert datetime.fromisoformat(listed[0]["ended_at"]) == NOON + timedelta(hours=1)
    shown = plantwright("annotate", "list", "four_tank").out
    assert "probe" in shown
    assert "[/x]" in shown, "and never taken for a style of the table"
    taken = ("annotate", "withdraw", "four_tank", str(number), *who, "--json")
    assert plantwright(*taken).record["withdrawn"] is True
    again = plantwright(*taken)
    assert (again.code, again.record["withdrawn"]) == (1, False)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--kind", "odd"), 2, "bad-data"),
        (("--from", "soon"), 2, "2026-01-31T12:00"),
        (("--to", "2020-01-01"), 2, "before it begins"),
        (("--to", "9999-12-31T23:59"), 2, "the years 1900 to 2199"),
        (("--tags", "nix"), 1, "nix"),
        (("--tags", " , "), 2, "names no tag"),
        (("--by", ""), 2, "--by"),
    ],
)
def test_a_wrong_call_is_told_plainly(
    plantwright: CommandLine, words: tuple[str, ...], code: int, told: str
) -> None:
    """Which option, what is wrong, what to write."""
    plantwright("db", "upgrade", "four_tank")
    good = {
        "--kind": "test", "--from": "2026-01-05T12:00", "--to": "2026-01-05T13:00",
        "--by": "Ada", "--reason": "why",
    }  # fmt: skip
    given = [word for pair in (good | {words[0]: words[1]}).items() for word in pair]
    answer = plantwright("annotate", "add", "four_tank", *given)
    assert answer.code == code
    assert told in answer.err
