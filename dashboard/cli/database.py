"""`db upgrade`, `db status`: the database's schema and what it holds."""

from __future__ import annotations

from dataclasses import asdict

from dashboard.cli.door import tell
from dashboard.cli.options import DatabaseOption, JsonOption, PlantArgument, opened, settings_of


def upgrade(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Create the database, or bring it up to date.

    Up to date is the schema of this version; what is stored stays.
    """
    from twin.historian import printable, upgrade

    settings = settings_of(database)
    url = settings.database_url(settings.plant(plant))
    revision = upgrade(url)
    name = printable(url)
    tell(as_json, {"database": name, "revision": revision}, f"{name} is at revision {revision}.")


def status(
    plant: PlantArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Show how much is stored, and of which time."""
    _, _, historian = opened(plant, database)
    with historian:
        facts = asdict(historian.facts())
    tell(as_json, facts, "\n".join(f"{name}: {value}" for name, value in facts.items()))
