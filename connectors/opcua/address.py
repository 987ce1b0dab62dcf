"""Endpoint addresses: whether one is well formed."""

from __future__ import annotations

import logging

from twin.errors import EndpointUnavailable
from twin.plant import is_opcua_address


def quiet_library_log() -> None:
    """Silence asyncua unless its log level was set: we report faults without tracebacks.

    Its requests are never logged in full: a login has a password in it.
    """
    log = logging.getLogger("asyncua")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncua.client.ua_client.UASocketProtocol").addFilter(_is_no_request)


def _is_no_request(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def check_address(endpoint: str) -> None:
    """Raise EndpointUnavailable where this is no OPC UA address with host and port."""
    if not is_opcua_address(endpoint):
        raise EndpointUnavailable(
            f"{endpoint} is no OPC UA address. Write it as opc.tcp://HOST:PORT/PATH."
        )
