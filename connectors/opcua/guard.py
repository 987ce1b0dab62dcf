"""What stands before a connection: exactly the wanted policy, the certificates, the login.

Nothing falls back to less than the plant file says, and nothing but the server's list of endpoints
is asked before its certificate is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from asyncua import Client, ua
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from cryptography import x509

from connectors.security import Access, TrustStore, own_identity
from connectors.security.certificates import as_der, chain_of, fingerprint, fit_to_show, subject
from connectors.security.judging import Shown, expiry_warning, judge
from connectors.security.own import Identity, own_text, read_key
from twin.errors import SecurityFault, UsageError
from twin.plant import Security, is_loopback

_POLICIES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_TOKENS = {
    "anonymous": ua.UserTokenType.Anonymous,
    "password": ua.UserTokenType.UserName,
    "certificate": ua.UserTokenType.Certificate,
}
_OF_OUR_CERTIFICATE = (
    "BadCertificate",
    "BadSecurityChecksFailed",
    "BadSecurityPolicyRejected",
    "BadApplicationSignatureInvalid",
    "BadNoValidCertificates",
)
_OF_OUR_LOGIN = ("BadUserAccessDenied", "BadIdentityToken", "BadUserSignatureInvalid")


class Guard:
    """Makes a client ready to connect to `endpoint` as `security` says, or not at all.

    `source` is the name under which the secrets are told. `is_planned`: a plant file says all
    this, else a person does by the options of `browse`; remedies name the one or the other.
    """

    def __init__(
        self,
        endpoint: str,
        source: str,
        security: Security,
        access: Access | None,
        wall_now: Callable[[], datetime],
        *,
        is_planned: bool = True,
    ) -> None:
        self._is_planned = is_planned
        self._endpoint = endpoint
        self._source = source
        self._security = security
        self._access = access
        self._wall_now = wall_now
        self._own: Identity | None = None
        self._warnings: tuple[str, ...] = ()
        self._expiring: dict[str, x509.Certificate] = {}  # whose, and the certificate
        self._taken: tuple[Shown, datetime] | None = None  # what was found good, and when
        self._untold = ""  # why it cannot be told whether it still is

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know while this link stands, as sentences: now, as time goes on."""
        now = self._wall_now()
        soon = {whose: expiry_warning(each, now) for whose, each in self._expiring.items()}
        told = (*self._warnings, *(f"{whose} {day}." for whose, day in soon.items() if day))
        return (*told, self._untold) if self._untold else told

    def distrust(self) -> str:
        """Why the server would be refused by now, in the midst of a link; empty where it would not.

        That its certificate has expired meanwhile ends no link: it is judged as of the moment when
        it was taken. Nor does a trust store that cannot be read: that is a warning.
        """
        if self._taken is None or self._access is None:
            return ""
        try:
            verdict = judge(self._taken[0], TrustStore(self._access.pki).read(), self._taken[1])
        except SecurityFault as fault:
            whose = f"{self._endpoint}: whether the server is still trusted cannot be told"
            self._untold = f"{whose}: {fault}"
            return ""
        self._untold = ""
        said = "; ".join(verdict.reasons)
        return f"the server's certificate is trusted no more: {said}" if said else ""

    async def prepare(self, client: Any, request_timeout_s: float) -> None:
        """Give `client` policy, certificates and login.

        Raises SecurityFault where they will not do, and whatever a broken link raises.
        """
        if self._security.policy == "None":
            self._let_open()
            return
        if self._access is None:
            raise UsageError(f"{self._endpoint}: nobody said where our own certificates are kept.")
        own = await asyncio.to_thread(
            own_identity, self._access.pki, self._access.identity, self._wall_now()
        )
        self._own, access = own, self._access
        client.application_uri = own.application_uri
        chosen = self._choose(await _offered(self._endpoint, request_timeout_s))

        def judged(server: Any) -> bytes:
            return self._judged(chosen.ServerCertificate, server.ApplicationUri, access, own)

        async def judge_again(_: Any, server: Any) -> None:
            judged(server)  # what the list of endpoints said was not signed; this is

        certificate = judged(chosen.Server)

        client.certificate_validator = judge_again
        await client.set_security(
            _POLICIES[self._security.policy],
            CertProperties(own.certificate_path, "der"),
            CertProperties(own.key_path, "pem"),
            server_certificate=certificate,
            mode=getattr(ua.MessageSecurityMode, self._security.mode),
        )
        await self._log_in(client, access)

    def explain(self, reason: BaseException) -> None:
        """Raise SecurityFault with what to do, where `reason` is that a server refused us."""
        name = type(reason).__name__
        if self._own is None:
            if str(reason).startswith("No matching endpoints"):  # asyncua's words
                raise SecurityFault(
                    f"{self._endpoint}: the server has no endpoint without security. Set "
                    f"{self._setting('policy')} to what it offers, such as Basic256Sha256."
                ) from reason
            return
        if name.startswith(_OF_OUR_LOGIN):
            raise SecurityFault(
                f"{self._endpoint}: the server refused our login ({name}). Check user and secret "
                f"of `{self._source}` for `{self._own.name}`."
            ) from reason
        if name.startswith(_OF_OUR_CERTIFICATE) or isinstance(reason, ConnectionError):
            said = name if name.startswith("Bad") else "it hung up"
            raise SecurityFault(
                f"{self._endpoint}: the server did not take our certificate ({said}). Have its "
                f"administrator trust {own_text(self._own)}."
            ) from reason

    def _let_open(self) -> None:
        """A link without any protection: on this machine only, and never with a secret."""
        if not is_loopback(self._endpoint):
            raise SecurityFault(
                f"{self._endpoint} is not on this machine, so security policy None is not allowed. "
                f"Set {self._setting('policy')} to what the server offers."
            )
        if self._security.login != "anonymous":
            raise SecurityFault(
                f"{self._endpoint}: a {self._security.login} is never shown over security policy "
                f"None. Set {self._setting('policy')} to what the server offers."
            )
        self._warnings = (
            f"{self._endpoint} is neither encrypted nor signed (security policy None): any program "
            "on this machine can read it, change it or answer in its place.",
        )

    def _choose(self, offered: Sequence[Any]) -> Any:
        """The endpoint of exactly the wanted policy and mode, which takes our kind of login."""
        policy, mode = _POLICIES[self._security.policy].URI, self._security.mode
        fits = [
            each
            for each in offered
            if each.EndpointUrl.startswith("opc.tcp")
            and each.SecurityPolicyUri == policy
            and each.SecurityMode.name == mode
        ]
        if not fits:
            raise SecurityFault(
                f"{self._endpoint} does not offer {self._security.policy} with {mode}. It offers "
                f"{_listed(offered)}. Turn it on at the server, or set {self._setting('policy')} "
                f"and {self._setting('mode')} to what it offers; nothing weaker is tried by itself."
            )
        login = self._security.login
        if login == "password" and mode != "SignAndEncrypt":
            raise SecurityFault(
                f"{self._endpoint}: a password goes over an encrypted link only. Set "
                f"{self._setting('mode')} to SignAndEncrypt."
            )
        takes = {token.TokenType.name for token in fits[0].UserIdentityTokens or ()}
        if _TOKENS[login].name not in takes:
            raise SecurityFault(
                f"{self._endpoint} takes no login by {login} here; it takes "
                f"{', '.join(sorted(takes)) or 'none'}. Change {self._setting('login')}, or turn "
                "it on at the server."
            )
        return fits[0]

    def _setting(self, name: str) -> str:
        """What a person changes, and where."""
        return f"`security: {{{name}: ...}}` in the plant file" if self._is_planned else f"--{name}"

    def _judged(
        self, sent: bytes | None, application_uri: str, access: Access, own: Identity
    ) -> bytes:
        """The server's own certificate where it will do; an unknown one is kept for a person."""
        try:
            chain = chain_of(sent or b"")
            if not chain:
                raise ValueError("it shows none")
        except ValueError as fault:
            raise SecurityFault(
                f"{self._endpoint}: the server shows no certificate that can be used "
                f"({fit_to_show(str(fault))}). Have it issued again for that server."
            ) from fault
        store, now, leaf = TrustStore(access.pki), self._wall_now(), chain[0]
        host = urlsplit(self._endpoint).hostname or ""
        shown = Shown(chain, application_uri, host)
        verdict = judge(shown, store.read(), now)
        if verdict.is_unknown:
            store.reject(leaf)
        if verdict.reasons:
            who = f"{subject(leaf)}, {fit_to_show(application_uri)}, SHA-256 {fingerprint(leaf)}"
            remedy = "Have it issued again for that server."
            if not verdict.faults:
                remedy = (
                    "Compare this fingerprint with the server's own, then type `plantwright certs "
                    f"accept {fingerprint(leaf)}`."
                )
            raise SecurityFault(
                f"{self._endpoint}: the server's certificate ({who}) is refused: "
                f"{'; '.join(verdict.reasons)}. {remedy}"
            )
        whose = f"{self._endpoint}: the server's certificate"
        self._warnings = tuple(f"{whose}: {each}." for each in verdict.warnings)
        ours = f"Our own certificate {own.certificate_path}"
        self._expiring = {whose: leaf, ours: own.certificate}
        self._taken = shown, now
        return as_der(leaf)

    async def _log_in(self, client: Any, access: Access) -> None:
        if self._security.login == "password":
            login = await asyncio.to_thread(access.secrets.password, self._source, access.identity)
            client.set_user(login.user)
            client.set_password(login.password.get_secret_value())
        elif self._security.login == "certificate":
            files = await asyncio.to_thread(
                access.secrets.certificate, self._source, access.identity
            )
            await client.load_client_certificate(files.certificate)
            client.user_private_key = await asyncio.to_thread(read_key, files.key)


async def _offered(endpoint: str, request_timeout_s: float) -> list[Any]:
    """What a server lists of its endpoints, asked over a channel without security."""
    asked = Client(endpoint, request_timeout_s)
    try:
        return list(await asked.connect_and_get_server_endpoints())
    except AssertionError as reason:  # asyncua asserts that a channel was opened
        raise ConnectionError("the server opened no channel to list its endpoints") from reason


def _listed(offered: Sequence[Any]) -> str:
    names = {
        f"{str(each.SecurityPolicyUri).rpartition('#')[2]} with {each.SecurityMode.name.strip('_')}"
        for each in offered
    }
    return fit_to_show(", ".join(sorted(names))) or "nothing"
