"""Users, passwords and user certificates: from a secret file or the environment, nowhere else.

A secret is never shown: no text, record, log or exception made here has one in it.

    # secrets.yaml, readable by its owner alone
    opcua:                      # a source of the plant file, by its name
      user: reader
      password: ...
      write: {user: operator, password: ...}        # for one identity alone
      collect: {certificate: user.der, key: user.pem}

As variables: PLANTWRIGHT_OPCUA_USER, PLANTWRIGHT_OPCUA_WRITE_PASSWORD, ..._CERTIFICATE, ..._KEY.
What is told for an identity counts before what is told for all, and of each the environment
before the file.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from connectors.security.own import refuse_if_open_to_others
from connectors.security.secret_file import CERTIFICATE, PASSWORD, Told, parsed
from twin.errors import SecurityFault


@dataclass(frozen=True)
class PasswordLogin:
    """A user's name and password."""

    user: str
    password: SecretStr


@dataclass(frozen=True)
class CertificateLogin:
    """The files of a user's certificate and key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Secrets:
    """Where secrets are told; looked up anew at every question, so that they can be changed."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def password(self, source: str, identity: str) -> PasswordLogin:
        """The user and password for a source; raises SecurityFault where none is told."""
        user, password = self._pair(source, identity, PASSWORD)
        return PasswordLogin(user, SecretStr(password))

    def told_password(self, source: str) -> PasswordLogin | None:
        """The user and password told for a source and every identity; None where there is none."""
        found = self._found(source, "", PASSWORD)
        return None if found is None else PasswordLogin(found[0], SecretStr(found[1]))

    def certificate(self, source: str, identity: str) -> CertificateLogin:
        """The user certificate and key for a source; raises SecurityFault where none is told."""
        files = [Path(each) for each in self._pair(source, identity, CERTIFICATE)]
        certificate, key = (self.path.parent / each for each in files)  # absolute ones stay so
        return CertificateLogin(certificate, key)

    def _pair(self, source: str, identity: str, names: tuple[str, str]) -> tuple[str, str]:
        found = self._found(source, identity, names)
        if found is not None:
            return found
        raise SecurityFault(
            f"{source}: it is logged in to, and no {names[0]} and {names[1]} are told "
            f"for `{identity}`.{self._alike(source)} Set them in {self.path} (mode 0600) or as "
            f"{_variable(f'{source}_{identity}', names[0])} and "
            f"{_variable(f'{source}_{identity}', names[1])}."
        )

    def _found(self, source: str, identity: str, names: tuple[str, str]) -> tuple[str, str] | None:
        filed = self._filed().get(source, Told(0))
        places = [
            self._environed(f"{source}_{identity}", names),
            [filed.identities.get(identity, {}).get(name, "") for name in names],
            self._environed(source, names),
            [filed.parts.get(name, "") for name in names],
        ]
        for first, second in places:
            if first and second:
                return first, second
            if first or second:
                raise SecurityFault(
                    f"{source}: {names[not first]} is told and {names[bool(first)]} is missing. "
                    f"Set both, in {self.path} or as {_variable(source, names[0])} and "
                    f"{_variable(source, names[1])}."
                )
        return None

    def _alike(self, source: str) -> str:
        """Where the file has a source whose name reads like this one's."""
        told = self._filed()
        alike = difflib.get_close_matches(source, told, n=1)
        if not alike:
            return ""
        return f" Line {told[alike[0]].line} of {self.path} names a source that reads much like it."

    def _environed(self, stem: str, names: tuple[str, str]) -> list[str]:
        return [self.environment.get(_variable(stem, name), "") for name in names]

    def _filed(self) -> dict[str, Told]:
        """What the file says, by source; nothing where there is no file."""
        try:
            with self.path.open("rb") as file:
                refuse_if_open_to_others(self.path, os.fstat(file.fileno()).st_mode)
                return parsed(self.path, file.read())
        except FileNotFoundError:
            return {}
        except OSError as fault:
            raise SecurityFault(
                f"{self.path}: the secret file cannot be read ({fault.strerror}). Check who may "
                "read it."
            ) from fault


def _variable(stem: str, name: str) -> str:
    return f"PLANTWRIGHT_{re.sub(r'[^A-Za-z0-9]', '_', stem).upper()}_{name.upper()}"
