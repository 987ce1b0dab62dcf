"""The same security against another maker's server: node-opcua, which rejects strangers itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

import pytest
from asyncua import ua
from one_tank import free_port
from secured_server import NAMESPACE, PASSWORDS, access_in, counting, secured_plant, until

from connectors.opcua import Session
from connectors.opcua.guard import Guard
from connectors.opcua.link import Link
from connectors.security import WRITE, Access, TrustStore
from connectors.security.certificates import fingerprint
from twin.clock import wall_now
from twin.errors import SecurityFault
from twin.plant import Plant, Security
from twin.records import Reading

pytestmark = pytest.mark.node

PORT = free_port()
_SERVER = Path(__file__).parent / "node_opcua" / "secured.js"


class Server:
    """The server's process; `trust` is what its administrator does."""

    def __init__(self, folder: Path) -> None:
        asked: dict[str, Any] = {"port": PORT, "folder": str(folder), "namespace": NAMESPACE}
        self.process = subprocess.Popen(
            ["node", str(_SERVER), json.dumps(asked | {"users": PASSWORDS})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear("ready")

    def trust(self, certificate: Path) -> None:
        """Let in the client whose certificate this is."""
        given: IO[str] | None = self.process.stdin
        assert given is not None
        given.write(f"{certificate}\n")
        given.flush()
        self._hear("trusted")

    def _hear(self, word: str) -> None:
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) != f"{word}\n":
            assert line, f"node-opcua ended before it was {word}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """One server for all tests: making its key takes seconds."""
    started = Server(tmp_path_factory.mktemp("node_pki"))
    yield started
    started.process.kill()
    started.process.communicate()


@pytest.fixture(scope="module")
def known(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Access:
    """Us after both administrators have decided, each told by the other side's refusal."""
    access = access_in(tmp_path_factory.mktemp("ours"), identity=WRITE)
    told = refusal(secured_plant(PORT), access)
    assert "nobody has accepted it yet" in told
    (rejected,) = TrustStore(access.pki).entries("rejected")
    assert fingerprint(rejected.certificate) in told
    TrustStore(access.pki).accept(fingerprint(rejected.certificate))
    told = refusal(secured_plant(PORT), access)
    assert "did not take our certificate" in told
    server.trust(access.pki / "own" / WRITE / "certificate.der")
    return access


def refusal(plant: Plant, access: Access) -> str:
    """What a session says that is not let in."""

    async def attempt() -> str:
        with pytest.raises(SecurityFault) as told:
            async with Session(plant, access=access):
                pass
        return str(told.value)

    return asyncio.run(attempt())


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
@pytest.mark.parametrize("mode", ["SignAndEncrypt", "Sign"])
def test_every_policy_is_understood(known: Access, policy: Any, mode: Any) -> None:
    """Read, write and subscribe, in each of the six ways."""

    async def story() -> None:
        heard: list[Reading] = []
        plant = secured_plant(PORT, Security(policy=policy, mode=mode))
        async with Session(plant, access=known) as session:
            before = (await session.read())["level"].value
            assert before is not None
            await session.subscribe(heard.extend)
            await session.write("level", before + 1)
            await until(lambda: heard and heard[-1].value == before + 1)

    asyncio.run(story())


def test_a_user_logs_in_with_the_right_password_alone(known: Access, tmp_path: Path) -> None:
    """The password goes encrypted as that server wants it; a wrong one is told as that."""
    plant = secured_plant(PORT, Security(login="password"))

    def as_reader(password: str) -> Access:
        login = {"PLANTWRIGHT_OPCUA_USER": "reader", "PLANTWRIGHT_OPCUA_PASSWORD": password}
        told = access_in(tmp_path, **login).secrets
        return Access(known.pki, told, known.identity)

    async def story() -> None:
        async with Session(plant, access=as_reader(PASSWORDS["reader"])) as session:
            assert (await session.read())["level"].is_good

    asyncio.run(story())
    assert "refused our login" in refusal(plant, as_reader("s3cret-typo"))


def test_its_keys_are_changed_under_way(known: Access) -> None:
    """A channel of seconds is renewed by us while readings go on."""

    async def story() -> None:
        async with counting(PORT) as opened:
            endpoint = f"opc.tcp://127.0.0.1:{opened.port}/"
            guard = Guard(endpoint, "opcua", Security(), known, wall_now)
            link = Link(endpoint, 4.0, guard, channel_s=1.0)
            try:
                await link.open()
                index, first = (await link.namespaces()).index(NAMESPACE), opened.channels
                async with asyncio.timeout(60):
                    while opened.channels < first + 8:
                        (value,) = await link.read([ua.NodeId("level", index)])
                        assert value.StatusCode.is_good()
            finally:
                await link.close()

    asyncio.run(story())
