"""Connects to hosts of users' URLs, only to addresses that were resolved and checked."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import SplitResult

import httpcore
import structlog
from httpcore import SOCKET_OPTION, AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from shared.http.address_rules import AddressRules
from shared.runtime.tasks import retrieve_exception

log = structlog.get_logger()

LOG_INTERVAL_SECONDS = 60.0
"""The log has a forbidden host again after this time, or when the reason changes."""
MAX_LOGGED_HOSTS = 1000

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns a host's IP addresses, in the order to try them. Raises OSError."""
AddressLookup = Callable[..., Sequence[tuple[Any, ...]]]
"""A function with the signature of getaddrinfo."""


class ForbiddenAddress(Exception):
    """The host's address or port is not allowed, or the host can't be resolved."""


class Resolver:
    """Resolves hosts with the system's resolver, in its own threads.

    A slow name server blocks a thread for half a minute, and the event loop's own threads are few.
    Concurrent calls for one host share a lookup, so a host blocks at most one thread.
    """

    def __init__(self, threads: int, lookup: AddressLookup = socket.getaddrinfo) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")
        self._lookup = lookup
        self._pending: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        if (lookup := self._pending.get(host)) is None:
            lookup = asyncio.get_running_loop().run_in_executor(
                self._threads, self._find_addresses, host, port
            )
            self._pending[host] = lookup
            lookup.add_done_callback(retrieve_exception)
            lookup.add_done_callback(lambda _done: self._pending.pop(host))
        # A caller that times out must not cancel the lookup for the others
        return await asyncio.shield(lookup)

    def _find_addresses(self, host: str, port: int) -> list[str]:
        infos = self._lookup(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in infos))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedBackend(AsyncNetworkBackend):
    """Opens connections for httpcore. Resolves a host once and connects to that result.

    A second lookup could return another address. A host with even one forbidden address is
    rejected: mixing public and private addresses is a typical attack on the private one.
    """

    def __init__(
        self,
        rules: AddressRules,
        resolve: Resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._clock = clock
        self._logged: dict[str, tuple[str, float]] = {}
        self._backend = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connects to the first address that answers. `timeout` covers all addresses together.

        Raises ForbiddenAddress, or httpcore's ConnectError or ConnectTimeout.
        """
        addresses = await self._resolve_permitted(host, port)
        # Divided, so that an address that never answers leaves time for the others
        share = timeout and timeout / max(1, len(addresses))
        failure: Exception = httpcore.ConnectError("the host has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _resolve_permitted(self, host: str, port: int) -> list[str]:
        if not self._rules.permits_port(port):
            raise ForbiddenAddress(self._rules.describe_forbidden_port(port))
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label is empty or too long
            raise self._forbid(host, f"can't be resolved: {error}") from error
        if not all(map(self._rules.permits, addresses)):
            raise self._forbid(host, "resolves to a private or otherwise special address")
        return addresses

    def _forbid(self, host: str, reason: str) -> ForbiddenAddress:
        # Only the log has the reason: from the response a client could learn which internal hosts
        # exist
        now = self._clock()
        logged_reason, logged_at = self._logged.get(host, ("", float("-inf")))
        if reason != logged_reason or now >= logged_at + LOG_INTERVAL_SECONDS:
            if len(self._logged) >= MAX_LOGGED_HOSTS:
                self._logged.clear()
            self._logged[host] = (reason, now)
            log.info("address_forbidden", host=host, reason=reason)
        return ForbiddenAddress(self._rules.describe_forbidden_host())


def to_target(url: SplitResult) -> httpcore.URL:
    """Converts a URL without user and fragment, which no request has."""
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return httpcore.URL(
        scheme=url.scheme.encode(),
        host=(url.hostname or "").encode(),
        port=url.port,
        target=target.encode(),
    )
