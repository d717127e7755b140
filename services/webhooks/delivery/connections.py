"""Connects to receivers: to the very addresses that were resolved and checked."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore
import structlog
from httpcore import SOCKET_OPTION, AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from services.webhooks.delivery.ssrf import AddressRules

log = structlog.get_logger()

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the IP addresses of a name, in the order to try them. Raises OSError."""
LookUp = Callable[..., Sequence[tuple[Any, ...]]]
"""Has the signature of getaddrinfo."""


class ForbiddenDestination(Exception):
    """Forbids a connection: the address is private, or the port another protocol's."""


class Resolver:
    """Resolves names by the system's resolver, in threads of its own.

    A slow name server holds a thread for half a minute, and the event loop's own threads are few.
    Callers that ask for the same name at once share one look-up, so a name holds one thread.
    """

    def __init__(self, threads: int, look_up: LookUp = socket.getaddrinfo) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")
        self._look_up = look_up
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        if (found := self._under_way.get(host)) is None:
            found = asyncio.get_running_loop().run_in_executor(
                self._threads, self._addresses, host, port
            )
            self._under_way[host] = found
            found.add_done_callback(lambda ended: self._forget(host, ended))
        return await asyncio.shield(found)  # a caller that times out leaves it to the others

    def _addresses(self, host: str, port: int) -> list[str]:
        found = self._look_up(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _forget(self, host: str, ended: asyncio.Future[list[str]]) -> None:
        del self._under_way[host]
        if not ended.cancelled():
            ended.exception()  # retrieved, though no caller may be left

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedBackend(AsyncNetworkBackend):
    """Opens connections for httpcore. It resolves a name once and connects to that result.

    A second look-up could return another address. A name with a single forbidden address is
    refused: who mixes public and private addresses means the private one.
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
        """Connects to the first address that answers. `timeout`: of all addresses together.

        Raises ForbiddenDestination, or httpcore's ConnectError or ConnectTimeout.
        """
        addresses = await self._permitted(host, port)
        # Divided, or an address that leads nowhere would take the others' time
        share = timeout and timeout / max(1, len(addresses))
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _permitted(self, host: str, port: int) -> list[str]:
        if not self._rules.permits_port(port):
            raise ForbiddenDestination(f"port {port} is not among those that webhooks may use")
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:  # a label that is too long, or empty, is no name
            raise _refused(host, f"can't be resolved: {error}") from error
        if not all(map(self._rules.permits, addresses)):
            raise _refused(host, "leads to a private or otherwise special address")
        return addresses


def _refused(host: str, reason: str) -> ForbiddenDestination:
    # Only the log has the reason. A client could use it to find out which internal names exist
    log.info("receiver_refused", host=host, reason=reason)
    return ForbiddenDestination("the name can't be resolved, or leads to no public address")
