"""Connections to receivers: to the very address that was looked at, and found to be one that may be connected to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import httpcore
from httpcore import SOCKET_OPTION, AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from services.webhooks.addresses import AddressRules

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The IP addresses of a name, in the order in which to try them. Raises OSError."""


class ForbiddenDestination(Exception):
    """It may not be connected to: a private address, or a port of another protocol's."""


class Resolver:
    """The system's, in threads of its own: a slow name server holds one for half a minute, and the event loop's own are few."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int | bytes, ...]]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class CheckedBackend(AsyncNetworkBackend):
    """What httpcore connects by. A name is resolved once, here; a second look, by whoever connects, could be given another address.

    One address that is not permitted refuses the name: whoever mixes public and private ones means the private one.
    """

    def __init__(self, rules: AddressRules, resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        self._backend = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """`timeout`: of all addresses together. Raises ForbiddenDestination, or httpcore's ConnectError or ConnectTimeout."""
        addresses = await self._permitted(host, port)
        share = timeout and timeout / max(1, len(addresses))  # or one that leads nowhere would take the others' time
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _permitted(self, host: str, port: int) -> list[str]:
        if not self._rules.permits_port(port):
            raise ForbiddenDestination(f"port {port} is not among those that webhooks may use")
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:  # a label that is too long, or empty, is no name
            raise httpcore.ConnectError(f"the name can't be resolved: {error}") from error
        if not all(map(self._rules.permits, addresses)):
            raise ForbiddenDestination("the name leads to a private or otherwise special address")
        return addresses
