"""Leases: what only one process may do at a time, among all that share the database.

A lease runs out by the wall unless its owner renews it, so that a killed owner stands in nobody's
way for long, also where the clock was set back since. The clocks of machines that share a database
must agree to well within its length.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, delete, select

from twin.historian.database import upserting, writing
from twin.historian.samples import plant_name
from twin.historian.schema import lease, microseconds
from twin.plant import Plant


class LeaseStore:
    """The part of the historian that knows who may do what only one may do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take_lease(
        self, plant: Plant | str, role: str, owner: str, now: datetime, until: datetime
    ) -> str:
        """Take or renew a lease until `until`, and say who has it now: `owner` or another.

        All times are wall time.
        """
        name = plant_name(plant)
        values = {"owner": owner, "until": microseconds(until)}
        take = upserting(self._engine, lease).values(plant=name, role=role, **values)
        longest = microseconds(until + (until - now))  # no clock that agrees leaves a later one
        taken = take.on_conflict_do_update(
            index_elements=["plant", "role"],
            set_=values,
            where=(lease.c.owner == owner)
            | (lease.c.until <= microseconds(now))
            | (lease.c.until > longest),
        )
        holder = select(lease.c.owner).where(lease.c.plant == name, lease.c.role == role)
        with writing(self._engine) as connection:
            connection.execute(taken)
            return str(connection.execute(holder).scalar_one())

    def end_lease(self, plant: Plant | str, role: str, owner: str) -> None:
        """Let another have it at once; nothing happens where it is another's."""
        of_owner = (lease.c.plant == plant_name(plant), lease.c.role == role)
        with writing(self._engine) as connection:
            connection.execute(delete(lease).where(*of_owner, lease.c.owner == owner))
