"""Stored numbers keep the unit in which they came: a plant file that names another is refused.

Numbers carry no unit of their own. Under another one, all that was stored would mean something
else to training, averages and pages, and nobody could see it.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from twin.errors import ExpressionError, Fault, PlantFileError
from twin.expressions.units import unit
from twin.historian.schema import sample, tag
from twin.plant import Plant


def check_units(connection: Connection, plant: Plant) -> None:
    """Whether the readings stored of each tag are in the unit of the plant file.

    The same unit may be written otherwise, and one may be told where none was.

    Raises:
        PlantFileError: readings of a tag are stored in another unit; carries all such tags.
    """
    units = {each.name: each.unit for each in plant.tags}
    has_readings = select(sample.c.ts).where(sample.c.tag_id == tag.c.id).exists()
    query = select(tag.c.name, tag.c.unit).where(tag.c.plant == plant.plant)
    stored = [
        (row.name, row.unit)
        for row in connection.execute(query)
        if row.unit and not _is_same(row.unit, units.get(row.name, row.unit))
    ]
    if not stored:
        return
    of_these = query.where(tag.c.name.in_([name for name, _ in stored]), has_readings)
    faults = [
        Fault(
            row.name,
            f"its stored readings are in {row.unit}, and the plant file says "
            f"{units[row.name] or 'no unit'}.",
            remedy=f"Write {row.unit} again; for readings in another unit give the tag a new name.",
        )
        for row in connection.execute(of_these)
    ]
    if faults:
        raise PlantFileError(plant.path.name if plant.path is not None else plant.plant, faults)


def _is_same(first: str, second: str) -> bool:
    if first == second:
        return True
    try:
        return bool(unit(first) == unit(second))
    except ExpressionError:
        return False
