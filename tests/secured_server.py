"""A real OPC UA server that wants security: its certificate, its policies and its users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from made_certificates import SERVER_URI, Pair

from connectors.security import COLLECT, Access, Secrets, TrustStore
from connectors.security.certificates import fingerprint
from twin.plant import OpcUaSource, Plant, Role, Security, Tag

NAMESPACE = "urn:test:secured"
ENCRYPTED = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt
OPEN = ua.SecurityPolicyType.NoSecurity
PASSWORDS = {"reader": "r3ader's p/w", "operator": "0perator"}


class Users:
    """Lets in who has a password, and the anonymous if told to."""

    def __init__(self, lets_anybody_in: bool = True) -> None:
        self.lets_anybody_in = lets_anybody_in
        self.seen: list[tuple[str | None, bytes | None]] = []

    def get_user(
        self,
        _server: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> User | None:
        """The user, or None for one who is not let in."""
        self.seen.append((username, certificate))
        if username is None:
            return User(role=UserRole.User) if self.lets_anybody_in else None
        return User(role=UserRole.User) if PASSWORDS.get(username) == password else None


@asynccontextmanager
async def secured_server(
    port: int,
    pair: Pair | None,
    *,
    policies: Sequence[Any] = (ENCRYPTED,),
    users: Users | None = None,
    validator: Any = None,
    tokens: Sequence[type] = (
        ua.AnonymousIdentityToken,
        ua.UserNameIdentityToken,
        ua.X509IdentityToken,
    ),
) -> AsyncGenerator[Server]:
    """The server, listening, with one tag `level` that is 1.0."""
    server = Server(user_manager=users or Users())
    await server.init()
    await server.set_application_uri(SERVER_URI)
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy(list(policies))
    server.set_identity_tokens(list(tokens))
    if pair is not None:
        key = pair.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        await server.load_certificate(pair.der)
        await server.load_private_key(key)
    if validator is not None:
        server.set_certificate_validator(validator)
    index = await server.register_namespace(NAMESPACE)
    node = await server.nodes.objects.add_variable(ua.NodeId("level", index), "2:level", 1.0)
    await node.set_writable()
    async with server:
        yield server


def secured_plant(port: int, security: Security | None = None) -> Plant:
    """A plant with one tag at that server; encrypted where nothing else is said."""
    return Plant(
        plant="secured",
        title="Secured",
        sample_s=1.0,
        tags=(Tag(name="level", role=Role.MV, unit="m", node="level"),),
        opcua=OpcUaSource(
            endpoint=f"opc.tcp://127.0.0.1:{port}/",
            namespace=NAMESPACE,
            security=security or Security(),
            publishing_interval_ms=50,
        ),
    )


def access_in(folder: Path, *accepted: Pair, identity: str = COLLECT, **environment: str) -> Access:
    """Who we are, with our files in `folder`, after a person has accepted these certificates."""
    store = TrustStore(folder / "pki")
    for pair in accepted:
        store.reject(pair.certificate)
        store.accept(fingerprint(pair.certificate))
    return Access(folder / "pki", Secrets(folder / "secrets.yaml", environment), identity)


async def until(what: Any, within_s: float = 30.0) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.02)


class Opened:
    """A way to a server on which it is counted how often somebody asks for, or gives, new keys."""

    port = 0
    channels = 0


@asynccontextmanager
async def counting(
    port: int, *, instead: tuple[bytes, bytes] = (b"", b"")
) -> AsyncGenerator[Opened]:
    """A TCP proxy before `port`; the head of a message that opens or renews a channel is plain.

    `instead` puts other bytes in the place of these, wherever they can be read.
    """
    opened, (true, false) = Opened(), instead

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            opened.channels += data.count(b"OPNF")
            writer.write(data.replace(true, false) if true else data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as proxy:
        opened.port = proxy.sockets[0].getsockname()[1]
        yield opened
