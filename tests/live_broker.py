"""A tool of the tests: a mosquitto broker of our own on this machine, and a device beside it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
from one_tank import NOON, free_port

from twin.plant import MqttSource, Plant, Role, Tag

_SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"


OPEN = "allow_anonymous true"
SAVES_AT_ONCE = ("autosave_on_changes true", "autosave_interval 1")


class Broker:
    """One broker with its own folder; `extra` are lines of its configuration.

    With SAVES_AT_ONCE it remembers over a kill what it took.
    """

    def __init__(self, folder: Path, extra: Iterable[str] = (OPEN,)) -> None:
        self.port = free_port()
        self.folder = folder
        folder.mkdir(exist_ok=True)
        owner = ["user root"] if os.geteuid() == 0 else []  # else it gives up writing here
        kept = ["persistence true", f"persistence_location {folder}/", "max_queued_messages 100000"]
        lines = [f"listener {self.port} 127.0.0.1", *owner, *kept, *extra]
        self._file = folder / "mosquitto.conf"
        self._file.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path=_SEARCHED)
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        give_up_s = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, "mosquitto ended at once"
                assert time.monotonic() < give_up_s, "mosquitto does not answer"
                time.sleep(0.02)

    def signal(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    def kill(self) -> None:
        """As if its machine lost power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def topic_plant(port: int, topics: dict[str, str], **source: object) -> Plant:
    """A plant of nothing but MQTT tags: name -> topic, with or without a key."""
    broker = {"kind": "mqtt", "name": "gateway", "broker": f"mqtt://127.0.0.1:{port}"}
    return Plant(
        plant="topics",
        title="Topics",
        sample_s=1,
        tags=tuple(
            Tag(name=name, role=Role.AUX, unit="", node=node) for name, node in topics.items()
        ),
        sources=(MqttSource(**{**broker, **source}),),
    )


def stamped(value: float, seconds: float = 0.0, **more: object) -> str:
    """A message with its own time, `seconds` after noon."""
    return json.dumps({"value": value, "time": NOON.timestamp() + seconds, **more})


@asynccontextmanager
async def device(port: int, **options: Any) -> AsyncIterator[aiomqtt.Client]:
    """Something that publishes; `options` are aiomqtt's."""
    async with aiomqtt.Client(
        "127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, timeout=20, **options
    ) as client:
        client.pending_calls_threshold = 100_000  # publishing all at once is meant so
        yield client


async def publish_all(port: int, topic: str, payloads: Iterable[str | bytes]) -> None:
    """Everything at QoS 1: when it returns the broker has it."""
    async with device(port) as client:
        await asyncio.gather(*(client.publish(topic, each, qos=1) for each in payloads))
