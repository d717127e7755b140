"""Sends one request to one receiver and returns its response."""

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

import httpcore

from services.webhooks.delivery.model import ClaimedDelivery, ReceiverResponse
from services.webhooks.delivery.signing import signed_headers
from shared.contract.pins import make_printable
from shared.http.app import VERSION
from shared.http.checked_connections import CheckedBackend, ForbiddenAddress, to_target

USER_AGENT = f"Pinflow-Webhooks/{VERSION}"
MAX_BODY_BYTES = 4096
"""Maximum bytes that are read of a response's body.

The body is ignored, but a connection can be reused only after its whole body was read. After more
bytes the connection is closed.
"""
MAX_BODY_SECONDS = 1.0
IDLE_SECONDS = 5.0
MAX_ERROR_LENGTH = 200
SUCCESS, REDIRECT = range(200, 300), range(300, 400)

SEND_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,
)


class WebhookSender:
    """Sends claimed deliveries. Follows no redirects, uses no proxy and keeps no cookies."""

    def __init__(
        self,
        backend: CheckedBackend,
        *,
        timeout_seconds: float,
        max_connections: int,
        ca_file: str | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Limits a request to `timeout_seconds`, from name resolution to the end of the response.

        Raises OSError if `ca_file` can't be read.
        """
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(cafile=ca_file),
            max_connections=max_connections,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=backend,
        )

    async def send(self, delivery: ClaimedDelivery) -> ReceiverResponse:
        """Makes one attempt. Raises nothing that a receiver could cause."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(delivery)
        except TimeoutError:
            return ReceiverResponse(None, f"no response within {self._timeout_seconds:g} s")
        except ForbiddenAddress as error:
            return ReceiverResponse(None, f"not sent: {error}")
        except SEND_ERRORS as error:
            reason = make_printable(f"{type(error).__name__}: {error}", MAX_ERROR_LENGTH)
            return ReceiverResponse(None, reason)

    async def _post(self, delivery: ClaimedDelivery) -> ReceiverResponse:
        url, body = urlsplit(delivery.url), delivery.body.encode()
        signature_headers = signed_headers(
            delivery.secret,
            event_name=delivery.event_name,
            event_id=delivery.event_id,
            delivery_id=str(delivery.delivery_id),
            timestamp=int(self._clock()),
            body=body,
        )
        headers = {
            "Host": url.netloc,
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **signature_headers,
        }
        timeouts = {"timeout": {"connect": self._timeout_seconds}}
        async with self._pool.stream(
            "POST",
            to_target(url),
            headers=list(headers.items()),
            content=body,
            extensions=timeouts,
        ) as response:
            await _read_body_start(response)
        return describe_response(response.status)

    async def close(self) -> None:
        await self._pool.aclose()


async def _read_body_start(response: httpcore.Response) -> None:
    # The status has already arrived: an endless or broken body changes nothing
    with suppress(TimeoutError, *SEND_ERRORS):
        async with asyncio.timeout(MAX_BODY_SECONDS):
            read_bytes = 0
            async for chunk in response.aiter_stream():
                read_bytes += len(chunk)
                if read_bytes > MAX_BODY_BYTES:  # leaving the loop closes the connection
                    return


def describe_response(status: int) -> ReceiverResponse:
    """Describes the receiver's response by its status. Every status but 2xx is an error."""
    if status in SUCCESS:
        return ReceiverResponse(status, None)
    if status in REDIRECT:
        return ReceiverResponse(
            status,
            f"answered {status}: webhooks do not follow redirects. Change url to the final address",
        )
    return ReceiverResponse(status, f"answered {status} {_find_phrase(status)}".strip())


def _find_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
