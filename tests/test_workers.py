"""The long-running processes end soon after they are told to, whatever they are doing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
from command_line import start
from lived_plant import NOON, beats, fill, four_tank, lived
from small_plant import level, small_plant

from dashboard.beats import clock_detail, said
from dashboard.settings import Settings
from dashboard.workers.planner import _PlannerLoop, plan_once
from dashboard.workers.trainer import _is_training_due
from dashboard.workers.writer import is_planner_alive
from twin.clock import wall_now
from twin.context import told_judged
from twin.historian import AnnotationKind, Historian
from twin.plant import Role
from twin.records import Stage

MINUTE = timedelta(minutes=1)
# Beside the large packages, Python's search for garbage on the way out took 1.1 s and more.
_LONGEST_WAY_OUT_CPU_S = 0.7


def _until(claim: Callable[[], bool], process: subprocess.Popen[str], within_s: float) -> None:
    give_up_s = time.monotonic() + within_s
    while not claim():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.05)


def _note(historian: Historian) -> str:
    """What the newest beat of any process tells."""
    told = historian.processes(four_tank())
    return told[0].detail if told else ""


def test_a_training_is_left_in_the_middle_when_told_to_end(tmp_path: Path) -> None:
    """SIGTERM while it trains: gone with exit code 0, no model in use, none half stored."""
    plant = four_tank()
    with Historian.create(f"sqlite:///{tmp_path / 'four_tank.db'}") as historian:
        fill(historian, plant, hours=25)
        trainer = start(tmp_path, "train", "four_tank", "--repeat", "--json")
        try:
            _until(lambda: _note(historian) == "training", trainer, within_s=60)
            trainer.terminate()
            out, err = trainer.communicate(timeout=30)
        finally:
            trainer.kill()
        assert (trainer.returncode, '"ended": true' in out) == (0, True), err
        assert "in the middle of a training" in err
        assert historian.active_model(plant) is None
    assert not list((tmp_path / "models").glob("**/*"))


def test_training_begins_by_the_plants_own_known_hours(tmp_path: Path) -> None:
    """Neither another plant's past nor a stray stamp of its own makes a day of history."""
    young, old = small_plant("young"), small_plant("old")
    with Historian.create(tmp_path / "plants.db") as historian:
        historian.register(young)
        historian.register(old)
        day = [level(900.0 * i, 1.0) for i in range(4 * 24 + 1)]
        historian.store([level(-30 * 86_400, 1.0), *day], old)
        assert _is_training_due(old, historian, day[-1].source_time)
        assert not _is_training_due(old, historian, day[-2].source_time)
        strays = [level(-400 * 86_400, 1.0), level(-20 * 3600, 1.0)]
        historian.store([*strays, *day[:48]], young)
        assert not _is_training_due(young, historian, day[47].source_time)


def test_a_planner_heeds_what_the_writer_says_of_the_plants_stop(tmp_path: Path) -> None:
    """In closed loop nothing is proposed while the writer's living beat tells of it."""
    settings = Settings(state_dir=tmp_path, database=None)
    plant = four_tank()
    with Historian.create(settings.database_url(plant)) as historian:
        fill(historian, plant)
        beats(historian, plant, wall_now())
        for mv in plant.with_role(Role.MV):
            historian.set_stage(plant, mv.name, Stage.CLOSED_LOOP, "Ada", "a test", NOON)
        historian.beat(plant, "write", wall_now(), 103, '{"plant_stop": true}')
        planned = plan_once(plant, settings, historian)
        assert "the plant's own stop is set" in planned.reason
        assert historian.proposals(plant) == []
        historian.beat(plant, "write", wall_now(), 103, '{"plant_stop": false}')
        assert plan_once(plant, settings, historian).proposal is not None


def test_a_planner_forgets_what_is_called_bad_afterwards(tmp_path: Path) -> None:
    """It has learned from an hour of a level; once annotated, the next round no longer has."""
    settings = Settings(state_dir=tmp_path, database=None)
    plant = four_tank()

    def followed(planner: _PlannerLoop, end: datetime) -> int:
        """For how many innovations of the last hour the model's trust is known."""
        historian.store([r for r in whole if r.source_time <= end], plant)
        historian.beat(plant, "collect", wall_now(), 101, clock_detail(end, 1.0))
        planner.poll()
        beat = next(each for each in historian.processes(plant) if each.name == "plan")
        return int(said(beat.detail)["coverage_count"])

    with Historian.create(settings.database_url(plant)) as historian:
        historian.register(plant)
        historian.start_stages(plant, NOON - timedelta(hours=4))
        whole = list(lived(plant))
        planner = _PlannerLoop(plant, settings, historian)
        rows = round(3600 / plant.step_s)
        assert followed(planner, NOON - 3 * MINUTE) == 4 * rows
        bad = (NOON - timedelta(minutes=33), NOON - 3 * MINUTE)
        told = {"by": "Ada", "reason": "stuck", "at": NOON, "tags": ["tank_1.level"]}
        number = historian.annotate(plant, AnnotationKind.BAD_DATA, *bad, **told)
        assert followed(planner, NOON - 2 * MINUTE) == 4 * rows - 31
        told = {"by": "Ada", "reason": "it was right", "at": NOON}
        historian.withdraw_annotation(plant, number, **told)
        assert followed(planner, NOON - MINUTE) == 4 * rows
        historian.add_gap(plant, *bad, "not connected")
        assert followed(planner, NOON) == 4 * (rows - 29)


def test_what_a_plan_has_judged_is_told_until_it_judges_anew(tmp_path: Path) -> None:
    """The beat is the memory: a planner that starts anew, or waits, forgets nothing."""
    settings = Settings(state_dir=tmp_path, database=None)
    plant = four_tank()
    told = {"pump_1.setpoint": NOON.isoformat(), "pump_2.setpoint": "garbage", "x": 7}
    with Historian.create(settings.database_url(plant)) as historian:
        fill(historian, plant)
        beats(historian, plant, wall_now())
        for number, detail in enumerate([json.dumps({"judged": told}), "[", '{"judged": 3}']):
            historian.beat(plant, f"planner {number}", wall_now(), 104, detail)
        assert told_judged(historian.processes(plant)) == {"pump_1.setpoint": NOON}
        assert plan_once(plant, settings, historian).kept == frozenset(), "all is advisory"
        beat = next(each for each in historian.processes(plant) if each.name == "plan")
        assert said(beat.detail)["judged"] == {"pump_1.setpoint": NOON.isoformat()}


def test_a_model_that_is_not_in_this_folder_leaves_the_physics_to_plan(tmp_path: Path) -> None:
    """It was trained from another state folder: told once in the audit, and planning goes on."""
    settings = Settings(state_dir=tmp_path, database=None)
    plant, version = four_tank(), "four_tank-0123456789ab"
    with Historian.create(settings.database_url(plant)) as historian:
        fill(historian, plant)
        beats(historian, plant, wall_now())
        historian.set_active_model(plant, version, {}, NOON)
        for _ in range(2):  # as after a restart
            planned = plan_once(plant, settings, historian)
            assert planned.proposal is None or planned.proposal.model == "physics"
            beat = next(b for b in historian.processes(plant) if b.name == "plan")
            assert said(beat.detail)["model"] == "physics"
        told = [e for e in historian.events(plant, kind="model") if e.by == "planner"]
        assert [event.subject for event in told] == [version]
        assert f"{version}, is not in {settings.models_dir(plant).absolute()}" in told[0].message
        assert "planned with the physics" in told[0].message


@pytest.mark.parametrize(
    ("ahead", "is_alive"),
    [(timedelta(0), True), (-timedelta(hours=1), False), (timedelta(hours=1), False)],
)
def test_the_plc_hears_nothing_for_a_planner_that_is_gone(
    tmp_path: Path, ahead: timedelta, is_alive: bool
) -> None:
    """Nor where the clock was set back since its last beat."""
    plant = four_tank()
    with Historian.create(f"sqlite:///{tmp_path / 'four_tank.db'}") as historian:
        historian.beat(plant, "plan", wall_now() + ahead, 103)
        assert is_planner_alive(plant, historian) is is_alive


def test_a_process_is_gone_soon_after_its_last_word(tmp_path: Path) -> None:
    """With all of planning loaded, hardly any work is left once `Ended.` is said."""
    with Historian.create(f"sqlite:///{tmp_path / 'four_tank.db'}") as historian:
        fill(historian, four_tank(), hours=0.1)
        planner = start(tmp_path, "propose", "four_tank", "--repeat")
        try:
            _until(lambda: "model" in _note(historian), planner, within_s=60)
            planner.send_signal(signal.SIGTERM)
            assert planner.stdout is not None
            assert planner.stdout.readline() == "Ended.\n"
            used = psutil.Process(planner.pid).cpu_times()
            _, status, usage = os.wait4(planner.pid, 0)
        finally:
            planner.kill()
    assert status == 0
    way_out_s = usage.ru_utime + usage.ru_stime - used.user - used.system
    assert way_out_s < _LONGEST_WAY_OUT_CPU_S


@pytest.mark.parametrize("database", [None, "sqlite:///named.db", "postgresql+psycopg://u@h/n"])
def test_a_process_that_we_start_buffers_where_we_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str | None
) -> None:
    """`run` and `collect` share one spool: what waits in it is stored by whoever comes next."""
    ours = Settings(state_dir=tmp_path, database=database)
    for name, value in ours.environment().items():
        monkeypatch.setenv(name, value)
    plant = ours.plant("four_tank")
    theirs = Settings()
    assert theirs.buffering(plant) == ours.buffering(plant)
    assert theirs.database_url(plant) == ours.database_url(plant)


def test_settings_show_no_password() -> None:
    """Not in a log, a traceback or a failed comparison."""
    settings = Settings(database="postgresql+psycopg://u:hush@h/n")
    assert "hush" not in f"{settings!r} {settings}"
