"""The emulated server with security on: encrypted endpoints, clients that it knows, one who writes.

To try out how a plant's server is met. What it does not do: let users log in by certificate.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from cryptography import x509

from connectors.security import PasswordLogin, TrustStore, own_identity
from connectors.security.certificates import CLIENT_USE, SERVER_USE, fingerprint, subject
from connectors.security.judging import Shown, judge
from twin.errors import SecurityFault

POLICIES = (
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
)

_IDENTITY = "emulator"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Secured:
    """How the emulated server protects itself: its certificates' folder, and who may write.

    Everybody else reads. `trusts_any_client` lets in clients whose certificate nobody accepted.
    """

    pki: Path
    operator: PasswordLogin | None = None
    trusts_any_client: bool = False

    def told(self) -> str:
        """What a person should know of it when it starts."""
        who = f"user {self.operator.user}" if self.operator else "nobody"
        clients = "those in " + str(self.pki / "trusted")
        if self.trusts_any_client:
            clients = "ANY, also one that nobody accepted"
        return f"encrypted endpoints only; clients let in: {clients}; may write: {who}"


class Doorkeeper:
    """Judges the certificates and users of the clients of one server (asyncua's user manager)."""

    def __init__(self, secured: Secured, wall_now: Callable[[], datetime]) -> None:
        self._secured = secured
        self._wall_now = wall_now

    async def set_up(self, server: Any) -> None:
        """Give the server its certificate, its endpoints and this doorkeeper."""
        own = own_identity(self._secured.pki, _IDENTITY, self._wall_now(), SERVER_USE)
        await server.set_application_uri(own.application_uri)
        await server.load_certificate(own.certificate_path)
        await server.load_private_key(own.key_path)
        server.set_security_policy(list(POLICIES))
        server.set_identity_tokens([ua.AnonymousIdentityToken, ua.UserNameIdentityToken])
        server.set_certificate_validator(self.validate)

    async def validate(self, certificate: x509.Certificate, application: Any) -> None:
        """Raise the status with which a client is refused."""
        shown = Shown([certificate], str(application.ApplicationUri), use=CLIENT_USE)
        refusal = self._refusal(shown)
        if refusal:
            _LOG.warning("A client is refused: %s", refusal)
            raise ua.uaerrors.BadCertificateUntrusted

    def get_user(
        self,
        _server: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> User | None:
        """Who a client is, None for one that is not let in.

        `certificate` is the channel's own, which only the holder of its key can use. A channel
        without one, which asyncua opens for anybody, leads nowhere.
        """
        if not certificate:
            return None
        leaf = x509.load_der_x509_certificate(certificate)
        if not self._secured.trusts_any_client and self._is_stranger(leaf):
            return None
        if username is None:
            return User(role=UserRole.User)
        operator = self._secured.operator
        if operator is None or username != operator.user:
            return None
        told, right = (password or "").encode(), operator.password.get_secret_value().encode()
        return User(role=UserRole.User, name=username) if hmac.compare_digest(told, right) else None

    def _is_stranger(self, leaf: x509.Certificate) -> bool:
        trust = TrustStore(self._secured.pki).read()
        verdict = judge(Shown([leaf], "", use=CLIENT_USE), trust, self._wall_now())
        return verdict.is_unknown or fingerprint(leaf) in trust.revoked

    def _refusal(self, shown: Shown) -> str:
        store, leaf = TrustStore(self._secured.pki), shown.chain[0]
        try:
            verdict = judge(shown, store.read(), self._wall_now())
            if verdict.is_unknown and not self._secured.trusts_any_client:
                store.reject(leaf)
        except SecurityFault as fault:
            return str(fault)
        reasons = verdict.faults if self._secured.trusts_any_client else verdict.reasons
        if not reasons:
            return ""
        hint = f" `plantwright certs accept --emulator {fingerprint(leaf)}` lets it in."
        told = f"the certificate of {subject(leaf)}: {'; '.join(reasons)}."
        return told + ("" if verdict.faults else hint)


def may_write(user: User) -> bool:
    """Whether a client logged in as one who may write."""
    return user.name is not None
