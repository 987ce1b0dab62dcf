"""kill -9 at any point loses nothing, stores nothing twice, and leaves no hole untold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from counted_source import CountingSource, counting_plant

from twin.historian import Historian

KILLS = 30  # in each of two stories; a third in the midst of a commit


def killed(tmp_path: Path, memory: str) -> int:
    """Kill one collector after the other, let the last one finish; the plant's last sample."""
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, tests / "collector_nursery.py", str(tmp_path), str(KILLS), memory],
        env={**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert len(told["signals"]) == KILLS
    assert {*told["signals"]} == {signal.SIGKILL, signal.SIGALRM}
    assert not list(tmp_path.glob("*.damaged-*"))
    return int(told["last"])


def test_a_killed_collector_loses_nothing_of_a_plant_that_remembers(tmp_path: Path) -> None:
    """Rows stored = numbers counted by the plant, each once with its own value; no gap is left."""
    last = killed(tmp_path, "remembers")
    plant = counting_plant()
    source = CountingSource(plant, 0.0)
    with Historian.open(tmp_path / "plant.db") as historian:
        rows = historian.readings(plant, source.tags, source.at(0), source.at(last + 100))
        for tag in source.tags:
            values = [row.value for row in rows if row.tag == tag]
            assert values == [float(number) for number in range(last + 1)]
        assert all(gap.is_filled for gap in historian.gaps(plant) if gap.ended_at is not None)


def test_a_killed_collector_stores_all_it_took_and_tells_the_rest(tmp_path: Path) -> None:
    """Of a plant without a memory: what was once on our disk is stored, every other one a gap."""
    last = killed(tmp_path, "forgets")
    plant = counting_plant()
    source = CountingSource(plant, 0.0)
    lines = (tmp_path / "safe").read_text().splitlines()
    spans = [tuple(map(int, line.split())) for line in lines]
    safe = {number for first, upto in spans for number in range(first, upto + 1)}
    with Historian.open(tmp_path / "plant.db") as historian:
        rows = historian.readings(plant, source.tags, source.at(0), source.at(last + 100))
        gaps = historian.gaps(plant)
    stored = {tag: {row.value for row in rows if row.tag == tag} for tag in source.tags}
    assert len(rows) == sum(map(len, stored.values()))
    assert all(row.source_time == source.at(int(row.value or 0)) for row in rows)
    assert len(safe) > 100
    for held in stored.values():
        assert not safe - held
        for number in {*range(last + 1)} - held:
            assert any(
                gap.started_at <= source.at(number) <= (gap.ended_at or source.at(number))
                for gap in gaps
            )
