"""`quarantine`: readings that the database refused for ever, to look at, try again or drop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dashboard.cli.door import tell
from dashboard.cli.options import (
    DatabaseOption,
    JsonOption,
    PlantArgument,
    dated,
    opened,
)
from dashboard.given import legible, name_fault, text_fault
from dashboard.view.text import date_time
from twin.errors import SpoolTaken, UsageError
from twin.plant import Plant

if TYPE_CHECKING:
    from connectors.spool import Quarantined, Spool
    from twin.historian import Historian

_LISTED = 1_000  # parcels; the newest
_TAGS_SHOWN = 5


def quarantine(
    plant: PlantArgument,
    retry: Annotated[
        bool, typer.Option("--retry", help="Put them in line for the database again.")
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Delete them for ever; needs --by and --reason.")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="Who decides this; kept in the audit.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit.")] = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show readings that the database refused, put them in line again, or drop them.

    The collecting process has them open: end it first. What is tried again is stored, or refused
    again, by the next one.
    """
    from connectors.ingest import spool_path
    from connectors.spool import Spool

    if retry and drop:
        raise UsageError("--retry and --drop: choose one of them.")
    if drop:
        for option, fault in (("--by", name_fault(by)), ("--reason", text_fault(reason))):
            if fault:
                raise UsageError(f"{option} {fault}")
    found, settings, historian = opened(plant, database)
    with historian:
        path = spool_path(historian, settings.buffering(found))
        record: dict[str, Any] = {"plant": found.plant, "spool": str(path), "quarantine": []}
        if not path.exists():
            tell(as_json, record, "Nothing is in quarantine.")
            return
        try:
            with Spool(path) as spool:
                held, rows = spool.quarantined(_LISTED), spool.quarantined_rows
                done = _done(
                    found, historian, spool, retry=retry, told=(by, reason) if drop else ()
                )
        except SpoolTaken:
            raise UsageError(
                f"{path}: a collecting process has it open. End that first (`plantwright collect` "
                "or `run`), then come again; what is in quarantine waits."
            ) from None
    record |= {"rows": rows, "quarantine": [_record(each) for each in held], **done}
    if done:
        text = ", ".join(f"{count:,} readings {what}" for what, count in done.items())
        tell(as_json, record, f"{text}.")
    else:
        tell(as_json, record, _table(found, held) if held else "Nothing is in quarantine.")


def _done(
    plant: Plant, historian: Historian, spool: Spool, *, retry: bool, told: Sequence[str]
) -> dict[str, int]:
    """Do what was asked, if anything: what happened to how many readings."""
    if retry:
        return {"put in line": spool.put_back()}
    if told:
        by, reason = told
        what = f"{spool.quarantined_rows} readings are dropped from quarantine: {reason}"
        message, at = dated(plant, historian, what)
        historian.event(plant, "quarantine", str(spool.path), message, at, by.strip())
        return {"dropped": spool.drop_quarantined()}
    return {}


def _record(aside: Quarantined) -> dict[str, Any]:
    """Why, how many, when and of what; the latter are None where it cannot be read any more."""
    from connectors.parcels import Batch, span_of

    parcel = aside.parcel
    first, last = (None, None) if parcel is None else span_of(parcel)[1:]
    tags = sorted({each.tag for each in parcel.readings}) if isinstance(parcel, Batch) else None
    return {
        "reason": aside.reason,
        "rows": aside.rows,
        "from": first,
        "to": last,
        "tags": tags,
    }


def _table(plant: Plant, held: Sequence[Quarantined]) -> Table:
    table = Table("readings", "from", "to", "tags", "why")
    for each in map(_record, held):
        span = ("" if each[end] is None else date_time(each[end], plant) for end in ("from", "to"))
        tags = each["tags"] or []
        more = f" and {len(tags) - _TAGS_SHOWN} more" if len(tags) > _TAGS_SHOWN else ""
        shown = legible(", ".join(tags[:_TAGS_SHOWN]) + more)
        table.add_row(f"{each['rows']:,}", *span, shown, legible(each["reason"]))
    return table
