"""Endpoint addresses: whether one is well formed."""

from __future__ import annotations

import logging

from twin.errors import EndpointUnavailable
from twin.plant import is_opcua_address


def quiet_library_log() -> None:
    """Silence asyncua unless its log level was set: we report faults without tracebacks."""
    log = logging.getLogger("asyncua")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL + 1)


def check_address(endpoint: str) -> None:
    """Raise EndpointUnavailable where this is no OPC UA address with host and port."""
    if not is_opcua_address(endpoint):
        raise EndpointUnavailable(
            f"{endpoint} is no OPC UA address. Write it as opc.tcp://HOST:PORT/PATH."
        )
