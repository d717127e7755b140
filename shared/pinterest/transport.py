"""Sends one HTTP request to Pinterest, at most once, and reads the whole answer.

shared/pinterest/client.py imports this module with the first request: httpx costs 0.1 s of CPU.
"""

import asyncio
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import httpx

from shared.pinterest.failures import AnswerLost, NotSent

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Maximum size of an answer. A page of 250 boards with all fields has about 0.5 MB."""
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # the maximum size is that of the decoded answer
    "User-Agent": f"Pinflow/{version('pinflow')}",
}
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=200)
"""The callers limit the requests. With httpx's 20 idle connections, most requests of 50 accounts
would need a TLS handshake. They are idle for at most 5 s (httpx's default): if Pinterest closes one
while a request is sent, its answer is lost."""
SENDING_EVENT = "http11.send_request_headers.started"
"""httpcore's trace event before the first byte of a request is written (version 1.0)."""

# httpcore 1.0 tries to import sniffio several times for each request. If it is not installed,
# Python searches its whole path each time: 5 % of the delivery's CPU
if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class RawAnswer:
    status: int
    headers: Mapping[str, str]
    """The names are in lower case."""
    body: bytes


class Transport:
    """A pool of connections. Uses no proxy, follows no redirects and keeps no cookies."""

    def __init__(self, timeout_seconds: float) -> None:
        """Limits a whole call: connecting, sending, and reading the answer."""
        self._timeout_seconds = timeout_seconds
        # httpcore closes a connection whose TLS handshake times out, but not if the timeout of
        # the whole call cancels it (version 1.0.9)
        timeout = httpx.Timeout(timeout_seconds, connect=0.9 * timeout_seconds)
        self._extensions = {"timeout": timeout.as_dict()}
        # Not httpx.AsyncClient, whose work for cookies, redirects and authentication nothing needs
        self._http = httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context(), limits=LIMITS, trust_env=False
        )

    async def send(
        self,
        operation: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> RawAnswer:
        """Raises NotSent if no byte of the request was written, and AnswerLost after that."""
        is_sent = False

        async def notice_sending(event: str, _info: object) -> None:
            nonlocal is_sent
            is_sent = is_sent or event == SENDING_EVENT

        request = httpx.Request(
            method,
            url,
            headers={**HEADERS, **headers},
            params=params,
            content=content,
            extensions={**self._extensions, "trace": notice_sending},
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange(request)
        except TimeoutError:
            reason = f"no answer within {self._timeout_seconds:g} s"
        # AttributeError: anyio 4.16 asks a socket for its name that a reset has just closed
        except (httpx.HTTPError, httpx.StreamError, OSError, AttributeError) as error:
            # Only the type: the text may have the value of a header, which is a token
            reason = type(error).__name__
        if is_sent:
            raise AnswerLost(operation, f"Pinterest's answer was lost: {reason}.")
        raise NotSent(operation, f"Pinterest can't be reached: {reason}.")

    async def close(self) -> None:
        await self._http.aclose()

    async def _exchange(self, request: httpx.Request) -> RawAnswer:
        response = await self._http.handle_async_request(request)
        try:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise httpx.DecodingError("too large", request=request)
        finally:
            await response.aclose()
        return RawAnswer(response.status_code, response.headers, bytes(body))
