"""The page in Debian's Chromium: real server, real database that grows, real clicks.

Needs a Chromium on this machine (`apt-get install chromium`); without one these tests are
skipped, and say so.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from lived_plant import NOON, beats, database, fill, four_tank, lived, proposal

from dashboard.server import PageSettings, arguments
from twin.clock import wall_now
from twin.historian import Historian
from twin.plant import Plant

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SPEED = 20.0
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@dataclass
class Served:
    """The running page: where it is, its process, its database, and the plant's present."""

    address: str
    process: subprocess.Popen[bytes]
    historian: Historian
    plant: Plant
    grown_until: datetime = NOON


@dataclass
class Seen:
    """A browser page, the hosts it asked and what its console complained about."""

    page: sync_api.Page
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The real server on a database to which a plant adds readings, 20 times as fast as life."""
    folder = tmp_path_factory.mktemp("served")
    plant = four_tank()
    with Historian.create(database(folder)) as historian:
        fill(historian, plant, NOON, hours=2)
        beats(historian, plant, wall_now(), NOON, SPEED)
        process, address = _start(folder)
        served = Served(address, process, historian, plant)
        ended = threading.Event()
        feeding = threading.Thread(target=_feed, args=(served, ended))
        feeding.start()
        try:
            yield served
        finally:
            ended.set()
            feeding.join()
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture
def seen(served: Served) -> Iterator[Seen]:
    """A fresh browser window on the overview."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        window = Seen(browser.new_page(viewport={"width": 1440, "height": 1000}))
        page = window.page
        page.on("request", lambda request: window.hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: window.hosts.add(urlsplit(socket.url).netloc))
        page.on("pageerror", lambda error: window.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: window.complaints.append(said.text) if said.type == "error" else None,
        )
        page.goto(served.address)
        page.wait_for_selector("text=tank_1.level", timeout=60_000)
        yield window
        browser.close()


def test_values_appear_and_follow_the_plant(served: Served, seen: Seen, tmp_path: Path) -> None:
    """The overview shows what the database holds and goes on by itself; nobody else is asked."""
    page = seen.page
    row = page.locator("tr", has_text="tank_1.level")
    first = row.locator("td").nth(1).inner_text()
    assert first.endswith("cm")
    page.wait_for_function(
        "first => [...document.querySelectorAll('tr')].some(row =>"
        " row.innerText.includes('tank_1.level') && row.cells[1].innerText !== first)",
        arg=first,
    )
    page.screenshot(path=tmp_path / "overview.png", full_page=True)
    for screen in ("Trend", "Advice", "Stages", "Audit"):
        page.get_by_role("link", name=screen).click()
        page.wait_for_url(f"**/{screen.lower()}")
        page.wait_for_selector(".pw-live")
    assert seen.hosts == {urlsplit(served.address).netloc}
    assert seen.complaints == []


def test_the_zoom_survives_refreshes(seen: Seen) -> None:
    """Drag over the trend: the span stays while new readings come in, until "All" is pressed."""
    page = seen.page
    page.get_by_role("link", name="Trend").click()
    plot = page.locator(".u-over").first
    plot.wait_for()
    page.locator(".pw-trend[data-tick]").wait_for()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 60, steps=5)
    page.mouse.up()
    before = _trend(page)
    assert before["zoom"]
    page.wait_for_function(
        # The chart lives in a shadow root, which querySelector does not enter.
        "tick => [...document.querySelectorAll('*')].some(host =>"
        " host.shadowRoot?.querySelector('.pw-trend')?.dataset.tick > tick + 5)",
        arg=int(before["tick"]),
    )
    assert _trend(page)["zoom"] == before["zoom"]
    page.get_by_role("button", name="Show the whole time span").click()
    assert _trend(page)["zoom"] == ""
    assert seen.complaints == []


def test_a_click_accepts_the_proposal(served: Served, seen: Seen, tmp_path: Path) -> None:
    """Name, Accept: the decision is in the database under that name, and the page says so."""
    served.historian.store_proposal(
        proposal(
            served.plant,
            "clicked",
            created_at=served.grown_until,
            wall_now=wall_now(),
            open_wall_s=600,
        )
    )
    page = seen.page
    page.get_by_role("link", name="Advice").click()
    page.get_by_label("Your name").fill("Ada")
    page.screenshot(path=tmp_path / "advice.png", full_page=True)
    page.get_by_role("button", name="Accept").click()
    page.wait_for_selector("text=The gate looks again at fresh readings")
    decision = served.historian.decision("clicked")
    assert decision is not None
    assert (decision.is_accepted, decision.by) == (True, "Ada")
    assert seen.complaints == []


def test_a_form_stays_open_while_it_is_filled_and_goes_with_the_stop(seen: Seen) -> None:
    """A refusal closes no form and is there to be read; a release takes banner and form along."""
    page = seen.page
    page.get_by_role("button", name="STOP").click()
    page.get_by_role("button", name="Confirm STOP").click()
    page.get_by_text("Release the stop").first.click()
    release = page.get_by_role("button", name="Release the stop", exact=True)
    release.click()
    page.wait_for_selector("text=Not released")
    tick = int(page.locator(".pw-live").first.get_attribute("data-tick") or 0)
    page.wait_for_function(
        "tick => document.querySelector('.pw-live').dataset.tick > tick + 3", arg=tick
    )
    assert page.get_by_text("Not released").is_visible()
    assert release.is_visible()
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Why is it safe to go on?").fill("all well")
    release.click()
    page.wait_for_selector("text=Accepted setpoints are written again")
    page.wait_for_function("!document.body.innerText.includes('STOPPED')")
    assert not release.is_visible()
    assert seen.complaints == []


def test_a_server_that_stops_takes_its_numbers_along(served: Served, seen: Seen) -> None:
    """Ten seconds without a refresh hide every value; they come back with the server."""
    page = seen.page
    value = page.locator("tr", has_text="tank_1.level").locator("td").nth(1)
    lost = page.locator(".pw-lost").first
    assert value.is_visible()
    assert not lost.is_visible()
    served.process.send_signal(signal.SIGSTOP)
    try:
        lost.wait_for(state="visible", timeout=20_000)
        value.wait_for(state="hidden", timeout=20_000)
    finally:
        served.process.send_signal(signal.SIGCONT)
    value.wait_for(state="visible", timeout=20_000)
    lost.wait_for(state="hidden", timeout=20_000)


def test_a_phone_shows_everything_without_sideways_scrolling(seen: Seen) -> None:
    """At 390 px no page is wider than the screen."""
    page = seen.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth <= 390")
    row = page.locator("tr", has_text="tank_1.level")
    box = row.locator("td").nth(7).bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390


def test_the_stop_button_is_reached_by_keyboard(seen: Seen) -> None:
    """A few tabs from the top lead to STOP."""
    page = seen.page
    for _ in range(15):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "STOP":
            return
    pytest.fail("STOP is not among the first 15 stops of the Tab key")


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the page's process and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = PageSettings("four_tank", database(folder), folder)
    log = (folder / "page.log").open("wb")
    with log:
        process = subprocess.Popen(
            arguments(port), env={**os.environ, **settings.environment()}, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    pause = threading.Event()
    for _ in range(300):
        assert process.poll() is None, (folder / "page.log").read_text()
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return process, address
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pause.wait(0.1)
    pytest.fail(f"{address} did not answer within 30 s: {(folder / 'page.log').read_text()}")


def _feed(served: Served, ended: threading.Event) -> None:
    """Add readings and signs of life every half second, as the collector does."""
    plant = served.plant
    story: dict[datetime, list[object]] = {}
    for reading in lived(plant, NOON + timedelta(hours=3), hours=5):
        story.setdefault(reading.source_time, []).append(reading)
    for at in sorted(moment for moment in story if moment > NOON):
        if ended.wait(plant.sample_s / SPEED):
            return
        served.historian.store(story[at], plant)
        beats(served.historian, plant, wall_now(), at, SPEED)
        served.grown_until = at


def _trend(page: sync_api.Page) -> dict[str, str]:
    """The chart's own marks: its zoom in seconds since 1970, and its refresh count."""
    marks: dict[str, str] = page.eval_on_selector(".pw-trend", "root => ({...root.dataset})")
    return marks
