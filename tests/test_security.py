"""OPC UA links: as protected as the plant file says, to whom a person trusts, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from made_certificates import authority, revocation_list, server_pair
from one_tank import free_port
from secured_server import (
    ENCRYPTED,
    NAMESPACE,
    OPEN,
    PASSWORDS,
    Users,
    access_in,
    counting,
    secured_plant,
    secured_server,
    until,
)

from connectors.opcua import Session
from connectors.opcua.browse import browse
from connectors.opcua.guard import Guard
from connectors.opcua.link import Link
from connectors.security import WRITE, Access, TrustStore
from connectors.security.certificates import CLIENT_USE, fingerprint
from twin.clock import wall_now
from twin.errors import EndpointUnavailable, SecurityFault, UsageError
from twin.plant import Plant, Security
from twin.records import Reading

DAY = timedelta(days=1)
POLICIES: list[tuple[Any, Any]] = [
    (policy, mode)
    for policy in ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
    for mode in ("SignAndEncrypt", "Sign")
]


async def refused(plant: Plant, access: Access | None, **options: Any) -> str:
    """What a session says that is not let in."""
    with pytest.raises(SecurityFault) as told:
        async with Session(plant, access=access, **options):
            pass
    return str(told.value)


async def level(plant: Plant, access: Access) -> float | None:
    """The tag's value over a session of its own."""
    async with Session(plant, access=access) as session:
        return (await session.read())["level"].value


def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """A test's story in an event loop of its own."""
    asyncio.run(work())


def test_a_server_is_read_once_a_person_has_accepted_its_certificate(tmp_path: Path) -> None:
    """Refused with what to type; accepted while we go on trying; refused again once revoked."""
    pair, port = server_pair(), free_port()
    plant, access = secured_plant(port), access_in(tmp_path)

    async def work() -> None:
        async with secured_server(port, pair):
            told = await refused(plant, access)
            print_ = fingerprint(pair.certificate)
            assert f"plantwright certs accept {print_}" in told
            assert "CN=Test server" in told
            store = TrustStore(access.pki)
            store.accept(print_[:8])
            assert await level(plant, access) == 1.0
            store.revoke(print_[:8])
            assert "was revoked here" in await refused(plant, access)

    run(work)


def test_every_policy_reads_writes_and_subscribes(tmp_path: Path) -> None:
    """Of a server's many endpoints exactly the wanted one is used."""
    pair, port = server_pair(), free_port()
    policies = [OPEN, *(getattr(ua.SecurityPolicyType, "_".join(each)) for each in POLICIES)]
    access = access_in(tmp_path, pair, identity=WRITE)

    async def work() -> None:
        async with secured_server(port, pair, policies=policies):
            for number, (policy, mode) in enumerate(POLICIES):
                plant = secured_plant(port, Security(policy=policy, mode=mode))
                await written_and_heard(plant, access, 2.5 + number)

    run(work)


def test_a_server_with_a_faulty_certificate_is_refused_though_accepted(tmp_path: Path) -> None:
    """Told what is wrong, and nothing is asked of that server, not even who may log in."""
    faulty: list[tuple[str, dict[str, Any]]] = [
        ("expired on", {"begins": -3 * DAY, "ends": -DAY}),
        ("not valid before", {"begins": DAY}),
        ("but this is urn:test:server", {"uri": "urn:somebody:else"}),
        ("no application URI", {"uri": None, "hosts": ()}),
        ("may not be used as a server's", {"use": CLIENT_USE}),
        ("1024 bits", {"bits": 1024}),
    ]
    port, users = free_port(), Users()

    async def work() -> None:
        async with secured_server(port, server_pair(), users=users) as server:
            for words, wrong in faulty:
                pair = server_pair(**wrong)
                for endpoint in server.iserver.endpoints:
                    endpoint.ServerCertificate = pair.der
                told = await refused(secured_plant(port), access_in(tmp_path, pair))
                assert words in told
                assert "certs accept" not in told, "accepting would not help"
            for endpoint in server.iserver.endpoints:
                endpoint.ServerCertificate = b"no certificate"
            told = await refused(secured_plant(port), access_in(tmp_path))
            assert "shows no certificate that can be used" in told
            assert users.seen == []

    run(work)


def test_what_is_read_without_protection_is_asked_again_with_it(tmp_path: Path) -> None:
    """Somebody between us and the server changes who it says it is, to fit another's certificate.

    The list of endpoints is not signed; what comes over the channel is.
    """
    pair, port, users = server_pair(uri="urn:test:sirver"), free_port(), Users()
    access = access_in(tmp_path, pair)

    async def work() -> None:
        async with (
            secured_server(port, pair, users=users),
            counting(port, instead=(b"urn:test:server", b"urn:test:sirver")) as between,
        ):
            told = await refused(secured_plant(between.port), access)
            assert "made out for urn:test:sirver, but this is urn:test:server" in told
            assert users.seen == []

    run(work)


def test_an_authoritys_server_is_trusted_until_it_is_revoked(tmp_path: Path) -> None:
    """The authority's certificate in pki/issuers is enough; its revocation list is obeyed."""
    issuer, port = authority(), free_port()
    pair = server_pair(issuer=issuer)
    access = access_in(tmp_path)
    lists = access.pki / "issuers" / "crl"
    lists.mkdir(parents=True)
    (access.pki / "issuers" / "works.der").write_bytes(issuer.der)

    async def work() -> None:
        async with secured_server(port, pair):
            async with Session(secured_plant(port), access=access) as session:
                assert "no revocation list" in session.security_warning
            (lists / "works.crl.der").write_bytes(revocation_list(issuer, pair))
            assert "has revoked it" in await refused(secured_plant(port), access)

    run(work)


def test_nothing_weaker_than_the_plant_file_says_is_ever_used(tmp_path: Path) -> None:
    """A server without the wanted endpoint is not connected to, and what it offers is told."""
    pair, port, users = server_pair(), free_port(), Users()
    weaker = [OPEN, ua.SecurityPolicyType.Basic256Sha256_Sign]

    async def work() -> None:
        async with secured_server(port, pair, policies=weaker, users=users):
            told = await refused(secured_plant(port), access_in(tmp_path, pair))
            assert "does not offer Basic256Sha256 with SignAndEncrypt" in told
            assert "Basic256Sha256 with Sign, None with None" in told
            assert "`security: {mode: ...}` in the plant file" in told
            with pytest.raises(SecurityFault) as browsing:
                await browse(
                    f"opc.tcp://127.0.0.1:{port}/",
                    security=Security(),
                    access=access_in(tmp_path, pair),
                    wall_now=wall_now,
                )
            assert "set --policy and --mode" in str(browsing.value), "there is no plant file then"
            assert "plant file" not in str(browsing.value)
        async with secured_server(port, pair, users=users):
            told = await refused(secured_plant(port, Security(policy="None")), None)
            assert "no endpoint without security" in told
        async with secured_server(port, None, policies=[OPEN], users=users):
            assert "It offers None with None" in await refused(
                secured_plant(port), access_in(tmp_path, pair)
            )
            assert users.seen == []

    run(work)


def test_no_security_is_for_this_machine_and_stays_visible(tmp_path: Path) -> None:
    """Off this machine it is refused before a byte is sent, also where the address is another."""
    port = free_port()
    plant = secured_plant(port, Security(policy="None"))

    async def work() -> None:
        async with (
            secured_server(port, None, policies=[OPEN]),
            Session(plant) as session,
        ):
            assert "neither encrypted nor signed" in session.security_warning
        told = await refused(plant, None, endpoint="opc.tcp://192.0.2.1:4840/")
        assert "192.0.2.1" in told
        assert "security policy None is not allowed" in told

    run(work)
    assert not (tmp_path / "pki").exists(), "no keys are made where none are needed"


def test_a_wanted_policy_without_certificates_of_ours_is_a_wrong_call() -> None:
    """Never read as: then without."""

    async def work() -> None:
        with pytest.raises(UsageError, match="our own certificates"):
            async with Session(secured_plant(free_port())):
                pass

    run(work)


# -- logging in ------------------------------------------------------------------------------------


def test_readers_and_writers_log_in_as_themselves(tmp_path: Path) -> None:
    """Each identity has its certificate and its user; a wrong password is told, and never shown."""
    pair, port, users = server_pair(), free_port(), Users(lets_anybody_in=False)
    plant = secured_plant(port, Security(login="password"))
    told_passwords = {
        "PLANTWRIGHT_OPCUA_USER": "reader",
        "PLANTWRIGHT_OPCUA_PASSWORD": PASSWORDS["reader"],
        "PLANTWRIGHT_OPCUA_WRITE_USER": "operator",
        "PLANTWRIGHT_OPCUA_WRITE_PASSWORD": PASSWORDS["operator"],
    }

    async def work() -> None:
        async with secured_server(port, pair, users=users):
            assert await level(plant, access_in(tmp_path, pair, **told_passwords)) == 1.0
            writer = access_in(tmp_path, identity=WRITE, **told_passwords)
            assert await level(plant, writer) == 1.0
            (first, reading), (second, writing) = users.seen
            assert (first, second) == ("reader", "operator")
            assert None is not reading != writing is not None
            wrong = told_passwords | {"PLANTWRIGHT_OPCUA_PASSWORD": "s3cret-typo"}
            told = await refused(plant, access_in(tmp_path, **wrong))
            assert "refused our login (BadUserAccessDenied)" in told
            assert "s3cret-typo" not in told
            nobody = secured_plant(port)
            assert "refused our login" in await refused(nobody, access_in(tmp_path))

    run(work)


def test_a_user_certificate_logs_in(tmp_path: Path) -> None:
    """The user's own, beside that of our application; its key is its owner's alone."""
    pair, port, users = server_pair(), free_port(), Users()
    user = server_pair(name="Operator", number=2)
    plant = secured_plant(port, Security(login="certificate"))
    _, key = user.kept(tmp_path, "user")
    access = access_in(
        tmp_path,
        pair,
        PLANTWRIGHT_OPCUA_CERTIFICATE=str(tmp_path / "user.der"),
        PLANTWRIGHT_OPCUA_KEY="user.pem",
    )

    async def work() -> None:
        async with secured_server(port, pair, users=users):
            assert await level(plant, access) == 1.0
            assert users.seen == [(None, user.der)]
            key.chmod(0o644)
            assert "user.pem may be used by others" in await refused(plant, access)

    run(work)


def test_a_login_the_server_does_not_take_is_told_before_it_is_shown(tmp_path: Path) -> None:
    """With what it takes; and no password goes over a link that is only signed, or less."""
    pair, port = server_pair(), free_port()
    access = access_in(
        tmp_path, pair, PLANTWRIGHT_OPCUA_USER="u", PLANTWRIGHT_OPCUA_PASSWORD="s3cret"
    )
    policies = [ENCRYPTED, ua.SecurityPolicyType.Basic256Sha256_Sign, OPEN]
    tokens = [ua.AnonymousIdentityToken]

    async def work() -> None:
        users = Users()
        async with secured_server(port, pair, policies=policies, tokens=tokens, users=users):
            told = await refused(secured_plant(port, Security(login="password")), access)
            assert "takes no login by password here; it takes Anonymous" in told
            signed = Security(login="password", mode="Sign")
            assert "encrypted link only" in await refused(secured_plant(port, signed), access)
            bare = Security(login="password", policy="None")
            assert "never shown over security policy None" in await refused(
                secured_plant(port, bare), access
            )
            assert users.seen == []

    run(work)


def test_a_server_that_does_not_trust_us_is_told_as_that(tmp_path: Path) -> None:
    """With the file to hand to its administrator, who then lets us in."""
    pair, port = server_pair(), free_port()
    access, plant = access_in(tmp_path, pair), secured_plant(port)
    trusted: set[bytes] = set()

    async def work() -> None:
        checks = CertificateValidator(
            CertificateValidatorOptions.EXT_VALIDATION | CertificateValidatorOptions.PEER_CLIENT
        )

        async def validate(certificate: Any, application: Any) -> None:
            await checks.validate(certificate, application)
            if fingerprint(certificate) not in trusted:
                raise ua.uaerrors.BadCertificateUntrusted

        async with secured_server(port, pair, validator=validate):
            told = await refused(plant, access)
            assert "did not take our certificate (BadCertificateUntrusted)" in told
            assert str(access.pki / "own" / "collect" / "certificate.der") in told
            trusted.update(told.split()[-1].rstrip(").").split())  # type: ignore[arg-type]  # its last word is the fingerprint
            assert await level(plant, access) == 1.0

    run(work)


# -- over time -------------------------------------------------------------------------------------


def test_keys_are_changed_under_way_and_readings_go_on(tmp_path: Path) -> None:
    """A channel that lives a second is renewed again and again; every value comes, in order."""
    pair, port = server_pair(), free_port()
    access = access_in(tmp_path, pair)

    async def work() -> None:
        async with secured_server(port, pair) as server, counting(port) as opened:
            endpoint = f"opc.tcp://127.0.0.1:{opened.port}/"
            guard = Guard(endpoint, "opcua", Security(), access, wall_now)
            link = Link(endpoint, 4.0, guard, channel_s=1.0)
            node = ua.NodeId("level", await server.get_namespace_index(NAMESPACE))
            try:
                await link.open()
                first, count = opened.channels, 0.0
                async with asyncio.timeout(60):
                    while opened.channels < first + 8:
                        count += 1
                        await server.write_attribute_value(node, ua.DataValue(count))
                        (value,) = await link.read([node])
                        assert value.Value.Value == count
                        await asyncio.sleep(0.01)
            finally:
                await link.close()

    run(work)


def test_an_expiry_ahead_is_a_warning_of_the_session(tmp_path: Path) -> None:
    """Thirty days before, the server's certificate and our own; also of a link that stands long."""
    pair, port = server_pair(ends=40 * DAY), free_port()
    days_on = [0]
    plant, access = secured_plant(port), access_in(tmp_path, pair)

    async def work() -> None:
        async with (
            secured_server(port, pair),
            Session(
                plant, access=access, wall_now=lambda: wall_now() + days_on[0] * DAY
            ) as session,
        ):
            assert session.security_warning == ""
            days_on[0] = 11
            assert "the server's certificate expires on" in session.security_warning
            assert "Our own" not in session.security_warning
            days_on[0] = 5 * 365 - 10
            assert "the server's certificate expired on" in session.security_warning
            assert "certificate.der expires on" in session.security_warning

    run(work)


@pytest.mark.parametrize("by", ["a person", "its issuer"])
def test_trust_that_is_taken_back_ends_a_link_that_stands(tmp_path: Path, by: str) -> None:
    """Within seconds, also under one who only asks now and then; and it is not let in again."""
    issuer, port = authority(), free_port()
    pair = server_pair(issuer=issuer)
    access = access_in(tmp_path, *([pair] if by == "a person" else []))
    lists = tmp_path / "pki" / "issuers" / "crl"
    lists.mkdir(parents=True)
    (lists.parent / "works.crt").write_bytes(issuer.der)
    (lists / "works.crl.der").write_bytes(revocation_list(issuer))

    async def work() -> None:
        async with (
            secured_server(port, pair),
            Session(secured_plant(port), access=access) as session,
        ):
            await session.read()
            if by == "a person":
                TrustStore(access.pki).revoke(fingerprint(pair.certificate))
            else:
                (lists / "works.crl.der").write_bytes(revocation_list(issuer, pair))
            lost = await asyncio.wait_for(session.until_lost(), 30)
            assert "trusted no more" in lost
            with pytest.raises(EndpointUnavailable, match="trusted no more"):
                await session.read()
            assert "revoked" in await refused(secured_plant(port), access)

    run(work)


def test_what_is_no_revocation_ends_no_link(tmp_path: Path) -> None:
    """Neither an expiry nor a store that cannot be read: those are warnings while a link stands."""
    pair, port = server_pair(ends=40 * DAY), free_port()
    days_on = [0]
    access = access_in(tmp_path, pair)

    async def work() -> None:
        guard = Guard(
            f"opc.tcp://127.0.0.1:{port}/",
            "opcua",
            Security(),
            access,
            lambda: wall_now() + days_on[0] * DAY,
        )
        async with secured_server(port, pair):
            link = Link(f"opc.tcp://127.0.0.1:{port}/", 4.0, guard)
            try:
                await link.open()
                days_on[0] = 50
                assert guard.distrust() == ""
                odd = access.pki / "trusted" / "odd.der"
                odd.write_bytes(b"no certificate")
                assert guard.distrust() == ""
                assert any("still trusted cannot be told" in each for each in guard.warnings)
                odd.unlink()
                assert guard.distrust() == ""
                assert not any("cannot be told" in each for each in guard.warnings)
                TrustStore(access.pki).revoke(fingerprint(pair.certificate))
                assert "revoked here" in guard.distrust()
            finally:
                await link.close()

    run(work)


def test_no_secret_is_in_any_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where somebody has turned on every log there is."""
    caplog.set_level(logging.DEBUG)
    pair, port = server_pair(), free_port()
    secret = "n0-one-may-read-this"
    access = access_in(
        tmp_path, pair, PLANTWRIGHT_OPCUA_USER="reader", PLANTWRIGHT_OPCUA_PASSWORD=secret
    )

    async def work() -> None:
        async with secured_server(port, pair):
            logging.getLogger("asyncua").setLevel(logging.DEBUG)
            try:
                told = await refused(secured_plant(port, Security(login="password")), access)
            finally:
                logging.getLogger("asyncua").setLevel(logging.NOTSET)
            assert secret not in told

    run(work)
    assert caplog.records
    assert secret not in caplog.text
    assert secret not in repr(access)


def test_a_link_that_is_refused_is_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    """Whoever keeps a lasting link tries again, so a person can accept while it runs."""
    assert issubclass(SecurityFault, EndpointUnavailable)


async def written_and_heard(plant: Plant, access: Access, value: float) -> None:
    """Write a value and wait until the subscription brings it."""
    heard: list[Reading] = []
    async with Session(plant, access=access) as session:
        assert session.security_warning == ""
        await session.subscribe(heard.extend)
        await session.write("level", value)
        await until(lambda: heard and heard[-1].value == value)
