"""TCP proxies in front of the servers, which can cut, silence and slow the connections.

All proxies run in one thread of their own.
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
    """Forwards connections from `port` to `upstream`.

    Run its methods in the network's thread: `Network.do`.
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
        """Resets all connections, and all new ones until `mend`."""
        self._is_cut = True
        for writer in list(self._writers):
            _reset(writer)

    async def silence(self) -> None:
        """Holds all data back until `mend`. Connections stay open, and new ones are accepted."""
        self._flowing.clear()

    async def slow(self, seconds: float) -> None:
        """Delays each chunk by `seconds`, in both directions."""
        self._delay = seconds

    async def mend(self) -> None:
        """Ends all faults."""
        self._is_cut, self._delay = False, 0.0
        self._flowing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            _reset(writer)
            return
        self._writers.add(writer)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._upstream)
        except OSError:  # the server is down, and the client should see that
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
    # With a linger time of 0 the close sends a reset. Otherwise it looks like a normal end of the
    # connection
    with suppress(OSError):  # the socket is closed already
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()


class Network:
    """Runs the proxies in a thread. The traffic continues while the main thread is blocked."""

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
        """Runs a coroutine in the network's thread and waits for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for proxy in self._proxies:
            await proxy.close()
        # The tasks end because their connections were reset. If they were canceled, asyncio's
        # streams would log it
        await asyncio.gather(
            *asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True
        )
