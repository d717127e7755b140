"""Fetches images and videos from users' URLs, only from addresses that were checked."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from services.publisher.delivery.media_failures import MediaRejected, MediaUnreachable
from shared.contract.errors import ErrorCode
from shared.contract.urls import normalize_url
from shared.http.address_rules import AddressRules
from shared.http.app import VERSION
from shared.http.checked_connections import CheckedBackend, ForbiddenAddress, Resolve, to_target

USER_AGENT = f"Pinflow-Media/{VERSION}"
MAX_REDIRECTS = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, 425})
"""4xx that may be good later. All 5xx are as well."""
IDLE_SECONDS = 5.0
STALL_SECONDS = 30.0
"""Longest wait for the next bytes of a file."""
CONNECT_SECONDS = 5.0

CONNECTION_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,
)


class FetchedFile:
    """A file whose body is being read. `size` is None if the server does not say it."""

    def __init__(self, response: httpcore.Response, max_bytes: int, noun: str) -> None:
        self._response = response
        self._max_bytes = max_bytes
        self._noun = noun
        self.size = _read_size(response)
        if self.size is not None and self.size > max_bytes:
            raise self._too_large()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields the body. Raises MediaRejected as soon as it is too large, or MediaUnreachable."""
        received = 0
        try:
            async for chunk in self._response.aiter_stream():
                received += len(chunk)
                if received > self._max_bytes:
                    raise self._too_large()
                yield chunk
        except CONNECTION_ERRORS as error:
            reason = f"the connection broke ({type(error).__name__})"
            raise unreachable(self._noun, reason) from None

    def _too_large(self) -> MediaRejected:
        limit = self._max_bytes // (1024 * 1024)
        return MediaRejected(
            f"The {self._noun} at image_url is larger than {limit} MiB, which is Pinterest's "
            "maximum. Use a smaller file, then retry the pin."
        )


class MediaFetcher:
    """Fetches files. Uses no proxy, keeps no cookies and sends no credentials.

    Follows at most 3 redirects. Each is checked as the URL itself is, because it may lead to a
    private address.
    """

    def __init__(self, rules: AddressRules, resolve: Resolve, *, max_connections: int) -> None:
        self._rules = rules
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=max_connections,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=CheckedBackend(rules, resolve),
        )

    @asynccontextmanager
    async def open(self, url: str, *, max_bytes: int, noun: str) -> AsyncIterator[FetchedFile]:
        """Enters when the server has answered 200. The caller limits the time.

        `url` is normalized, so that its host is in ASCII. `noun` is "image" or "video", for
        messages. Raises MediaUnreachable if a later try can succeed, otherwise MediaRejected.
        """
        for _ in range(MAX_REDIRECTS + 1):
            if violation := self._rules.find_violation(url):
                raise _rejected(noun, violation)
            stream = self._pool.stream(
                "GET",
                to_target(urlsplit(url)),
                headers=_build_headers(url),
                extensions={"timeout": _timeouts()},
            )
            async with _opening(stream, noun) as response:
                location = _find_location(response)
                if location is None:
                    _require_success(response.status, noun)
                    yield FetchedFile(response, max_bytes, noun)
                    return
            url = _follow(url, location, noun)
        raise _rejected(noun, f"it redirects more than {MAX_REDIRECTS} times")

    async def close(self) -> None:
        await self._pool.aclose()


@asynccontextmanager
async def _opening(stream: Any, noun: str) -> AsyncIterator[httpcore.Response]:
    """Enters a response's block, and translates what fails before its head has arrived."""
    try:
        response = await stream.__aenter__()
    except ForbiddenAddress as error:
        # Not final: an unknown host may be known later, and a difference between unknown and
        # private hosts would tell users which internal hosts exist
        raise unreachable(noun, str(error)) from None
    except CONNECTION_ERRORS as error:
        raise unreachable(noun, _describe(error)) from None
    try:
        yield response
    finally:
        # Closes the connection if its body was not read to the end
        await stream.__aexit__(None, None, None)


@asynccontextmanager
async def limit_time(seconds: float, failure: Callable[[], Exception]) -> AsyncIterator[None]:
    """Raises `failure` if the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise failure() from None


def unreachable(noun: str, reason: str) -> MediaUnreachable:
    return MediaUnreachable(
        f"The {noun} at image_url can't be fetched: {reason}. Pinflow tries again later."
    )


def _rejected(noun: str, reason: str) -> MediaRejected:
    return MediaRejected(
        f"The {noun} at image_url can't be fetched: {reason}. Correct the URL in your file, and "
        "import it with on_existing=update.",
        ErrorCode.MEDIA_UNREACHABLE,
    )


def _build_headers(url: str) -> list[tuple[str, str]]:
    parts = urlsplit(url)
    return [
        ("Host", parts.netloc.rpartition("@")[2]),
        ("User-Agent", USER_AGENT),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),  # the limits are those of the decoded file
    ]


def _timeouts() -> dict[str, float]:
    return {"connect": CONNECT_SECONDS, "read": STALL_SECONDS, "write": STALL_SECONDS}


def _find_location(response: httpcore.Response) -> str | None:
    if response.status not in REDIRECTS:
        return None
    for name, value in response.headers:
        if name.lower() == b"location":
            return value.decode("latin-1")
    return None


def _follow(url: str, location: str, noun: str) -> str:
    try:
        return normalize_url(urljoin(url, location))
    except ValueError:
        raise _rejected(noun, "it redirects to something that is no http(s) URL") from None


def _require_success(status: int, noun: str) -> None:
    if status == HTTPStatus.OK:
        return
    if status in PASSING_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise unreachable(noun, f"its server answered {status}")
    raise _rejected(noun, f"its server answered {status}")


def _read_size(response: httpcore.Response) -> int | None:
    """Returns the size of the body. None: the server does not say it.

    A length beside chunks is ignored, as the reading of the body does (RFC 9112, 6.3): a server
    could say 1 byte and send 20 MiB.
    """
    headers = {name.lower(): value for name, value in response.headers}
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and b"transfer-encoding" not in headers else None


def _describe(error: Exception) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return "its server does not answer"
    return f"no connection to its server ({type(error).__name__})"
