"""Certificates of made-up plants: authorities, servers, revocation lists, all wrong on demand."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

SERVER_URI = "urn:test:server"
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        """The certificate as it is sent."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        """The key without a password."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def kept(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Certificate and key as files, the key for its owner alone."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.der", folder / f"{name}.pem"
        certificate.write_bytes(self.der)
        key.write_bytes(self.key_pem)
        key.chmod(0o600)
        return certificate, key


@cache
def key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of a few keys, each made once: making one takes longer than all else here."""
    return rsa.generate_private_key(65_537, bits)


def authority(name: str = "Works CA", number: int = 1) -> Pair:
    """An authority that signs itself."""
    return _authority(name, key(number), _name(name), key(number))


def elliptic_authority(name: str = "Works CA") -> Pair:
    """An authority that signs with a key of another kind than what it vouches for."""
    own = ec.generate_private_key(ec.SECP256R1())
    return _authority(name, own, _name(name), own)


def authority_below(issuer: Pair, name: str = "Line CA", number: int = 6) -> Pair:
    """An authority that another one vouches for."""
    return _authority(name, key(number), issuer.certificate.subject, issuer.key)


def _authority(name: str, own: Key, issuer: x509.Name, signer: Key) -> Pair:
    builder = _begun(_name(name), issuer, own, -_DAY, 3650 * _DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
    builder = builder.add_extension(identifier, critical=False)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return Pair(builder.add_extension(above, critical=False).sign(signer, hashes.SHA256()), own)


def server_pair(
    *,
    uri: str | None = SERVER_URI,
    hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    begins: timedelta = -_DAY,
    ends: timedelta = 365 * _DAY,
    use: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
    encrypts: bool = True,
    issuer: Pair | None = None,
    number: int = 0,
    bits: int = 2048,
    name: str = "Test server",
) -> Pair:
    """An application's certificate; self-signed without `issuer`. `begins`, `ends`: from now."""
    own = key(number, bits)
    signer = issuer.key if issuer is not None else own
    issued_by = issuer.certificate.subject if issuer is not None else _name(name)
    builder = _begun(_name(name), issued_by, own, begins, ends)
    names: list[x509.GeneralName] = [] if uri is None else [x509.UniformResourceIdentifier(uri)]
    names += [_host(each) for each in hosts]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(encrypts=encrypts), critical=True)
    if use is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return Pair(builder.sign(signer, hashes.SHA256()), own)


def revocation_list(
    issuer: Pair, *revoked: Pair, signed_by: Pair | None = None, ends: timedelta = 30 * _DAY
) -> bytes:
    """A revocation list in the name of `issuer`."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - 60 * _DAY)
        .next_update(now + ends)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder()
        entry = entry.serial_number(each.certificate.serial_number).revocation_date(now - _DAY)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign((signed_by or issuer).key, hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    own: Key,
    begins: timedelta,
    ends: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _usage(*, encrypts: bool = True, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=encrypts,
        data_encipherment=encrypts,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
