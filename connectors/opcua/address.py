"""Endpoint addresses: whether one is well formed, and whether it is this machine."""

from __future__ import annotations

import ipaddress
import logging
from urllib.parse import urlparse

from twin.errors import EndpointUnavailable


def is_loopback(endpoint: str) -> bool:
    """Whether the endpoint's host is this machine by its address or the name localhost."""
    host = urlparse(endpoint).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def quiet_library_log() -> None:
    """Silence asyncua unless its log level was set: we report faults without tracebacks."""
    log = logging.getLogger("asyncua")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL + 1)


def check_address(endpoint: str) -> None:
    """Raise EndpointUnavailable where this is no OPC UA address with host and port."""
    try:
        url = urlparse(endpoint)
        is_right = url.scheme == "opc.tcp" and url.hostname and url.port
    except ValueError:
        is_right = False
    if not is_right:
        raise EndpointUnavailable(
            f"{endpoint} is no OPC UA address. Write it as opc.tcp://HOST:PORT/PATH."
        )
