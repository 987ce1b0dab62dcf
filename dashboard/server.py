"""How the page is started, and what it is told at its door: plant, database, state folder.

`arguments` is the whole command line of the page's process and `PageSettings` its whole
environment. Nothing here shows or reads the plant.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from twin.errors import UsageError

PLANT = "PLANTWRIGHT_PLANT"
DATABASE = "PLANTWRIGHT_DATABASE"
STATE_DIR = "PLANTWRIGHT_STATE_DIR"
STARTED_AT = "PLANTWRIGHT_STARTED_AT"

#: Every option beside port and address. No call leaves the machine, no tool of a developer is
#: shown, and the screen is grey so that a colour always means something.
_OPTIONS: Mapping[str, str] = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "logger.level": "warning",
    "theme.base": "light",
    "theme.primaryColor": "#37424a",
    "theme.backgroundColor": "#dcdedf",
    "theme.secondaryBackgroundColor": "#ebeced",
    "theme.textColor": "#1d2429",
    "theme.borderColor": "#a9afb3",
    "theme.showWidgetBorder": "true",
    "theme.baseRadius": "3px",
    "theme.baseFontSize": "15",
}


@dataclass(frozen=True)
class PageSettings:
    """What the page needs to know: a plant (file or shipped name), a database URL, a folder.

    `started_at` is the wall time at which the plant's processes were started beside the page;
    None where the page was started alone.
    """

    plant: str
    database: str
    state_dir: Path
    started_at: datetime | None = None

    def environment(self) -> dict[str, str]:
        """The variables that hand these settings to the page's process."""
        return {
            PLANT: self.plant,
            DATABASE: self.database,
            STATE_DIR: str(self.state_dir),
            STARTED_AT: self.started_at.isoformat() if self.started_at is not None else "",
        }


def page_settings(environ: Mapping[str, str]) -> PageSettings:
    """The settings found in `environ`; raises UsageError naming every one that is missing."""
    missing = [name for name in (PLANT, DATABASE, STATE_DIR) if not environ.get(name)]
    if missing:
        raise UsageError(
            f"The page was started without {', '.join(missing)}. "
            "Start it with `plantwright dashboard PLANT`, which sets them."
        )
    started = environ.get(STARTED_AT)
    started_at = datetime.fromisoformat(started) if started else None
    return PageSettings(environ[PLANT], environ[DATABASE], Path(environ[STATE_DIR]), started_at)


def arguments(port: int, address: str = "127.0.0.1") -> list[str]:
    """The page's command line: a local Streamlit server on `address`:`port`."""
    command = [sys.executable, "-m", "streamlit", "run", str(Path(__file__).parent / "app.py")]
    command += [f"--server.address={address}", f"--server.port={port}"]
    command += [f"--browser.serverAddress={address}"]
    # Other host names are refused, so that no foreign site can point its own name at this port.
    command += [f"--server.allowedHosts={host}" for host in ("localhost", address)]
    return command + [f"--{name}={value}" for name, value in _OPTIONS.items()]
