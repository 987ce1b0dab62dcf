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

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from connectors.security.own import IDENTITIES, refuse_if_open_to_others
from twin.errors import SecurityFault

_PASSWORD = ("user", "password")
_CERTIFICATE = ("certificate", "key")


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
        user, password = self._pair(source, identity, _PASSWORD)
        return PasswordLogin(user, SecretStr(password))

    def told_password(self, source: str) -> PasswordLogin | None:
        """The user and password told for a source and every identity; None where there is none."""
        found = self._found(source, "", _PASSWORD)
        return None if found is None else PasswordLogin(found[0], SecretStr(found[1]))

    def certificate(self, source: str, identity: str) -> CertificateLogin:
        """The user certificate and key for a source; raises SecurityFault where none is told."""
        files = [Path(each) for each in self._pair(source, identity, _CERTIFICATE)]
        certificate, key = (self.path.parent / each for each in files)  # absolute ones stay so
        return CertificateLogin(certificate, key)

    def _pair(self, source: str, identity: str, names: tuple[str, str]) -> tuple[str, str]:
        found = self._found(source, identity, names)
        if found is not None:
            return found
        raise SecurityFault(
            f"{source}: it is logged in to, and no {names[0]} and {names[1]} are told "
            f"for `{identity}`. Set them in {self.path} (mode 0600) or as "
            f"{_variable(f'{source}_{identity}', names[0])} and "
            f"{_variable(f'{source}_{identity}', names[1])}."
        )

    def _found(self, source: str, identity: str, names: tuple[str, str]) -> tuple[str, str] | None:
        filed = self._filed(source)
        own = filed.get(identity) if identity in IDENTITIES else None
        places = [
            self._environed(f"{source}_{identity}", names),
            self._pair_of(own if isinstance(own, dict) else {}, names),
            self._environed(source, names),
            self._pair_of(filed, names),
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

    def _environed(self, stem: str, names: tuple[str, str]) -> tuple[str, str]:
        first, second = (self.environment.get(_variable(stem, name), "") for name in names)
        return first, second

    def _pair_of(self, told: Mapping[str, Any], names: tuple[str, str]) -> tuple[str, str]:
        for name in names:
            if not isinstance(told.get(name, ""), str):  # 0123 would be read as 83
                raise SecurityFault(f"{self.path}: put quotes around each `{name}` in it.")
        first, second = (told.get(name, "") for name in names)
        return first, second

    def _filed(self, source: str) -> Mapping[str, Any]:
        """What the file says of a source; nothing where there is no file."""
        try:
            with self.path.open("rb") as file:
                refuse_if_open_to_others(self.path, os.fstat(file.fileno()).st_mode)
                content = file.read()
        except FileNotFoundError:
            return {}
        except OSError as fault:
            raise SecurityFault(
                f"{self.path}: the secret file cannot be read ({fault.strerror}). Check who may "
                "read it."
            ) from fault
        told = self._parsed(content)
        return told.get(source) or {}

    def _parsed(self, content: bytes) -> Mapping[str, Mapping[str, Any]]:
        try:
            told = yaml.safe_load(content) or {}
        except yaml.MarkedYAMLError as fault:
            mark = fault.problem_mark or fault.context_mark
            line = f" (line {mark.line + 1})" if mark is not None else ""
            # The parser's own text quotes the line, and that may hold a password.
            raise SecurityFault(f"{self.path}{line} is no YAML. Correct it.") from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            raise SecurityFault(f"{self.path} is no YAML text. Correct it.") from None
        except ValueError:  # such as 2026-99-99, which reads as a date and is none
            raise SecurityFault(
                f"{self.path} is no YAML: put quotes around each user and password in it."
            ) from None
        is_whole = isinstance(told, dict) and all(
            isinstance(name, str) and isinstance(each, dict) for name, each in told.items()
        )
        if not is_whole:
            raise SecurityFault(
                f"{self.path}: below each source's name stand `user` and `password`, or "
                "`certificate` and `key`. Correct it."
            )
        return told


def _variable(stem: str, name: str) -> str:
    return f"PLANTWRIGHT_{re.sub(r'[^A-Za-z0-9]', '_', stem).upper()}_{name.upper()}"
