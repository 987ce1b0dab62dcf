"""The same change is refused by SQLite and by PostgreSQL, or by none: the rules are one set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from each_database import REFUSED, Server, by_hand, forgetting, seen_by_hand
from small_plant import PUMP, accept, at, outcome, permission, proposal, small_plant
from sqlalchemy import URL, Float, Integer, LargeBinary, Table

from twin.historian import HandBackCause, Historian
from twin.historian.schema import METADATA
from twin.records import Stage

PLANT = small_plant()
STATUSES = (
    "open",
    "accepted",
    "rejected",
    "written",
    "failed",
    "refused",
    "expired",
    "shadow",
    "x",
)
GUARDED = [
    METADATA.tables[name]
    for name in (
        "event", "decision", "stage", "model", "write_outcome", "written_value", "proposal",
        "clearance", "hand_back", "annotation",
    )
]  # fmt: skip

pytestmark = pytest.mark.postgres


@pytest.fixture
def both(tmp_path: Path, postgres: Server) -> Iterator[tuple[URL, URL]]:
    """Two databases that saw the same: three proposals at different ends, and what followed."""
    urls = (URL.create("sqlite", database=str(tmp_path / "h.db")), postgres.database("with_schema"))
    for url in urls:
        with Historian.create(url) as historian:
            historian.register(PLANT)
            live(historian)
    yield urls
    postgres.drop(urls[1])


def live(historian: Historian) -> None:
    for number, name in enumerate(("p1", "p2", "p3")):
        historian.store_proposal(proposal(name, seconds=number))
    historian.decide(accept("p1"))
    historian.decide(accept("p2"))
    historian.store_clearance(permission("c1", "p1"))
    historian.store_clearance(permission("c2", "p2"))
    historian.use_clearance("c1", at(25))
    historian.store_outcome(outcome())
    historian.set_stage(PLANT, PUMP, Stage.SHADOW, "Ada", "first days", at(1))
    historian.set_active_model(PLANT, "v1", {}, at(1))
    historian.note_let_go(PLANT, PUMP, HandBackCause.PLANT, "heartbeat lost", at(2))


def changes(table: Table) -> Iterator[str]:
    """Every column set to itself and to another value, rows deleted, and rows added again."""
    yield f"DELETE FROM {table.name}"
    yield f"INSERT INTO {table.name} SELECT * FROM {table.name}"
    for column in table.columns:
        name = column.name
        yield f"UPDATE {table.name} SET {name} = {name}"
        if column.nullable:
            yield f"UPDATE {table.name} SET {name} = NULL"
        if isinstance(column.type, Integer | Float):
            yield f"UPDATE {table.name} SET {name} = {name} + 1"
        elif not isinstance(column.type, LargeBinary):
            yield f"UPDATE {table.name} SET {name} = {name} || 'x'"


def more() -> Iterator[str]:
    """What the rules speak of in particular."""
    for status in STATUSES:
        for name in ("p1", "p2", "p3"):
            yield f"UPDATE proposal SET status = '{status}' WHERE proposal_id = '{name}'"
        new = {"proposal_id": "'p9'", "status": f"'{status}'"}
        names = METADATA.tables["proposal"].columns.keys()
        columns, values = ", ".join(names), ", ".join(new.get(each, each) for each in names)
        copied = f"SELECT {values} FROM proposal WHERE proposal_id = 'p1'"
        yield f"INSERT INTO proposal ({columns}) {copied}"
        yield f"UPDATE hand_back SET status = '{status}'"
    for used in ("NULL", "1", "1767614425000000", "9000000000000000"):
        yield f"UPDATE clearance SET used_at = {used} WHERE clearance_id = 'c2'"
        yield f"INSERT INTO clearance VALUES ('c9', 'p1', '{{}}', 1, 2, {used})"
        yield f"INSERT INTO clearance VALUES ('c9', 'p3', '{{}}', 1, 2, {used})"
    for which in ("'c1'", "'c2'", "NULL", "'ghost'"):
        for name in ("p1", "p2", "p3", "ghost"):
            for status in ("refused", "verified", "unknown"):
                values = f"(9, '{name}', {which}, '{status}', '', 1)"
                yield f"INSERT INTO write_outcome VALUES {values}"
    for name in ("p1", "p2", "p3", "ghost"):
        for answer in (0, 1, 2):
            yield f"INSERT INTO decision VALUES ('{name}', {answer}, 'Eve', '', 1)"


def is_refused(url: URL, statement: str) -> bool:
    """Whether the database refuses a change; if it does not, the change is taken back."""
    try:
        by_hand(url, statement, rolled_back=True)
    except REFUSED:
        return True
    return False


def test_both_databases_refuse_the_same(both: tuple[URL, URL]) -> None:
    """Every statement that a shell could try on what people may be asked about."""
    statements = [*(each for table in GUARDED for each in changes(table)), *more()]
    answers = {each: [is_refused(url, each) for url in both] for each in statements}
    assert {each: said for each, said in answers.items() if said[0] != said[1]} == {}
    refused = sum(said[0] for said in answers.values())
    assert refused > 150, "rules were asked"
    assert len(answers) - refused > 20, "and not everything is forbidden"


def test_nothing_was_changed_by_trying(both: tuple[URL, URL]) -> None:
    """The comparison above starts each time from the same rows."""
    counts = "SELECT status, count(*) FROM proposal GROUP BY status ORDER BY status"
    before = [seen_by_hand(url, counts) for url in both]
    for url in both:
        assert not is_refused(url, "UPDATE proposal SET status = 'expired' WHERE status = 'open'")
    assert [seen_by_hand(url, counts) for url in both] == before


def test_a_rule_that_is_taken_away_is_missed(both: tuple[URL, URL]) -> None:
    """The comparison can fail: without one rule on one side, the two differ."""
    statement = "UPDATE event SET message = 'nothing happened'"
    assert all(is_refused(url, statement) for url in both)
    by_hand(both[1], forgetting(both[1], "event_never_update", "event"))
    assert [is_refused(url, statement) for url in both] == [True, False]


def test_no_table_of_a_sessions_own_convinces_a_rule(both: tuple[URL, URL]) -> None:
    """A temporary table of the same name, which anybody may make, hides the real one from none."""
    made = "CREATE TEMP TABLE {} AS SELECT * FROM public.{} WHERE {}"
    accepted = "UPDATE public.proposal SET status = 'accepted' WHERE proposal_id = 'p3'"
    cleared = "INSERT INTO public.clearance VALUES ('c9', 'p3', '{}', 1, 2, NULL)"
    again = "INSERT INTO public.write_outcome VALUES (9, 'p2', 'c2', 'verified', '', 1)"
    tricks = {
        accepted: (
            made.format("decision", "decision", "proposal_id = 'p1'"),
            "UPDATE decision SET proposal_id = 'p3'",
        ),
        cleared: (
            made.format("proposal", "proposal", "proposal_id = 'p1'"),
            "UPDATE proposal SET proposal_id = 'p3'",
        ),
        again: (
            made.format("clearance", "clearance", "true"),
            "UPDATE clearance SET used_at = 1",
        ),
    }
    for statement, prepared in tricks.items():
        with pytest.raises(REFUSED):
            by_hand(both[1], *prepared, statement)
