"""Whether a certificate will do: the checks of OPC 10000-4, 6.1.3, in words a person can act on.

All checks refuse, as the standard has it where nothing is suppressed, but for two that a person
has decided by accepting that one certificate (`plantwright certs accept`): the chain up to an
authority, and the host name, which then only warns. A certificate trusted for its issuer's sake
must be made out for the host we called: every other machine with a certificate of that authority
could answer in its place. A missing or outdated revocation list warns: most plants keep none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification

from connectors.security.certificates import (
    SERVER_USE,
    application_uris,
    days_left,
    fingerprint,
    fit_to_show,
    host_names,
    subject,
)
from connectors.security.store import Trust

#: So many days before a certificate expires it is told.
WARN_DAYS = 30

_KEY_BITS = (2048, 4096)  # of Basic256Sha256 and both Aes policies (OPC 10000-7)
_SIGNING = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)  # what authorities sign with
_WEAK = (hashes.MD5, hashes.SHA1)


@dataclass(frozen=True)
class Shown:
    """What the other side shows: its certificates, itself first, and who it says it is.

    `host` is the one we called; empty for a client, which calls us.
    """

    chain: Sequence[x509.Certificate]
    application_uri: str
    host: str = ""
    use: x509.ObjectIdentifier = SERVER_USE


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a certificate, what should be known of it, and whether it is trusted.

    `is_unknown`: neither a person nor an authority has decided about it.
    """

    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    is_unknown: bool

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is refused; empty where it is not."""
        return (*self.faults, "nobody has accepted it yet") if self.is_unknown else self.faults


def judge(shown: Shown, trust: Trust, now: datetime) -> Verdict:
    """Everything that is wrong with a certificate, and what may be.

    That it expires soon is asked of `expiry_warning`: it comes true while a link stands.
    """
    leaf = shown.chain[0]
    print_ = fingerprint(leaf)
    path = _path(shown.chain, trust, now)
    is_pinned, is_revoked = print_ in trust.pinned, print_ in trust.revoked
    is_unknown = not (is_pinned or path or is_revoked)
    faults = _weaknesses(leaf) + _misuse(leaf, shown.use)
    faults += _untimely(leaf, now)
    if is_revoked:
        faults.append(_revoked_here(print_))
    if application_uris(leaf) != (shown.application_uri,):
        said = fit_to_show(", ".join(application_uris(leaf))) or "no application URI"
        faults.append(
            f"it is made out for {said}, but this is {fit_to_show(shown.application_uri)}"
        )
    revoked, warnings = _revocations(path, trust, now)
    if shown.host and shown.host.lower() not in host_names(leaf):
        said = fit_to_show(", ".join(host_names(leaf))) or "no host"
        (warnings if is_pinned else faults).append(f"it is made out for {said}, not {shown.host}")
    return Verdict(tuple(faults + revoked), tuple(warnings), is_unknown)


def revocations_of(leaf: x509.Certificate, trust: Trust, now: datetime) -> tuple[str, ...]:
    """Why a certificate that TLS has found good is revoked all the same; empty where it is not."""
    print_ = fingerprint(leaf)
    here = (_revoked_here(print_),) if print_ in trust.revoked else ()
    return (*here, *_revocations(_path([leaf], trust, now), trust, now)[0])


def is_issued_by_trusted(leaf: x509.Certificate, trust: Trust, now: datetime) -> bool:
    """Whether an authority of the trust store itself has issued it."""
    return _path([leaf], trust, now) is not None


def expiry_warning(certificate: x509.Certificate, now: datetime) -> str:
    """That a certificate expires soon, or has; else nothing."""
    left = days_left(certificate, now)
    day = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if left < 0:
        return f"expired on {day}"
    return f"expires on {day}" if left <= WARN_DAYS else ""


def _revoked_here(print_: str) -> str:
    return f"it was revoked here; `plantwright certs accept {print_}` undoes that"


def _path(
    chain: Sequence[x509.Certificate], trust: Trust, now: datetime
) -> list[x509.Certificate] | None:
    """The certificates up to a trusted issuer, or None; that the first is in time is not asked."""
    if not trust.issuers:
        return None
    leaf = chain[0]
    permitted = verification.ExtensionPolicy.permit_all()
    authority = permitted.require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, _is_authority
    )
    try:
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(trust.issuers)))
            .time(min(max(now, leaf.not_valid_before_utc), leaf.not_valid_after_utc))
            .extension_policies(ca_policy=authority, ee_policy=permitted)
            .build_client_verifier()
        )
        return list(verifier.verify(leaf, list(chain[1:])).chain)
    except (verification.VerificationError, ValueError):
        return None


def _is_authority(
    _policy: verification.Policy, _certificate: x509.Certificate, found: x509.BasicConstraints
) -> None:
    if not found.ca:
        raise ValueError("not an authority's certificate")


def _weaknesses(leaf: x509.Certificate) -> list[str]:
    key, (least, most) = leaf.public_key(), _KEY_BITS
    faults: list[str] = []
    if not isinstance(key, rsa.RSAPublicKey):
        faults.append("it has no RSA key")
    elif not least <= key.key_size <= most:
        faults.append(f"its key has {key.key_size} bits; {least} to {most} are needed")
    if isinstance(leaf.signature_hash_algorithm, _WEAK):
        faults.append(f"it is signed with {leaf.signature_hash_algorithm.name}, which is broken")
    return faults


def _misuse(leaf: x509.Certificate, use: x509.ObjectIdentifier) -> list[str]:
    """What the certificate may not be used for; one without such words may be used for all."""
    faults: list[str] = []
    role = "a server's" if use == SERVER_USE else "a client's"
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if use not in uses:
            faults.append(f"it may not be used as {role} (extended key usage)")
    except x509.ExtensionNotFound:
        pass
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        if not (usage.digital_signature and usage.key_encipherment and usage.data_encipherment):
            faults.append("its key may not be used to sign and encrypt (key usage)")
    except x509.ExtensionNotFound:
        pass
    return faults


def _untimely(leaf: x509.Certificate, now: datetime) -> list[str]:
    if days_left(leaf, now) < 0:
        return [f"it {expiry_warning(leaf, now)}"]
    if leaf.not_valid_before_utc > now:
        return [f"it is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"]
    return []


def _revocations(
    path: Sequence[x509.Certificate] | None, trust: Trust, now: datetime
) -> tuple[list[str], list[str]]:
    """What issuers have revoked, and of which issuers that is not known."""
    faults: list[str] = []
    warnings: list[str] = []
    for certificate, issuer in pairwise(path or ()):
        lists = [each for each in trust.revocation_lists if each.issuer == issuer.subject]
        genuine = [each for each in lists if _is_signed_by(each, issuer)]
        if len(genuine) < len(lists):
            faults.append(f"a revocation list in the name of {subject(issuer)} is not signed by it")
        if not genuine:
            warnings.append(f"no revocation list of {subject(issuer)} is kept here")
        for each in genuine:
            if each.get_revoked_certificate_by_serial_number(certificate.serial_number):
                faults.append(f"its issuer {subject(issuer)} has revoked it")
            if each.next_update_utc is not None and each.next_update_utc < now:
                day = f"{each.next_update_utc:%Y-%m-%d}"
                warnings.append(f"the revocation list of {subject(issuer)} is outdated since {day}")
    return faults, warnings


def _is_signed_by(revocations: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    return isinstance(key, _SIGNING) and revocations.is_signature_valid(key)
