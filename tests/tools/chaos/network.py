"""A network that can be cut, silenced and slowed: a TCP proxy for each server, in a thread of their
own.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

CHUNK = 64 * 1024
HOST = "127.0.0.1"
T = TypeVar("T")


class Proxy:
    """Passes on what comes to `port` to `upstream`.

    Its faults are set from any thread, through the Network.
    """

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self._upstream = upstream
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay = 0.0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, HOST, self.port)

    async def close(self) -> None:
        self._server.close()
        self._flowing.set()
        await self.cut()

    async def cut(self) -> None:
        """Every connection is reset, every new one too."""
        self._is_cut = True
        for writer in list(self._writers):
            _reset(writer)

    async def silence(self) -> None:
        """Connections stand, and new ones are taken; nothing comes through, and nobody is told."""
        self._flowing.clear()

    async def slow(self, seconds: float) -> None:
        """Each chunk, either way, takes so much longer."""
        self._delay = seconds

    async def mend(self) -> None:
        self._is_cut, self._delay = False, 0.0
        self._flowing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            _reset(writer)
            return
        self._writers.add(writer)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._upstream)
        except OSError:  # the server is away: so it looks to the client as well
            _reset(writer)
            self._writers.discard(writer)
            return
        self._writers.add(upstream_writer)
        await asyncio.gather(
            self._pass(reader, upstream_writer), self._pass(upstream_reader, writer)
        )

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(CHUNK):
                await self._flowing.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(chunk)
                await writer.drain()
        except OSError:
            _reset(writer)
        else:
            writer.close()
        finally:
            self._writers.discard(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    # Lingering for no time makes it a reset; closed without it looks as if the server had said
    # good-bye
    with suppress(OSError):  # it is closed already
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()


class Network:
    """Runs proxies in a thread, so that whoever waits for a process does not stop the traffic."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._proxies: list[Proxy] = []

    def proxy(self, upstream: int, port: int) -> Proxy:
        async def make() -> Proxy:
            proxy = Proxy(port, upstream)
            await proxy.start()
            return proxy

        self._proxies.append(self.do(make()))
        return self._proxies[-1]

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """From another thread: run it there and wait for its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for proxy in self._proxies:
            await proxy.close()
        # Reset, connections end by themselves. Cancelled, asyncio's streams would log it
        await asyncio.gather(
            *asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True
        )
