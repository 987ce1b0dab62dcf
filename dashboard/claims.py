"""What only one of us may have at a time: a port, an endpoint, the steering of a plant.

Claimed early, so that a person hears of it before anything is deleted, made or started.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

from twin.errors import EndpointUnavailable, PlantwrightError
from twin.plant import Plant


def claim_port(port: int, remedy: str = "set PLANTWRIGHT_DASHBOARD_PORT to another one") -> None:
    """Find out whether a port of this machine can be had."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except OSError as reason:
        raise EndpointUnavailable(
            f"Port {port} on this machine is not to be had: "
            f"{os.strerror(reason.errno or 0).lower()}. End the program that has it, or {remedy}."
        ) from reason


def claim_endpoint(plant: Plant) -> None:
    """Find out whether an emulator can listen at the plant's endpoint."""
    port = urlparse(plant.opcua.endpoint).port if plant.opcua is not None else None
    if port:
        claim_port(port, "set PLANTWRIGHT_ENDPOINT to opc.tcp://127.0.0.1:PORT/")


@contextmanager
def only_one(lock: Path, what: str) -> Iterator[None]:
    """Let nobody else do `what` meanwhile; the kernel takes the lock back however we end.

    Raises PlantwrightError if another process holds it.
    """
    with lock.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise PlantwrightError(
                f"{what} runs already (process {file.read().strip() or 'unknown'}, "
                f"lock {lock.absolute()}). End it first, or set PLANTWRIGHT_STATE_DIR to another "
                "folder."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
