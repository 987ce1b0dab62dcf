"""Gaps: stretches in which readings are missing, with their reason and what became of them.

A gap is a row, as a reading is, and is never deleted. What gaps keep from being learned is
`windows`'; what fills them is the collecting process's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, text

from twin.historian.database import reading, upserting, writing
from twin.historian.samples import plant_name
from twin.historian.schema import gap, microseconds, moment
from twin.historian.unreadable import SkippingStore, readable
from twin.plant import Plant

# In words, as databases find an index for a part of a table by its condition's words.
_IS_UNFILLED = text("gap.is_filled = 0")


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which readings are missing. `tag` None: all tags; `ended_at` None: still.

    `source` names the source that brought none, "" all of them. A gap that is being filled is so
    up to `filled_until`, where filling goes on after a restart.
    """

    started_at: datetime
    ended_at: datetime | None
    reason: str
    tag: str | None = None
    is_filled: bool = False
    source: str = ""
    filled_until: datetime | None = None

    @property
    def cannot_be_filled(self) -> bool:
        """Whether it was asked for to its end, and its readings did not come."""
        asked, ended = self.filled_until, self.ended_at
        return not self.is_filled and asked is not None and ended is not None and asked >= ended


class GapStore(SkippingStore):
    """The part of the historian that holds gaps."""

    def add_gap(
        self,
        plant: Plant | str,
        started_at: datetime,
        ended_at: datetime | None,
        reason: str,
        *,
        tag: str | None = None,
        is_filled: bool = False,
        source: str = "",
        filled_until: datetime | None = None,
    ) -> None:
        """Remember missing readings; the same plant, source, tag and start again updates the gap.

        `source` "" is every source of the plant; see `Gap`.
        """
        statement = upserting(self._engine, gap).values(
            plant=plant_name(plant),
            source=source,
            tag=tag or "",
            started_at=microseconds(started_at),
            ended_at=None if ended_at is None else microseconds(ended_at),
            is_filled=int(is_filled),
            filled_until=None if filled_until is None else microseconds(filled_until),
            reason=reason,
        )
        changed = ("ended_at", "is_filled", "filled_until", "reason")
        upsert = statement.on_conflict_do_update(
            index_elements=["plant", "source", "tag", "started_at"],
            set_={name: statement.excluded[name] for name in changed},
        )
        with writing(self._engine) as connection:
            connection.execute(upsert)

    def gaps(
        self,
        plant: Plant | str,
        since: datetime | None = None,
        *,
        unfilled: bool = False,
        still_open: bool = False,
        newest: int | None = None,
    ) -> list[Gap]:
        """The gaps in time order; with `since`, those that last beyond it.

        Years of filled gaps cost nothing where only the `unfilled` ones are asked for, or only
        those of these that are `still_open`. With `newest`, the last so many to begin.
        """
        query = select(gap).where(gap.c.plant == plant_name(plant))
        if newest is not None:
            query = query.order_by(gap.c.started_at.desc()).limit(newest)
        if unfilled or still_open:
            query = query.where(_IS_UNFILLED)
        if still_open:
            query = query.where(gap.c.ended_at.is_(None))
        if since is not None:
            query = query.where(gap.c.ended_at.is_(None) | (gap.c.ended_at > microseconds(since)))
        with reading(self._engine) as connection:
            rows = sorted(connection.execute(query), key=lambda r: (r.started_at, r.source, r.tag))
        name = plant_name(plant)
        return readable(self._read(name, "gap", row.started_at, row, _gap) for row in rows)

    def count_unfilled(self, plant: Plant | str) -> dict[str, int]:
        """How many gaps are not filled, by source ("": of all); without sources that have none."""
        query = select(gap.c.source, func.count()).where(gap.c.plant == plant_name(plant))
        query = query.where(_IS_UNFILLED).group_by(gap.c.source)
        with reading(self._engine) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def count_filled(self, plant: Plant | str) -> int:
        """How many gaps are filled."""
        query = select(func.count()).where(gap.c.plant == plant_name(plant), gap.c.is_filled == 1)
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())


def _gap(row: Row[Any]) -> Gap:
    return Gap(
        started_at=moment(row.started_at),
        ended_at=None if row.ended_at is None else moment(row.ended_at),
        reason=row.reason,
        tag=row.tag or None,
        is_filled=bool(row.is_filled),
        source=row.source,
        filled_until=None if row.filled_until is None else moment(row.filled_until),
    )
