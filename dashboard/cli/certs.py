"""`certs list`, `own`, `accept`, `revoke`: who we are to servers, and whom we trust."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dashboard.cli.door import refuse, tell
from dashboard.cli.options import DatabaseOption, JsonOption, person, settings_of
from twin.clock import wall_now
from twin.errors import SecurityFault

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from connectors.security import Kept, TrustStore

FingerprintArgument = Annotated[
    str, typer.Argument(help="SHA-256 fingerprint, or its first 8 digits or more.")
]
WhoOption = Annotated[
    str | None,
    typer.Option(
        "--by", callback=person, help="Who decides this, for the audit; default: who is logged in."
    ),
]
EmulatorOption = Annotated[
    bool, typer.Option("--emulator", help="The store of `emulate --secure`, not our own.")
]


def list_(emulator: EmulatorOption = False, as_json: JsonOption = False) -> None:
    """Show certificates: our own, trusted, rejected, revoked.

    Each with fingerprint, subject, application URI and the day until which it is valid. Files that
    cannot be read are named below them, with exit code 1.
    """
    from connectors.security.own import kept_identity, kept_names

    store, now = _store(emulator), wall_now()
    found, faults = [], []
    for name in kept_names(store.pki):
        try:
            ours = kept_identity(store.pki, name)
        except SecurityFault as fault:
            faults.append(str(fault))
        else:
            found.append(_facts(f"own {name}", ours.certificate, ours.certificate_path, now))
    kept, unreadable = store.readable()
    found += [_facts(each.state, each.certificate, each.path, now) for each in kept]
    _tell_all(as_json, store, found, faults + unreadable)


def own(as_json: JsonOption = False) -> None:
    """Show our own certificates, made now if need be.

    Their files are for the administrators of the servers that shall let us in: `collect` reads,
    `write` writes.
    """
    from connectors.security import IDENTITIES, own_identity

    store, now = _store(False), wall_now()
    identities = [own_identity(store.pki, name, now) for name in IDENTITIES]
    found = [_facts(f"own {i.name}", i.certificate, i.certificate_path, now) for i in identities]
    _tell_all(as_json, store, found, [])


def accept(
    fingerprint: FingerprintArgument,
    emulator: EmulatorOption = False,
    by: WhoOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a certificate that was rejected.

    Compare its fingerprint first with what the server itself shows. Counts from the next connect.
    """
    kept = _store(emulator).accept(fingerprint)
    _tell_decided(as_json, "accepted", "Trusted from the next connect on.", kept, by, database)


def revoke(
    fingerprint: FingerprintArgument,
    emulator: EmulatorOption = False,
    by: WhoOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a certificate no more.

    Whatever else trusts it. An OPC UA link that stands ends within seconds, a broker's when it
    next connects.
    """
    kept = _store(emulator).revoke(fingerprint)
    _tell_decided(as_json, "revoked", "Refused from now on.", kept, by, database)


def _tell_decided(
    as_json: bool, done: str, told: str, kept: Kept, by: str | None, database: str | None
) -> None:
    """Say what a person decided, also in the audit; the emulator's trust is no plant's."""
    from dashboard.trusting import tell_of_trust

    facts = _facts(kept.state, kept.certificate, kept.path, wall_now())
    text = f"{told}\n{_text(facts)}"
    settings = settings_of(database)
    if settings.emulator_pki() not in kept.path.parents:
        audit = tell_of_trust(settings, done, kept, by)
        text += f"\n{audit.text()}"
        facts |= {"by": audit.by, "audit_of": audit.plants, "audit_troubles": audit.troubles}
    tell(as_json, facts, text)


def _store(of_emulator: bool) -> TrustStore:
    from connectors.security import COLLECT, TrustStore

    settings = settings_of()
    return TrustStore(settings.emulator_pki() if of_emulator else settings.access(COLLECT).pki)


def _facts(state: str, certificate: Certificate, path: Path, now: datetime) -> dict[str, Any]:
    from connectors.security.certificates import (
        application_uris,
        days_left,
        fingerprint,
        fit_to_show,
        subject,
    )
    from connectors.security.judging import expiry_warning

    return {
        "state": state,
        "fingerprint": fingerprint(certificate),
        "subject": subject(certificate),
        "application_uri": fit_to_show(", ".join(application_uris(certificate))) or None,
        "valid_from": certificate.not_valid_before_utc,
        "valid_until": certificate.not_valid_after_utc,
        "days_left": round(days_left(certificate, now), 1),
        "warning": expiry_warning(certificate, now),
        "file": path,
    }


def _tell_all(
    as_json: bool, store: TrustStore, found: list[dict[str, Any]], faults: list[str]
) -> None:
    text = "\n".join(_text(facts) for facts in found)
    if not found and not faults:
        text = (
            f"No certificates in {store.pki} yet. `plantwright certs own` makes ours; servers' are "
            "kept there when they are first called."
        )
    record = {"folder": store.pki, "certificates": found, "faults": faults}
    if not faults:
        tell(as_json, record, text)
        return
    if text and not as_json:
        tell(False, record, text)
    refuse(as_json, record, "\n".join(faults))


def _text(facts: dict[str, Any]) -> str:
    until = f"valid until {facts['valid_until']:%Y-%m-%d}, {facts['days_left']:.0f} days"
    warning = f"  WARNING: it {facts['warning']}." if facts["warning"] else ""
    uri = facts["application_uri"] or "no application URI"
    return (
        f"{facts['state']}: {facts['subject']}, {uri}\n"
        f"  SHA-256 {facts['fingerprint']}\n"
        f"  {until}{warning}\n"
        f"  {facts['file']}"
    )
