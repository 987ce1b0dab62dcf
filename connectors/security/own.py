"""Who we are to a server: a certificate and key per identity, made when first needed.

A server's administrator can let `collect` read and `write` write, and turn off one of them.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from connectors.security.certificates import (
    CLIENT_USE,
    KEY_BITS,
    application_uris,
    as_der,
    days_left,
    fingerprint,
    host_label,
    make_certificate,
    read_certificate,
)
from twin.errors import SecurityFault

COLLECT, WRITE = "collect", "write"

#: Every client identity that Plantwright has, and what it does.
IDENTITIES = (COLLECT, WRITE)

_CERTIFICATE, _KEY = "certificate.der", "key.pem"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Identity:
    """An own certificate with its key's file; `application_uri` is what the certificate says."""

    name: str
    certificate: x509.Certificate
    certificate_path: Path
    key_path: Path
    application_uri: str


def own_identity(
    pki: Path, name: str, now: datetime, use: x509.ObjectIdentifier = CLIENT_USE
) -> Identity:
    """The identity kept in `pki`/own/`name`; a new one if there is none.

    Raises SecurityFault where the files cannot be used: unreadable, of different pairs, the key
    open to others, the certificate expired or without an application URI.
    """
    folder = pki / "own" / name
    if not (folder / _CERTIFICATE).exists() and not (folder / _KEY).exists():
        _make(folder, name, now, use)
    identity = kept_identity(pki, name)
    if days_left(identity.certificate, now) < 0:
        raise SecurityFault(
            f"{identity.certificate_path}: our own certificate expired on "
            f"{identity.certificate.not_valid_after_utc:%Y-%m-%d}. Move {folder} away; the next "
            "start makes a new one, which the server's administrator must trust again."
        )
    return identity


def kept_identity(pki: Path, name: str) -> Identity:
    """The identity in `pki`/own/`name`, which must be there."""
    certificate_path, key_path = (pki / "own" / name / each for each in (_CERTIFICATE, _KEY))
    certificate = read_certificate(certificate_path)
    key = read_key(key_path)
    uris = application_uris(certificate)
    if key.public_key() != certificate.public_key():
        raise SecurityFault(
            f"{key_path} is not the key of {certificate_path.name}. Put the pair in place, or move "
            "both away for a new one."
        )
    if len(uris) != 1:
        raise SecurityFault(
            f"{certificate_path} has {len(uris)} application URIs in its subject alternative name; "
            "it must have one. Have it issued again."
        )
    return Identity(name, certificate, certificate_path, key_path, uris[0])


def kept_names(pki: Path) -> list[str]:
    """The identities that have been made."""
    folder = pki / "own"
    if not folder.is_dir():
        return []
    return sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))


def read_key(path: Path) -> rsa.RSAPrivateKey:
    """The RSA key in a PEM file that nobody else may read; raises SecurityFault otherwise."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read()
    except OSError as fault:
        raise SecurityFault(
            f"{path}: the key cannot be read ({fault.strerror}). Check who may read it."
        ) from fault
    refuse_if_open_to_others(path, mode)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SecurityFault(f"{path} holds no RSA key in PEM form without a password. Replace it.")
    return key


def refuse_if_open_to_others(path: Path, mode: int) -> None:
    """Raise SecurityFault where a secret's file mode lets others read or change it."""
    if mode & _OTHERS:
        raise SecurityFault(
            f"{path} may be used by others on this machine (mode {stat.S_IMODE(mode):04o}); a "
            f"secret is its owner's alone. Type `chmod 600 {path}`, and change the secret if "
            "others may have read it."
        )


def private_folder(path: Path) -> Path:
    """The folder, made for its owner alone if it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as fault:
        raise SecurityFault(
            f"{path}: the folder cannot be made ({fault.strerror}). Set PLANTWRIGHT_STATE_DIR to "
            "a folder that may be written."
        ) from fault
    return path


def _make(folder: Path, name: str, now: datetime, use: x509.ObjectIdentifier) -> None:
    """Put a whole new pair in place at once: of two processes that begin together one wins."""
    private_folder(folder.parent.parent)
    private_folder(folder.parent)
    key = rsa.generate_private_key(65_537, KEY_BITS)
    uri = f"urn:{host_label()}:plantwright:{name}"
    certificate = make_certificate(key, f"Plantwright {name}", uri, use, now)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    beside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        whole = ((_CERTIFICATE, as_der(certificate), 0o644), (_KEY, secret, 0o600))
        for part, content, mode in whole:
            file = os.open(beside / part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(file, "wb") as target:
                target.write(content)
                target.flush()
                os.fsync(file)
        beside.rename(folder)
    except OSError as fault:
        shutil.rmtree(beside, ignore_errors=True)
        if not (folder / _KEY).exists():
            raise SecurityFault(
                f"{folder}: our certificate cannot be kept ({fault.strerror}). Check the disk and "
                "who may write there."
            ) from fault


def own_text(identity: Identity) -> str:
    """What a server's administrator needs to know to trust us."""
    return (
        f"{identity.certificate_path} (application URI {identity.application_uri}, SHA-256 "
        f"{fingerprint(identity.certificate)})"
    )
