"""`annotate add`, `list`, `withdraw`: what a person says of a period of the plant's past."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from dashboard.cli.door import refuse, tell
from dashboard.cli.options import (
    ByOption,
    DatabaseOption,
    FromOption,
    JsonOption,
    PlantArgument,
    ReasonOption,
    ToOption,
    moment_of,
    opened,
    plant_now,
    tags_of,
)
from dashboard.given import legible
from dashboard.view.text import date_time
from twin.errors import UsageError


def add(
    plant: PlantArgument,
    kind: Annotated[
        str, typer.Option(help="bad-data, campaign, test, maintenance or keep.", show_default=False)
    ],
    since: FromOption,
    until: ToOption,
    by: ByOption,
    reason: ReasonOption,
    tags: Annotated[str, typer.Option(help="Only these, parted by commas; default: all.")] = "",
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a period was.

    Training leaves out bad data; the readings of tests and of what is to keep are never deleted.
    """
    from twin.historian import AnnotationKind

    if kind not in [*AnnotationKind]:
        raise UsageError(f"--kind {kind}: give one of {', '.join(AnnotationKind)}.")
    found, _, historian = opened(plant, database)
    with historian:
        start, end = moment_of(found, since, "--from"), moment_of(found, until, "--to")
        if end < start:
            raise UsageError(f"--to {until}: the period ends before it begins.")
        number = historian.annotate(
            found,
            AnnotationKind(kind),
            start,
            end,
            by=by,
            reason=reason,
            at=plant_now(found, historian),
            tags=tags_of(found, tags),
        )
    tell(as_json, {"plant": found.plant, "number": number}, f"Annotation {number} is stored.")


def list_(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Show the annotations that stand."""
    found, _, historian = opened(plant, database)
    with historian:
        standing = historian.annotations(found)
    table = Table("number", "kind", "from", "to", "tags", "by", "why")
    for each in standing:
        period = (date_time(t, found) for t in (each.started_at, each.ended_at))
        words = (", ".join(each.tags) or "all", each.by, each.reason)
        table.add_row(str(each.number), each.kind, *period, *map(legible, words))
    record = {"plant": found.plant, "annotations": [asdict(each) for each in standing]}
    tell(as_json, record, table)


def withdraw(
    plant: PlantArgument,
    number: Annotated[int, typer.Argument(help="The annotation's number.")],
    by: ByOption,
    reason: ReasonOption,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an annotation back.

    It stays on record, as does who took it back and why.
    """
    found, _, historian = opened(plant, database)
    with historian:
        at = plant_now(found, historian)
        refusal = historian.withdraw_annotation(found, number, by=by, reason=reason, at=at)
    record = {"plant": found.plant, "number": number, "withdrawn": refusal is None}
    if refusal is not None:
        refuse(as_json, record | {"reason": refusal}, refusal)
    tell(as_json, record, f"Annotation {number} is withdrawn.")
