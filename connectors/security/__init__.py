"""Who we are to a plant's servers, whom of them we trust, and the secrets we show them.

Files in one folder, `pki`, which a person can look at and change; `plantwright certs` does it by
command. No protocol is known here: what is opened with these is `connectors.opcua`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from connectors.security.own import COLLECT, IDENTITIES, WRITE, Identity, own_identity
from connectors.security.secrets import CertificateLogin, PasswordLogin, Secrets
from connectors.security.store import Kept, TrustStore

__all__ = [
    "COLLECT",
    "IDENTITIES",
    "WRITE",
    "Access",
    "CertificateLogin",
    "Identity",
    "Kept",
    "PasswordLogin",
    "Secrets",
    "TrustStore",
    "own_identity",
]


@dataclass(frozen=True)
class Access:
    """What one process needs to be let in: the certificates' folder, its secrets, who it is."""

    pki: Path
    secrets: Secrets
    identity: str = COLLECT
