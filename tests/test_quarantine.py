"""What the database refused for ever can be looked at, tried again and dropped, by a person."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from collected import collecting
from command_line import CommandLine, clear_environment
from one_tank import NOON, until
from test_collecting_faults import source_of

from connectors.parcels import Batch
from connectors.spool import Spool
from twin.historian import Historian
from twin.plant import read_plant
from twin.records import GOOD, Reading

PLANT = read_plant("four_tank")
KNOWN, GHOST = PLANT.tags[0].name, "ghost"


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """The command line over a database whose spool has two parcels in quarantine."""
    clear_environment(monkeypatch, {"PLANTWRIGHT_STATE_DIR": str(tmp_path)})
    with Historian.create(f"sqlite:///{tmp_path / 'four_tank.db'}") as historian:
        historian.register(PLANT)
    with Spool(spool_file(tmp_path)) as spool:
        for tag in (KNOWN, GHOST):
            spool.set_aside(Batch("", [Reading(tag, 1.0, GOOD, NOON, NOON)]), f"no tag {tag}")
    return CommandLine(monkeypatch, capsys)


def spool_file(folder: Path) -> Path:
    return folder / "four_tank.spool"


def test_it_is_shown_with_why_how_many_when_and_of_what(call: CommandLine) -> None:
    """As a table and as a record; looking changes nothing."""
    for _ in range(2):
        shown = call("quarantine", "four_tank", "--json").record
        assert shown["rows"] == 2
        newest, _ = shown["quarantine"]
        assert (newest["reason"], newest["rows"], newest["tags"]) == ("no tag ghost", 1, ["ghost"])
        assert newest["from"] == newest["to"] == NOON.isoformat()
    assert "ghost" in call("quarantine", "four_tank").out


def test_what_is_tried_again_waits_for_the_database_in_line(
    call: CommandLine, tmp_path: Path
) -> None:
    """Nothing is in quarantine then, and the next collector stores it or refuses it again."""
    assert call("quarantine", "four_tank", "--retry", "--json").record["put in line"] == 2
    assert call("quarantine", "four_tank", "--json").record["quarantine"] == []
    source = source_of(PLANT)

    async def story(historian: Historian) -> None:
        from connectors.buffering import Buffering

        options = {"connect": source.connect(), "buffering": Buffering(spool_file(tmp_path))}
        async with collecting(PLANT, historian, **options) as told:
            await until(lambda: told[-1].spool.quarantined_rows == 1, "the ghost to be refused", 60)

    with Historian.open(f"sqlite:///{tmp_path / 'four_tank.db'}") as historian:
        asyncio.run(story(historian))
        assert [row.value for row in historian.readings(PLANT, [KNOWN], NOON, NOON)] == [1.0]


def test_it_is_dropped_by_somebody_for_a_reason(call: CommandLine, tmp_path: Path) -> None:
    """Without both nothing is; with both it is gone, and the audit has the line."""
    for given in (["--by", "Ada"], ["--reason", "typo"], ["--by", " ", "--reason", "typo"]):
        assert call("quarantine", "four_tank", "--drop", *given).code == 2
    assert call("quarantine", "four_tank", "--drop", "--retry").code == 2
    why = ["--by", "Ada", "--reason", "a typo"]
    assert call("quarantine", "four_tank", "--drop", *why, "--json").record["dropped"] == 2
    assert "Nothing is in quarantine." in call("quarantine", "four_tank").out
    with Historian.open(f"sqlite:///{tmp_path / 'four_tank.db'}") as historian:
        (told,) = historian.events(PLANT, kind="quarantine")
    assert told.by == "Ada"
    assert told.message.startswith("2 readings are dropped from quarantine: a typo")


def test_while_a_collector_runs_it_says_what_to_do(call: CommandLine, tmp_path: Path) -> None:
    """The spool has one user at a time."""
    with Spool(spool_file(tmp_path)):
        answer = call("quarantine", "four_tank")
    assert answer.code == 2
    assert "End that first" in answer.err


def test_before_anything_was_collected_there_is_nothing(call: CommandLine, tmp_path: Path) -> None:
    """And no file is made by looking."""
    spool_file(tmp_path).unlink()
    assert "Nothing is in quarantine." in call("quarantine", "four_tank").out
    assert not spool_file(tmp_path).exists()
