"""What a server's address says by itself. Nothing here resolves a name or connects."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_opcua_address(endpoint: str) -> bool:
    """Whether it reads opc.tcp://HOST:PORT, with or without a path.

    A user or a password in it is refused: an address is shown and logged everywhere.
    """
    return _is_address(endpoint, ("opc.tcp",))


def is_mqtt_address(broker: str) -> bool:
    """Whether it reads mqtt://HOST:PORT or mqtts://HOST:PORT; with a user in it, it does not."""
    return _is_address(broker, ("mqtt", "mqtts"))


def _is_address(endpoint: str, schemes: tuple[str, ...]) -> bool:
    # urlsplit forgives blanks and drops line ends; whoever connects does neither.
    if any(character.isspace() for character in endpoint):
        return False
    try:
        address = urlsplit(endpoint)
        host = address.hostname or ""
        host.encode("idna")  # a name that cannot be looked up raises UnicodeError, a ValueError
        is_whole = bool(host) and bool(address.port) and address.username is None
        return address.scheme in schemes and is_whole
    except ValueError:
        return False


def is_loopback(endpoint: str) -> bool:
    """Whether the host is this machine, by a loopback address or as localhost.

    Any other name counts as elsewhere, also one that leads here: nobody is asked.
    """
    try:
        host = urlsplit(endpoint).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
