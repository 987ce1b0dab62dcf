"""X.509 certificates: read, named, made. Whether one is trusted is not known here."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twin.errors import SecurityFault

#: Basic256Sha256 and both Aes policies take 2048 to 4096 bits (OPC 10000-7); BSI TR-02102-1 asks
#: for 3000 or more from 2024 on. It is used at connecting only, so its cost is not seen.
KEY_BITS = 3072

#: Five years, our choice: a certificate runs on through several shutdowns of the plant, in which
#: its server can be made to trust the next.
VALID_DAYS = 5 * 365

_BEGUN_BEFORE = timedelta(hours=1)  # a server's clock may be late
_SHOWN = 200  # characters of a stranger's text
# What is asked of a certificate, and decoded only then.
_PARTS = ("subject", "issuer", "extensions", "signature_hash_algorithm", "not_valid_before_utc")
_LIST_PARTS = ("issuer", "extensions", "signature_hash_algorithm", "next_update_utc")
_SUFFIXES = (".der", ".cer", ".crt", ".pem")

_Found = TypeVar("_Found")

CLIENT_USE = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_USE = ExtendedKeyUsageOID.SERVER_AUTH


def fingerprint(certificate: x509.Certificate) -> str:
    """The SHA-256 of the certificate as sent, 64 lower-case hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def application_uris(certificate: x509.Certificate) -> tuple[str, ...]:
    """The URIs in its subject alternative name; an OPC UA application has exactly one."""
    names = _alternative_names(certificate)
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))


def host_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names and addresses it is made out for, lower case."""
    names = _alternative_names(certificate)
    hosts = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    return tuple(str(name).lower() for name in (*hosts, *addresses))


def subject(certificate: x509.Certificate) -> str:
    """Whose it says it is, as `CN=...,O=...`, fit to be shown."""
    return fit_to_show(certificate.subject.rfc4514_string())


def fit_to_show(told: str) -> str:
    """What a stranger tells, on one line, without what a terminal would obey, and not for ever."""
    plain = "".join(each if each.isprintable() else "�" for each in told)
    return plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}…"


def days_left(certificate: x509.Certificate, now: datetime) -> float:
    """Days until it expires, negative once it has."""
    return (certificate.not_valid_after_utc - now) / timedelta(days=1)


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a DER or PEM file; raises SecurityFault where there is none."""
    return _read(path, "certificate", _loaded)


def read_revocations(path: Path) -> x509.CertificateRevocationList:
    """The revocation list in a DER or PEM file; raises SecurityFault where there is none."""
    return _read(path, "revocation list", _loaded_list)


def certificate_files(folder: Path) -> list[Path]:
    """The files of a folder that should hold a certificate or a revocation list, by name."""
    try:
        return sorted(each for each in folder.iterdir() if each.suffix.lower() in _SUFFIXES)
    except FileNotFoundError:
        return []
    except OSError as fault:
        raise SecurityFault(
            f"{folder}: the folder cannot be read ({fault.strerror}). Check who may read it."
        ) from fault


def chain_of(sent: bytes) -> list[x509.Certificate]:
    """The certificates of a message, the sender's own first; raises ValueError if one is no use.

    OPC UA appends the issuers' certificates to the sender's (OPC 10000-6, 6.2.6).
    """
    chain: list[x509.Certificate] = []
    while sent:
        size = _der_size(sent)
        chain.append(_loaded(sent[:size]))
        sent = sent[size:]
    return chain


def make_certificate(
    key: rsa.RSAPrivateKey,
    name: str,
    application_uri: str,
    use: x509.ObjectIdentifier,
    now: datetime,
) -> x509.Certificate:
    """A self-signed application certificate of this machine, as OPC 10000-6, 6.2.2 wants it."""
    subject_name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Plantwright"),
        ]
    )
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,  # it signs itself
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    names = [x509.UniformResourceIdentifier(application_uri), *_this_machine()]
    return (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(subject_name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEGUN_BEFORE)
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def as_der(certificate: x509.Certificate) -> bytes:
    """The certificate as it is sent."""
    return certificate.public_bytes(Encoding.DER)


def host_label() -> str:
    """This machine's name as it may stand in a certificate."""
    name = socket.gethostname().encode("ascii", "ignore").decode().strip().lower()
    return name or "localhost"


def _this_machine() -> Iterable[x509.GeneralName]:
    names = dict.fromkeys((host_label(), "localhost"))
    return [
        *(x509.DNSName(name) for name in names),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _read(path: Path, what: str, load: Callable[[bytes], _Found]) -> _Found:
    try:
        return load(path.read_bytes())
    except OSError as fault:
        raise SecurityFault(
            f"{path}: the {what} cannot be read ({fault.strerror}). Check who may read it."
        ) from fault
    except ValueError as fault:
        raise SecurityFault(
            f"{path} holds no {what} in DER or PEM form that can be used "
            f"({fit_to_show(str(fault))}). Replace it or move it away."
        ) from fault


def _loaded(content: bytes) -> x509.Certificate:
    """The certificate; ValueError where a part of it is damaged or of a kind that nobody reads."""
    load = x509.load_pem_x509_certificate if _is_pem(content) else x509.load_der_x509_certificate
    with _as_value_error():
        certificate = load(content)
        for part in _PARTS:
            getattr(certificate, part)
        certificate.public_key()
    return certificate


def _loaded_list(content: bytes) -> x509.CertificateRevocationList:
    """The same of a revocation list."""
    load = x509.load_pem_x509_crl if _is_pem(content) else x509.load_der_x509_crl
    with _as_value_error():
        revocations = load(content)
        for part in _LIST_PARTS:
            getattr(revocations, part)
    return revocations


def _is_pem(content: bytes) -> bool:
    return content.lstrip().startswith(b"-----")


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Some of what the library says of odd certificates is no ValueError of its own."""
    try:
        yield
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as fault:
        raise ValueError(f"an extension cannot be read: {fault}") from fault
    except (UnsupportedAlgorithm, x509.InvalidVersion) as fault:
        raise ValueError(f"it is of a kind that is not known here: {fault}") from fault


def _der_size(sent: bytes) -> int:
    """How long the DER value is that `sent` begins with (ITU-T X.690, 8.1.3)."""
    if len(sent) < 2 or sent[0] != 0x30:
        raise ValueError("no DER sequence")
    if sent[1] < 0x80:
        return 2 + sent[1]
    digits = sent[1] & 0x7F
    size = 2 + digits + int.from_bytes(sent[2 : 2 + digits], "big")
    if size > len(sent):
        raise ValueError("a DER sequence is cut short")
    return size
