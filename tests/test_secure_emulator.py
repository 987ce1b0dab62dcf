"""The emulated server with security on: the way to a real plant's server, tried out at home."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from command_line import ROOT, CommandLine, clear_environment, start
from cryptography.x509 import Certificate
from made_certificates import server_pair
from one_tank import free_port, live_tank, one_tank
from pydantic import SecretStr
from secured_server import access_in

from connectors.emulator import Secured
from connectors.emulator.secured import Doorkeeper
from connectors.opcua import Session
from connectors.security import COLLECT, WRITE, Access, PasswordLogin, TrustStore, own_identity
from connectors.security.certificates import as_der, fingerprint
from twin.clock import wall_now
from twin.errors import SecurityFault, WriteFault
from twin.plant import Plant, Security

OPERATOR = PasswordLogin("operator", SecretStr("0perator's"))
LOGIN = {"PLANTWRIGHT_OPCUA_USER": "operator", "PLANTWRIGHT_OPCUA_PASSWORD": "0perator's"}


def met(plant: Plant, login: str = "anonymous") -> Plant:
    """The same plant as its secure server's clients have it in their file."""
    assert plant.opcua is not None
    security = Security(login=login)  # type: ignore[arg-type]  # a literal
    return replace(plant, opcua=replace(plant.opcua, security=security))


def introduced(ours: Access, server: Secured) -> None:
    """Both sides accept the other's certificate, as two administrators would."""
    for pki, other in ((ours.pki, server.pki), (server.pki, ours.pki)):
        for folder in sorted((other / "own").iterdir()):
            trust(pki, own_identity(other, folder.name, wall_now()).certificate)


def trust(pki: Path, certificate: Certificate) -> None:
    """A person's word for a certificate."""
    TrustStore(pki).reject(certificate)
    TrustStore(pki).accept(fingerprint(certificate))


def test_known_clients_read_and_only_the_operator_writes(tmp_path: Path) -> None:
    """The anonymous is refused by the server itself, before the PLC is asked."""
    plant = one_tank(free_port())
    secured = Secured(tmp_path / "server", OPERATOR)
    reader, writer = access_in(tmp_path), access_in(tmp_path, identity=WRITE, **LOGIN)
    for name in (COLLECT, WRITE):
        own_identity(reader.pki, name, wall_now())

    async def story() -> None:
        async with live_tank(plant=plant, secured=secured) as emulator:
            introduced(reader, secured)
            async with Session(met(plant), access=reader) as session:
                assert (await session.read())["tank.level"].is_good
                assert session.security_warning == ""
            async with Session(met(plant), access=replace(reader, identity=WRITE)) as session:
                with pytest.raises(WriteFault, match="BadUserAccessDenied"):
                    await session.write("plc.heartbeat", 7)
                assert not emulator.truth.writes  # type: ignore[attr-defined]  # the test's own tank
            async with Session(met(plant, "password"), access=writer) as session:
                await session.write("plc.heartbeat", 7)
                assert emulator.truth.writes == [("plc.heartbeat", 7.0)]  # type: ignore[attr-defined]  # the test's own tank
            wrong = access_in(tmp_path, **(LOGIN | {"PLANTWRIGHT_OPCUA_PASSWORD": "typo"}))
            with pytest.raises(SecurityFault, match="refused our login"):
                async with Session(met(plant, "password"), access=wrong):
                    pass

    asyncio.run(story())


def test_strangers_stay_outside_until_they_are_accepted(tmp_path: Path) -> None:
    """By their certificate; with --trust-any-client all come in, and only the operator writes."""
    plant, ours = one_tank(free_port()), access_in(tmp_path)
    secured = Secured(tmp_path / "server")

    async def story() -> None:
        async with live_tank(plant=plant, secured=secured):
            mine = own_identity(ours.pki, COLLECT, wall_now()).certificate
            trust(ours.pki, own_identity(secured.pki, "emulator", wall_now()).certificate)
            with pytest.raises(SecurityFault, match="did not take our certificate"):
                async with Session(met(plant), access=ours):
                    pass
            (kept,) = TrustStore(secured.pki).entries("rejected")
            assert kept.certificate == mine
            trust(secured.pki, mine)
            async with Session(met(plant), access=ours) as session:
                assert (await session.read())["tank.level"].is_good
            TrustStore(secured.pki).revoke(fingerprint(mine))
            with pytest.raises(SecurityFault, match="did not take our certificate"):
                async with Session(met(plant), access=ours):
                    pass
        anybody = replace(secured, pki=tmp_path / "another", trusts_any_client=True)
        async with live_tank(plant=plant, secured=anybody):
            trust(ours.pki, own_identity(anybody.pki, "emulator", wall_now()).certificate)
            async with Session(met(plant), access=ours) as session:
                assert (await session.read())["tank.level"].is_good

    asyncio.run(story())


def test_nobody_comes_in_without_encryption(tmp_path: Path) -> None:
    """A channel without security, which only lists endpoints, never becomes a session."""
    plant = one_tank(free_port())
    assert plant.opcua is not None
    endpoint = plant.opcua.endpoint
    secured = Secured(tmp_path, OPERATOR, trusts_any_client=True)

    async def story() -> None:
        async with live_tank(plant=plant, secured=secured):
            client: Any = Client(endpoint, 2)
            offered = await client.connect_and_get_server_endpoints()
            assert {each.SecurityMode.name for each in offered} == {"SignAndEncrypt"}
            assert len({each.SecurityPolicyUri for each in offered}) == 3
            for user in ("", "operator"):
                client = Client(endpoint, 2)
                client.find_endpoint = lambda *_: offered[0]
                await client.connect_socket()
                try:
                    await client.send_hello()
                    await client.open_secure_channel()
                    with pytest.raises(ua.UaError):
                        await _enter(client, user)
                finally:
                    client.disconnect_socket()

    asyncio.run(story())


async def _enter(client: Any, user: str) -> None:
    """Create and activate a session as a client would that minds no endpoint."""
    parameters = ua.CreateSessionParameters()
    parameters.EndpointUrl = client.server_url.geturl()
    parameters.ClientNonce = b"n" * 32
    parameters.RequestedSessionTimeout = 1e4
    await client.uaclient.create_session(parameters)
    await client.activate_session(user, OPERATOR.password.get_secret_value())


def test_a_borrowed_certificate_opens_nothing(tmp_path: Path) -> None:
    """Who shows another's certificate still holds the channel's own key, and that one counts."""
    known, stranger = server_pair(), server_pair(number=2)
    trust(tmp_path, known.certificate)
    door = Doorkeeper(Secured(tmp_path, OPERATOR), wall_now)
    right = {"username": "operator", "password": "0perator's"}
    assert door.get_user(None, **right, certificate=as_der(known.certificate)) is not None
    assert door.get_user(None, **right, certificate=as_der(stranger.certificate)) is None
    assert door.get_user(None, **right) is None
    for wrong in ({"password": ""}, {"password": None}, {"username": "Operator"}):
        told: Mapping[str, Any] = {**right, **wrong}
        assert door.get_user(None, **told, certificate=as_der(known.certificate)) is None


def test_from_a_secure_endpoint_to_stored_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every step by command, as a person takes them; the password is in no output and no file."""
    secret, state = "n0body-r3ads-this", tmp_path / "state"
    for name in ("plant.yaml", "physics.py"):
        shutil.copy(ROOT / "twin" / "plants" / "four_tank" / name, tmp_path)
    plant = tmp_path / "plant.yaml"
    text = plant.read_text().replace("{policy: None}", "{login: password}")
    plant.write_text(text.replace("history_days: 2", "history_days: 0.02"))
    state.mkdir(mode=0o700)
    secrets = state / "secrets.yaml"
    secrets.touch(mode=0o600)
    login = f"{{user: operator, password: {secret}}}"
    secrets.write_text(f"opcua: {login}\nemulator: {login}\n")
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}/plantwright/four_tank"
    settings = {"PLANTWRIGHT_STATE_DIR": str(state), "PLANTWRIGHT_ENDPOINT": endpoint}
    clear_environment(monkeypatch, settings)
    call = CommandLine(monkeypatch, capsys)
    more = {"PLANTWRIGHT_ENDPOINT": endpoint}
    words = ("emulate", str(plant), "--secure", "--speed", "60")
    server = start(state, *words, **more)
    outputs: list[str] = []
    collector = start(state, "collect", str(plant), **more)
    writer = None
    try:
        outputs.append(_heard(collector, "is refused: nobody has accepted it yet"))
        _accept_the_rejected(call)
        outputs.append(_heard(collector, "did not take our certificate"))
        _accept_the_rejected(call, "--emulator")
        outputs.append(_heard(collector, "link live"))
        _wait_for(call, str(plant), "collect", '"stored": ', but='"stored": 0,')
        record = call("status", str(plant), "--json")
        assert record.record["readings_stored"] > 0
        outputs.append(record.out)
        writer = start(state, "write", str(plant), **more)
        _wait_for(call, str(plant), "write", "did not take our certificate")  # it has its own
        _accept_the_rejected(call, "--emulator")
        _wait_for(call, str(plant), "write", '"link": "live"')
    finally:
        for process in (writer, collector, server):
            if process is not None:
                process.terminate()
                outputs += process.communicate(timeout=60)
    assert "may write: user operator" in "".join(outputs)
    assert secret not in "".join(outputs)
    kept = [path for path in state.rglob("*") if path.is_file() and path != secrets]
    assert len(kept) > 4
    assert not [path for path in kept if secret.encode() in path.read_bytes()]


def _accept_the_rejected(call: CommandLine, *option: str) -> None:
    """What a person types who sees one certificate waiting."""
    (waiting,) = [
        each["fingerprint"]
        for each in call("certs", "list", *option, "--json").record["certificates"]
        if each["state"] == "rejected"
    ]
    assert call("certs", "accept", *option, waiting).code == 0


def _wait_for(call: CommandLine, plant: str, name: str, words: str, but: str = "\n") -> None:
    """Ask for the status until a process tells these words, and not those."""
    deadline_s, told = time.monotonic() + 60, ""
    while words not in told or but in told:
        assert time.monotonic() < deadline_s, f"no {words!r} in {told}"
        processes = call("status", plant, "--json").record["processes"]
        told = "".join(each["detail"] for each in processes if each["name"] == name)


def _heard(process: Any, words: str) -> str:
    """Wait until a process says this on stderr, and give all that it said until then."""
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return "".join(said)
    pytest.fail(f"it never said {words!r}: {''.join(said)}")
