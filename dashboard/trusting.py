"""What the audit is told of trust: which certificate a person accepted or revoked, and who.

The trust store is one for all plants of an installation, so each plant with a database here is
told. Trust itself changes first: no database that hangs keeps it up.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass

from connectors.security import Kept
from connectors.security.certificates import application_uris, fingerprint, fit_to_show, subject
from dashboard.given import kept as kept_text
from dashboard.settings import Settings
from twin.clock import wall_now
from twin.errors import HistorianError
from twin.historian import Historian

#: The kind under which the audit keeps it.
TRUST = "trust"

_PATIENCE_S = 2.0


@dataclass(frozen=True)
class AuditTold:
    """Which plants' audit was told, and why the rest was not; both are empty without a database."""

    by: str
    plants: tuple[str, ...]
    troubles: tuple[str, ...]

    def text(self) -> str:
        """For the person who decided."""
        told = f"In the audit of {', '.join(self.plants)}, by {self.by}." if self.plants else ""
        lost = "".join(f"\nNot in the audit: {each}" for each in self.troubles)
        return (told + lost).strip() or "In no audit yet: no plant has a database here."


def tell_of_trust(settings: Settings, done: str, what: Kept, by: str | None) -> AuditTold:
    """Note that a certificate was `done`, in every database of this installation.

    `by` None is who is logged in to this machine.
    """
    person = by or kept_text(_logged_in(), "somebody")
    uri = fit_to_show(", ".join(application_uris(what.certificate))) or "no application URI"
    message = f"{done} {subject(what.certificate)}, {uri} (by the wall clock)"
    plants: list[str] = []
    troubles: list[str] = []
    for url in _databases(settings):
        try:
            with Historian.open(url, _PATIENCE_S, _PATIENCE_S) as historian:
                for plant in historian.plants():
                    digits = fingerprint(what.certificate)
                    historian.event(plant, TRUST, digits, message, wall_now(), person)
                    plants.append(plant)
        except HistorianError as fault:
            troubles.append(str(fault))
    return AuditTold(person, tuple(plants), tuple(troubles))


def _databases(settings: Settings) -> list[str]:
    """The one that is set, else every plant's own in the state folder."""
    if settings.database:
        return [settings.database]
    files = sorted(settings.state_dir.glob("*.db"))
    return [f"sqlite:///{each.resolve()}" for each in files]


def _logged_in() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
