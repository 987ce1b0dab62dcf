"""A network between us and a server that breaks as real ones do, on this machine.

A tool of the tests: a TCP relay that cuts with a reset, refuses, swallows everything without a
word (a black hole), is late or slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

_PIECE = 65_536


class FaultyNetwork:
    """Relays this machine's `port` to `server_port`; sound until told otherwise.

    `delay_s` and `bytes_per_s` (0: no bound) hold for each direction and may be set at any time.
    `resets` counts connections that the client or the server reset.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = 0
        self.delay_s = 0.0
        self.bytes_per_s = 0.0
        self.resets = 0
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sound = asyncio.Event()
        self._sound.set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def accept(self) -> None:
        """Take connections again, at the same port as ever."""
        self._listener = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Refuse new connections."""
        if self._listener is not None:
            self._listener.close()

    def cut(self) -> None:
        """Reset every connection: not a word of farewell, and what was under way is lost."""
        for writer in self._writers:
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                found = writer.get_extra_info("socket")
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    def swallow(self) -> None:
        """Let nothing through, while every connection stands and new ones are taken."""
        self._sound.clear()

    def heal(self) -> None:
        """Let everything through again, as TCP would: also what was sent meanwhile."""
        self._sound.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._sound.wait()
            onward = await asyncio.open_connection("127.0.0.1", self.server_port)
            self._writers.add(onward[1])
            ways = [self._pass(reader, onward[1]), self._pass(onward[0], writer)]
            running = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            onward[1].close()
            self._writers.discard(onward[1])
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await self._read(reader):
                slow_s = len(piece) / self.bytes_per_s if self.bytes_per_s else 0.0
                if self.delay_s + slow_s:
                    await asyncio.sleep(self.delay_s + slow_s)
                await self._sound.wait()
                writer.write(piece)
                await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(_PIECE)
        except ConnectionResetError:
            self.resets += 1
            raise
