"""Certificates: which will do, which are refused and in which words, and what is kept of them."""

from __future__ import annotations

import base64
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from made_certificates import (
    SERVER_URI,
    Pair,
    authority,
    authority_below,
    elliptic_authority,
    key,
    revocation_list,
    server_pair,
)

from connectors.security import COLLECT, WRITE, TrustStore, own_identity
from connectors.security.certificates import (
    CLIENT_USE,
    application_uris,
    as_der,
    chain_of,
    days_left,
    fingerprint,
)
from connectors.security.judging import Shown, Verdict, expiry_warning, judge
from twin.errors import SecurityFault, UsageError

DAY = timedelta(days=1)

# openssl req -x509 -sha1 -days 36500 -subj "/CN=Old server", for SERVER_URI: our own library makes
# no such certificates any more.
SIGNED_WITH_SHA1 = """
MIIDUzCCAjugAwIBAgIUe2oIub4SPTNqiGWfHiMoDtbmKY4wDQYJKoZIhvcNAQEFBQAwFTETMBEGA1UEAwwKT2xkIHNl
cnZlcjAgFw0yNjExMjIwMTEwMDdaGA8yMTI2MTAyOTAxMTAwN1owFTETMBEGA1UEAwwKT2xkIHNlcnZlcjCCASIwDQYJ
KoZIhvcNAQEBBQADggEPADCCAQoCggEBAKZqtJvrWfqkFl1zHZ7PAKXNsMbxUiP32zA3U3M1sV3MTn4R5qmCPw5LCXnR
xDlFcQ78bmfTccuY3AP/sJI+bzgQfCAVdNLGdOpxSOWQHDm0XZIqp1Q/kQn45ipdtnFWBh8UxNC3w+4n8I/yOWp5UwwU
Zr0e1l08W8XnZFtjjTA1U/T9ZhdmJIyqvnVXkGSyQV4/pxk++7gZHb/hU7uVK5r/OorTVvnwj/9denAbnIXX3Cp3GleQ
Nfdj4NE1sY+yucifNaYxlNYetONr52y5eBNO8UxlbarFqdUEu8U2a2t53Hr+oD3LTukbQ6FYCS7UsEncG/+20n1vPRvz
HiF8hXkCAwEAAaOBmDCBlTAdBgNVHQ4EFgQUv6FrsF+c9YFbcmS94+/GZUbjZcUwHwYDVR0jBBgwFoAUv6FrsF+c9YFb
cmS94+/GZUbjZcUwDwYDVR0TAQH/BAUwAwEB/zAgBgNVHREEGTAXhg91cm46dGVzdDpzZXJ2ZXKHBH8AAAEwEwYDVR0l
BAwwCgYIKwYBBQUHAwEwCwYDVR0PBAQDAgTwMA0GCSqGSIb3DQEBBQUAA4IBAQCE35i4TZvBNto4TpBxtz7682zwQkcp
E9qVVzVBdpgDrLWKQ44StSiv5kajkjqsiL/a3yd8cQ4E0ELZ0FGfOkh8ZpO1lb6Q/U4UaaRzNfkOaT8ZZp6Nl1TBUJIS
iUdocRYjW0odv+OUegN/biliZc/r8gyIBy2bv4bH2XD5r7rFNb58vsTHeOBZz4IYUpzRHM7J9KwGUrd7ru/CrqfjaUBN
w8YCzv2xgSd+PEGSaPAJMJaygBiEipEGjKt2aR/NaKa8dbf+1KpBBr8Wolqul8lVV+f9D4+NLm2YdtD+gn9SO7eibmfY
8FGos0a9KymLVvJLQRZdN8zR1zw24wzUtXXD
"""


def now() -> datetime:
    """Certificates are made as of the wall clock, so they are judged by it."""
    return datetime.now(UTC)


def judged(pki: Path, pair: Pair, *chain: Pair, host: str = "127.0.0.1") -> Verdict:
    """The verdict on what a server at `host` shows."""
    certificates = [pair.certificate, *(each.certificate for each in chain)]
    return judge(Shown(certificates, SERVER_URI, host), TrustStore(pki).read(), now())


def pinned(pki: Path, pair: Pair) -> Pair:
    """The pair, its certificate accepted by a person."""
    store = TrustStore(pki)
    store.reject(pair.certificate)
    store.accept(fingerprint(pair.certificate))
    return pair


def trusted_authority(pki: Path, *, revokes: bytes | None = None) -> Pair:
    """An authority that the store trusts, with its revocation list."""
    issuer = authority()
    folder = pki / "issuers" / "crl"
    folder.mkdir(parents=True)
    (folder.parent / "works.der").write_bytes(issuer.der)
    if revokes is None:
        revokes = revocation_list(issuer)
    if revokes:
        (folder / "works.der").write_bytes(revokes)
    return issuer


def test_an_accepted_certificate_and_one_of_a_trusted_authority_will_do(tmp_path: Path) -> None:
    """No faults and nothing to warn of."""
    assert judged(tmp_path, pinned(tmp_path, server_pair())) == Verdict((), (), False)
    issuer = trusted_authority(tmp_path)
    assert judged(tmp_path, server_pair(issuer=issuer, number=2)) == Verdict((), (), False)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"begins": -3 * DAY, "ends": -DAY}, "expired on"),
        ({"begins": DAY}, "not valid before"),
        ({"uri": "urn:somebody:else"}, "made out for urn:somebody:else, but this is"),
        ({"uri": None}, "made out for no application URI"),
        ({"use": ExtendedKeyUsageOID.CLIENT_AUTH}, "may not be used as a server's"),
        ({"encrypts": False}, "may not be used to sign and encrypt"),
        ({"bits": 1024}, "1024 bits"),
    ],
)
@pytest.mark.parametrize("is_issued", [False, True])
def test_a_certificate_with_a_fault_is_refused_whoever_trusts_it(
    tmp_path: Path, wrong: dict[str, Any], words: str, is_issued: bool
) -> None:
    """A person or an authority says whose a certificate is, not that it is good."""
    issuer = trusted_authority(tmp_path) if is_issued else None
    pair = server_pair(issuer=issuer, **wrong)
    if not is_issued:
        pinned(tmp_path, pair)
    assert words in " ".join(judged(tmp_path, pair).faults)


def test_a_certificate_signed_with_a_broken_digest_is_refused(tmp_path: Path) -> None:
    """SHA-1 collisions let one certificate stand for another."""
    old = x509.load_der_x509_certificate(base64.b64decode(SIGNED_WITH_SHA1))
    verdict = judge(Shown([old], SERVER_URI), TrustStore(tmp_path).read(), now())
    assert "it is signed with sha1, which is broken" in verdict.faults


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Whoever has a certificate issued again wants to do it once."""
    verdict = judged(tmp_path, server_pair(uri="urn:x", ends=-DAY / 2, hosts=("plc",)))
    told = " ".join(verdict.reasons)
    assert all(word in told for word in ("expired", "nobody has accepted", "urn:x", "plc"))


def test_an_empty_store_trusts_nobody(tmp_path: Path) -> None:
    """A first start has no folders yet: that is an answer, not a crash."""
    verdict = judged(tmp_path / "none", server_pair())
    assert verdict.is_unknown
    assert verdict.reasons == ("nobody has accepted it yet",)
    assert judged(tmp_path / "none", server_pair(issuer=authority())).is_unknown


def test_another_hosts_certificate_needs_a_persons_word(tmp_path: Path) -> None:
    """A person accepted this very certificate; an authority's word is good for its host alone."""
    own = pinned(tmp_path, server_pair(hosts=("plc.works",)))
    verdict = judged(tmp_path, own)
    assert not verdict.faults
    assert "plc.works" in verdict.warnings[0]
    issued = server_pair(hosts=("plc.works",), issuer=trusted_authority(tmp_path), number=2)
    assert "it is made out for plc.works, not 127.0.0.1" in judged(tmp_path, issued).faults
    assert not judged(tmp_path, issued, host="PLC.works").faults


def test_what_an_authority_did_not_sign_is_not_its_own(tmp_path: Path) -> None:
    """The issuer's name alone is anybody's to write."""
    trusted_authority(tmp_path)
    forged = server_pair(issuer=authority(number=3))
    assert judged(tmp_path, forged).is_unknown
    below = server_pair(issuer=server_pair(issuer=authority(), number=2), number=4)
    assert judged(tmp_path, below, server_pair(issuer=authority(), number=2)).is_unknown, (
        "a server's certificate is no authority's"
    )


def test_what_its_issuer_revoked_is_refused(tmp_path: Path) -> None:
    """Also where a person has accepted it."""
    issuer = authority()
    issued = server_pair(issuer=issuer)
    trusted_authority(tmp_path, revokes=revocation_list(issuer, issued))
    assert "its issuer CN=Works CA has revoked it" in judged(tmp_path, issued).faults
    pinned(tmp_path, issued)
    assert "its issuer CN=Works CA has revoked it" in judged(tmp_path, issued).faults


def test_an_authority_may_sign_with_an_elliptic_key(tmp_path: Path) -> None:
    """Its revocation list is its own, and what it revokes is refused."""
    issuer = elliptic_authority()
    good, bad = (server_pair(issuer=issuer, number=number) for number in (0, 2))
    folder = tmp_path / "issuers" / "crl"
    folder.mkdir(parents=True)
    (folder.parent / "works.der").write_bytes(issuer.der)
    (folder / "works.der").write_bytes(revocation_list(issuer, bad))
    assert judged(tmp_path, good) == Verdict((), (), False)
    assert judged(tmp_path, bad).faults == ("its issuer CN=Works CA has revoked it",)


def test_a_forged_revocation_list_opens_nothing(tmp_path: Path) -> None:
    """An empty list in the authority's name must not hide the true one."""
    issuer = authority()
    trusted_authority(tmp_path, revokes=revocation_list(issuer, signed_by=authority(number=3)))
    assert "is not signed by it" in " ".join(judged(tmp_path, server_pair(issuer=issuer)).faults)


@pytest.mark.parametrize(
    ("revokes", "words"),
    [(b"", "no revocation list"), (revocation_list(authority(), ends=-DAY), "is outdated since")],
)
def test_without_a_fresh_revocation_list_a_warning_stays(
    tmp_path: Path, revokes: bytes, words: str
) -> None:
    """Most plants keep none: their servers are reached, and what is not known is told."""
    issuer = trusted_authority(tmp_path, revokes=revokes)
    verdict = judged(tmp_path, server_pair(issuer=issuer))
    assert not verdict.faults
    assert words in verdict.warnings[0]


def test_an_expiry_is_told_thirty_days_before() -> None:
    """Time enough to have the next certificate issued and trusted."""
    certificate = server_pair(ends=31 * DAY).certificate
    assert expiry_warning(certificate, now()) == ""
    assert "expires on" in expiry_warning(certificate, now() + 1.5 * DAY)
    assert "expired on" in expiry_warning(certificate, now() + 32 * DAY)


def test_revoked_here_is_refused_whoever_else_trusts_it(tmp_path: Path) -> None:
    """`certs revoke` counts before authorities, until `certs accept` takes it back."""
    issued = server_pair(issuer=trusted_authority(tmp_path))
    store, digits = TrustStore(tmp_path), fingerprint(issued.certificate)[:12]
    pinned(tmp_path, issued)
    assert store.revoke(digits).state == "revoked"
    assert "was revoked here" in " ".join(judged(tmp_path, issued).faults)
    store.accept(digits)
    assert not judged(tmp_path, issued).faults
    assert [kept.state for kept in store.entries("trusted", "revoked", "rejected")] == ["trusted"]


def test_a_fingerprint_must_name_one_certificate(tmp_path: Path) -> None:
    """Too few digits, none, another's, colons and capitals as other programs print them."""
    store, pair = TrustStore(tmp_path), server_pair()
    store.reject(pair.certificate)
    print_ = fingerprint(pair.certificate)
    for wrong in (print_[:7], "", "xyz" * 10, "../../etc/passwd", "0" * 64):
        with pytest.raises(UsageError, match="certs list"):
            store.accept(wrong)
    assert store.accept(":".join(print_[i : i + 2] for i in range(0, 64, 2)).upper())
    assert store.accept(print_), "twice changes nothing"


def test_a_file_that_is_no_certificate_is_named_and_trusts_nobody(tmp_path: Path) -> None:
    """It may be a revocation list cut short: passing it over could let a revoked one in."""
    for folder in ("trusted", "issuers/crl", "revoked"):
        path = tmp_path / folder / "broken.der"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no certificate")
        with pytest.raises(SecurityFault, match=r"broken\.der holds no"):
            TrustStore(tmp_path).read()
        path.unlink()


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        (x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x01 no names"),
        (x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3020500")),
        (x509.ExtensionOID.KEY_USAGE, b"?"),
        (x509.ExtensionOID.CRL_DISTRIBUTION_POINTS, b"?"),
    ],
)
def test_a_certificate_with_a_damaged_part_is_none(
    tmp_path: Path, extension: x509.ObjectIdentifier, content: bytes
) -> None:
    """No server ends the collector with what it shows, nor a file what lists the others."""
    signer, name = key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    odd = (
        x509.CertificateBuilder(name, name, signer.public_key(), 1, now() - DAY, now() + DAY)
        .add_extension(x509.UnrecognizedExtension(extension, content), critical=False)
        .sign(signer, hashes.SHA256())
    )
    with pytest.raises(ValueError, match=r"extension|asn1"):
        chain_of(as_der(odd))
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "odd.der").write_bytes(as_der(odd))
    with pytest.raises(SecurityFault, match=r"odd\.der holds no certificate"):
        TrustStore(tmp_path).entries()


SIGNED_BY_RSA = bytes.fromhex("2a864886f70d01010b")  # sha256WithRSAEncryption (RFC 8017, A.2.4)
SIGNED_BY_NOBODY_KNOWS = SIGNED_BY_RSA[:-1] + b"\x63"


def test_an_algorithm_that_nobody_knows_is_a_refusal_with_its_reason(tmp_path: Path) -> None:
    """Certificate or revocation list: what cannot be checked is not trusted, nor a traceback."""
    pair, issuer = server_pair(), authority()
    odd = pair.der.replace(SIGNED_BY_RSA, SIGNED_BY_NOBODY_KNOWS)
    with pytest.raises(ValueError, match=r"not known here.*1\.2\.840\.113549\.1\.1\.99"):
        chain_of(odd)
    trusted_authority(tmp_path)
    path = tmp_path / "issuers" / "crl" / "works.der"
    path.write_bytes(path.read_bytes().replace(SIGNED_BY_RSA, SIGNED_BY_NOBODY_KNOWS))
    with pytest.raises(SecurityFault, match=r"works\.der holds no revocation list.*not known here"):
        TrustStore(tmp_path).read()
    path.write_bytes(revocation_list(issuer))
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "odd.der").write_bytes(odd)
    with pytest.raises(SecurityFault, match=r"odd\.der holds no certificate.*not known here"):
        TrustStore(tmp_path).read()


@pytest.mark.parametrize(
    ("true", "false"),
    [
        (bytes.fromhex("a003020102"), bytes.fromhex("a003020109")),  # a tenth version
        (b"\x0c\x0bTest server", b"\x05\x0bTest server"),  # its name is of no text's type
    ],
)
def test_a_certificate_with_odd_bytes_is_refused(true: bytes, false: bytes) -> None:
    """Found by changing bytes at random, sixty thousand times: these were tracebacks once."""
    shown = server_pair().der
    assert true in shown
    with pytest.raises(ValueError, match=r"version|asn1"):
        chain_of(shown.replace(true, false))


@pytest.mark.parametrize(
    ("true", "false"),
    [
        (bytes.fromhex("020101300d06"), bytes.fromhex("020109300d06")),  # a tenth version
        (b"\x0c\x08Works CA", b"\x05\x08Works CA"),
    ],
)
def test_a_revocation_list_with_odd_bytes_trusts_nobody(
    tmp_path: Path, true: bytes, false: bytes
) -> None:
    """The same of a list: it is named."""
    listed = revocation_list(authority())
    assert true in listed
    trusted_authority(tmp_path, revokes=listed.replace(true, false))
    with pytest.raises(SecurityFault, match=r"works\.der holds no revocation list"):
        TrustStore(tmp_path).read()


def test_rejected_certificates_never_fill_the_disk(tmp_path: Path) -> None:
    """A server that shows a new one at every connect is kept a hundred times."""
    store = TrustStore(tmp_path)
    for number in range(103):
        store.reject(server_pair(name=f"server {number}").certificate)
    kept = store.entries("rejected")
    assert len(kept) == 100
    assert any("server 102" in str(each.certificate.subject) for each in kept)


def test_pem_files_put_there_by_hand_count_too(tmp_path: Path) -> None:
    """Administrators bring whatever their tools write, under any name."""
    pair = server_pair()
    (tmp_path / "trusted").mkdir()
    text = pair.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "trusted" / "PLC 7.CRT").write_bytes(text)
    (tmp_path / "trusted" / "notes.txt").write_text("who is who")
    assert not judged(tmp_path, pair).faults


def test_our_own_certificate_is_made_once_for_each_identity(tmp_path: Path) -> None:
    """Reading and writing are two clients to a server; a second start is the same client."""
    reader, writer = (own_identity(tmp_path, name, now()) for name in (COLLECT, WRITE))
    again = own_identity(tmp_path, COLLECT, now())
    assert again == reader
    assert reader.application_uri != writer.application_uri
    assert application_uris(reader.certificate) == (reader.application_uri,)
    assert days_left(reader.certificate, now()) > 1_000
    shown = Shown([writer.certificate], writer.application_uri, use=CLIENT_USE)
    pinned_trust = TrustStore(tmp_path)
    pinned_trust.reject(writer.certificate)
    pinned_trust.accept(fingerprint(writer.certificate))
    assert judge(shown, pinned_trust.read(), now()) == Verdict((), (), False)


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    """Whoever can read the key is us; a key that others may read is not used."""
    identity = own_identity(tmp_path / "pki", COLLECT, now())
    assert identity.key_path.stat().st_mode & 0o777 == 0o600
    for folder in (tmp_path / "pki", tmp_path / "pki" / "own", identity.key_path.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    identity.key_path.chmod(0o640)
    with pytest.raises(SecurityFault, match=r"key\.pem may be used by others.*chmod 600"):
        own_identity(tmp_path / "pki", COLLECT, now())


def test_processes_that_start_together_become_one_client(tmp_path: Path) -> None:
    """Of two new pairs one wins whole: never the key of one with the certificate of the other."""
    barrier = threading.Barrier(4)
    made = []

    def start() -> None:
        barrier.wait()
        made.append(own_identity(tmp_path, COLLECT, now()))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len({fingerprint(each.certificate) for each in made}) == 1
    assert os.listdir(tmp_path / "own") == [COLLECT]


def test_an_own_certificate_that_will_not_do_says_what_to_do(tmp_path: Path) -> None:
    """Expired, of another key, without application URI, cut short."""
    own_identity(tmp_path, COLLECT, now())
    with pytest.raises(SecurityFault, match=r"expired on .* must trust again"):
        own_identity(tmp_path, COLLECT, now() + timedelta(days=3_000))
    path = tmp_path / "own" / COLLECT / "certificate.der"
    path.write_bytes(server_pair().der)
    with pytest.raises(SecurityFault, match=r"key\.pem is not the key of certificate\.der"):
        own_identity(tmp_path, COLLECT, now())
    nameless = server_pair(uri=None)
    path.write_bytes(nameless.der)
    (path.parent / "key.pem").write_bytes(nameless.key_pem)
    with pytest.raises(SecurityFault, match="0 application URIs"):
        own_identity(tmp_path, COLLECT, now())
    path.write_bytes(nameless.der[:-20])
    with pytest.raises(SecurityFault, match="holds no certificate"):
        own_identity(tmp_path, COLLECT, now())


def test_a_chain_in_one_message_is_read_whole_or_not_at_all() -> None:
    """Servers append their issuers' certificates to their own."""
    issuer = authority()
    leaf = server_pair(issuer=issuer)
    assert chain_of(leaf.der + issuer.der) == [leaf.certificate, issuer.certificate]
    for damaged in (leaf.der[:-1], leaf.der + b"\x30", leaf.der + b"tail", b"\x30\x82\xff\xff"):
        with pytest.raises(ValueError, match=r".+"):
            chain_of(damaged)


def test_an_authority_below_a_trusted_one_is_found_in_the_message(tmp_path: Path) -> None:
    """The chain up to the trusted authority comes with the server's certificate."""
    root = trusted_authority(tmp_path)
    below = authority_below(root)
    leaf = server_pair(issuer=below, number=5)
    assert judged(tmp_path, leaf).is_unknown
    assert not judged(tmp_path, leaf, below).faults
