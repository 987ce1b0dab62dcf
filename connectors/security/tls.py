"""Whom a TLS link trusts: authorities of this machine and of the trust store, less the revoked.

Chain, time and host are verified by TLS itself. What it does not ask, whether somebody has revoked
what is shown, is asked at the handshake, before a word of ours is sent, and while a link stands.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.security.certificates import chain_of, days_left, fit_to_show
from connectors.security.judging import WARN_DAYS, is_issued_by_trusted, revocations_of
from connectors.security.store import Trust, TrustStore
from twin.errors import SecurityFault

_NOBODY = Trust(frozenset(), frozenset(), (), ())

# OpenSSL's words for what is wrong with a certificate, and what helps.
_REMEDIES = (
    ("expired", "Have it issued again, or set this machine's clock."),
    ("not yet valid", "Set this machine's clock, or the broker's, and have it issued again."),
    (
        "mismatch",
        "Have it made out for the host in `broker`, or name there the host it is for.",
    ),
)
_UNKNOWN = (
    "If its authority is to be trusted, put that one's certificate into the folder pki/issuers; "
    "`plantwright certs list` shows whom you revoked."
)


def remedy_of(fault: str) -> str:
    """What to do about a certificate that TLS refuses in these words."""
    return next((remedy for words, remedy in _REMEDIES if words in fault), _UNKNOWN)


class TlsTrust:
    """What is asked of whoever answers at `endpoint`; `pki` None: there is no trust store."""

    def __init__(self, endpoint: str, pki: Path | None, wall_now: Callable[[], datetime]) -> None:
        self._endpoint = endpoint
        self._pki = pki
        self._wall_now = wall_now
        self._leaf: x509.Certificate | None = None
        self._is_of_trusted = False
        self._untold = ""

    def context(self) -> ssl.SSLContext:
        """For one connection. Its handshake raises SecurityFault where what is shown is revoked."""
        context = ssl.create_default_context()
        for issuer in self._trust().issuers:
            context.load_verify_locations(cadata=issuer.public_bytes(Encoding.PEM).decode())
        take = self._take

        class Judged(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:
                super().do_handshake(block)
                try:
                    take(self.getpeercert(binary_form=True) or b"")
                except SecurityFault:
                    self.close()
                    raise

        context.sslsocket_class = Judged
        return context

    def distrust(self) -> str:
        """Why it would be refused by now, in the midst of a link; empty where it would not.

        A trust store that cannot be read ends no link: that is a warning.
        """
        if self._leaf is None:
            return ""
        try:
            trust, now = self._trust(), self._wall_now()
        except SecurityFault as fault:
            self._untold = f"{self._endpoint}: whether it is still trusted cannot be told: {fault}"
            return ""
        self._untold = ""
        reasons = revocations_of(self._leaf, trust, now)
        if self._is_of_trusted and not is_issued_by_trusted(self._leaf, trust, now):
            reasons += ("its authority is trusted no more",)
        said = "; ".join(reasons)
        return f"the broker's certificate is trusted no more: {said}" if said else ""

    @property
    def warning(self) -> str:
        """What should be known of the certificate while the link stands; else empty."""
        if self._leaf is None:
            return ""
        left_days = days_left(self._leaf, self._wall_now())
        if left_days > WARN_DAYS:
            return self._untold
        soon = f"{self._endpoint}: the broker's certificate expires in {left_days:.0f} days."
        return f"{soon} {self._untold}".rstrip()

    def _trust(self) -> Trust:
        return TrustStore(self._pki).read() if self._pki is not None else _NOBODY

    def _take(self, shown: bytes) -> None:
        try:
            (self._leaf,) = chain_of(shown)
        except ValueError as fault:
            raise SecurityFault(
                f"{self._endpoint}: the broker's certificate cannot be judged "
                f"({fit_to_show(str(fault))}). Have it issued again."
            ) from fault
        trust, now = self._trust(), self._wall_now()
        self._is_of_trusted = is_issued_by_trusted(self._leaf, trust, now)
        if reasons := revocations_of(self._leaf, trust, now):
            raise SecurityFault(
                f"{self._endpoint}: the broker's certificate is refused: {'; '.join(reasons)}. "
                "Have it issued again for that broker."
            )
