"""Whom we trust: certificates as files in folders that a person can look at.

    trusted/      servers whose certificate a person accepted, each by itself
    rejected/     servers that were refused because nobody accepted them yet
    revoked/      accepted once, then revoked by a person: refused whatever else trusts them
    issuers/      authorities: what they issued is trusted, for the host it is made out for
    issuers/crl/  their revocation lists

Files are DER or PEM and may also be put there or taken away by hand. What a certificate must be
beyond trusted stands in `judging`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from connectors.security.certificates import (
    as_der,
    certificate_files,
    fingerprint,
    read_certificate,
    read_revocations,
)
from connectors.security.own import private_folder
from connectors.whole_file import whole_or_not
from twin.errors import SecurityFault, UsageError

TRUSTED, REJECTED, REVOKED, ISSUERS = "trusted", "rejected", "revoked", "issuers"

_STATES = (TRUSTED, ISSUERS, REJECTED, REVOKED)
_REVOCATION_LISTS = "crl"
_LEAST_DIGITS = 8  # of a fingerprint: 32 bits tell a few certificates apart beyond doubt
_REJECTED_KEPT = 100  # a server with ever new certificates must not fill the disk


@dataclass(frozen=True)
class Trust:
    """What the folders held at one moment. `pinned` and `revoked` are fingerprints."""

    pinned: frozenset[str]
    revoked: frozenset[str]
    issuers: tuple[x509.Certificate, ...]
    revocation_lists: tuple[x509.CertificateRevocationList, ...]


@dataclass(frozen=True)
class Kept:
    """One certificate of the store: the folder it is in, and its file."""

    state: str
    certificate: x509.Certificate
    path: Path


class TrustStore:
    """The folders below `pki`. Nothing is remembered: every call looks at the files."""

    def __init__(self, pki: Path) -> None:
        self.pki = pki

    def read(self) -> Trust:
        """What is trusted now. A file that cannot be read trusts nothing and raises SecurityFault.

        It may be a revocation list, so it is not passed over.
        """
        lists = certificate_files(self.pki / ISSUERS / _REVOCATION_LISTS)
        return Trust(
            frozenset(fingerprint(each.certificate) for each in self.entries(TRUSTED)),
            frozenset(fingerprint(each.certificate) for each in self.entries(REVOKED)),
            tuple(each.certificate for each in self.entries(ISSUERS)),
            tuple(read_revocations(path) for path in lists),
        )

    def entries(self, *states: str) -> list[Kept]:
        """The certificates in these folders (in all of them by default).

        A file that cannot be read raises SecurityFault.
        """
        return [
            Kept(state, read_certificate(path), path)
            for state in states or _STATES
            for path in certificate_files(self.pki / state)
        ]

    def readable(self, *states: str) -> tuple[list[Kept], list[str]]:
        """The same as far as it can be read, and what is wrong with the rest.

        Without `states` revocation lists are looked at too.
        """
        kept: list[Kept] = []
        faults: list[str] = []
        for state in states or (*_STATES, f"{ISSUERS}/{_REVOCATION_LISTS}"):
            try:
                paths = certificate_files(self.pki / state)
            except SecurityFault as fault:
                faults.append(str(fault))
                continue
            for path in paths:
                try:
                    if path.parent.name == _REVOCATION_LISTS:
                        read_revocations(path)
                    else:
                        kept.append(Kept(state, read_certificate(path), path))
                except SecurityFault as fault:
                    faults.append(str(fault))
        return kept, faults

    def reject(self, certificate: x509.Certificate) -> None:
        """Keep the certificate of one who is not trusted, so that a person may accept it."""
        path = self._keep(REJECTED, certificate)
        others = [each for each in certificate_files(path.parent) if each != path]
        for old in sorted(others, key=_age_key)[: -(_REJECTED_KEPT - 1)]:
            with contextlib.suppress(FileNotFoundError):  # another process may clear up too
                old.unlink()

    def accept(self, digits: str) -> Kept:
        """Trust a rejected or revoked certificate, by the first digits of its fingerprint."""
        found = self._one(digits, (REJECTED, REVOKED, TRUSTED), "refused")
        return self._move(found, TRUSTED)

    def revoke(self, digits: str) -> Kept:
        """Trust a certificate no more, by the first digits of its fingerprint."""
        found = self._one(digits, (TRUSTED, REJECTED, ISSUERS, REVOKED), "kept here")
        return self._move(found, REVOKED)

    def _move(self, found: Kept, state: str) -> Kept:
        path = self._keep(state, found.certificate)
        wanted = fingerprint(found.certificate)
        for other in self.readable()[0]:
            if other.state != state and fingerprint(other.certificate) == wanted:
                other.path.unlink()
        return Kept(state, found.certificate, path)

    def _keep(self, state: str, certificate: x509.Certificate) -> Path:
        private_folder(self.pki)
        path = private_folder(self.pki / state) / f"{fingerprint(certificate)}.der"
        try:
            with whole_or_not(path) as file:
                file.write_bytes(as_der(certificate))
        except OSError as fault:
            raise SecurityFault(
                f"{path}: the certificate cannot be kept ({fault.strerror}). Check the disk and "
                "who may write there."
            ) from fault
        return path

    def _one(self, given: str, states: tuple[str, ...], what: str) -> Kept:
        digits = given.replace(":", "").replace(" ", "").lower()
        if len(digits) < _LEAST_DIGITS or not _is_hexadecimal(digits):
            raise UsageError(
                f"{given!r}: give the first {_LEAST_DIGITS} or more hexadecimal digits of a "
                "SHA-256 fingerprint; `plantwright certs list` shows them."
            )
        kept_here, faults = self.readable(*states)  # another file's fault must not keep trust up
        found = {fingerprint(kept.certificate): kept for kept in reversed(kept_here)}
        fits = [kept for each, kept in found.items() if each.startswith(digits)]
        if len(fits) != 1:
            said = "more than one certificate" if fits else f"no certificate that is {what}"
            unread = f" {len(faults)} file(s) could not be read." if faults and not fits else ""
            raise UsageError(
                f"{given}: {said} has this fingerprint.{unread} `plantwright certs list` shows "
                "them all."
            )
        return fits[0]


def _age_key(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_hexadecimal(digits: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in digits)
