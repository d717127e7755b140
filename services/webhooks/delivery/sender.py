"""Sends one request to one receiver, and returns its answer."""

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

import httpcore

from services.webhooks.delivery.connections import CheckedBackend, ForbiddenDestination
from services.webhooks.delivery.model import ClaimedDelivery
from services.webhooks.delivery.policy import Answer
from services.webhooks.delivery.signing import signed_headers
from shared.contract.pins import make_printable
from shared.http.app import VERSION

USER_AGENT = f"Pinflow-Webhooks/{VERSION}"
READ_BYTES = 4096
"""Of an answer's body: nobody looks at it, but a connection can be used again only when all has
been read.
"""
IDLE_SECONDS = 5.0
READ_SECONDS = 1.0
MAX_ERROR = 200
SUCCESS, REDIRECT = range(200, 300), range(300, 400)

FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,
)


class Sender:
    """Sends claimed deliveries. Follows no redirect, asks no proxy, keeps no cookie."""

    def __init__(
        self,
        backend: CheckedBackend,
        *,
        seconds: float,
        at_once: int,
        ca_file: str | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`seconds`: of one request, from looking up the name to the end of the answer.

        Raises OSError for a file that can't be read.
        """
        self._seconds = seconds
        self._clock = clock
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(cafile=ca_file),
            max_connections=at_once,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=backend,
        )

    async def send(self, delivery: ClaimedDelivery) -> Answer:
        """Makes one attempt. Raises nothing that a receiver could cause."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(delivery)
        except TimeoutError:
            return Answer(None, f"no answer within {self._seconds:g} s")
        except ForbiddenDestination as error:
            return Answer(None, f"not sent: {error}")
        except FAILURES as error:
            return Answer(None, make_printable(f"{type(error).__name__}: {error}", MAX_ERROR))

    async def _post(self, delivery: ClaimedDelivery) -> Answer:
        url, body = urlsplit(delivery.url), delivery.body.encode()
        about = signed_headers(
            delivery.secret,
            event=delivery.event_type,
            event_id=delivery.event_id,
            delivery_id=str(delivery.delivery_id),
            timestamp=int(self._clock()),
            body=body,
        )
        headers = {
            "Host": url.netloc,
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **about,
        }
        timeouts = {"timeout": {"connect": self._seconds}}
        async with self._pool.stream(
            "POST", _target(url), headers=list(headers.items()), content=body, extensions=timeouts
        ) as response:
            await _read_a_little(response)
        return answer_of(response.status)

    async def close(self) -> None:
        await self._pool.aclose()


def _target(url: SplitResult) -> httpcore.URL:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return httpcore.URL(
        scheme=url.scheme.encode(),
        host=(url.hostname or "").encode(),
        port=url.port,
        target=target.encode(),
    )


async def _read_a_little(response: httpcore.Response) -> None:
    # What it answered is known: a body that is endless, or breaks off, changes nothing
    with suppress(TimeoutError, *FAILURES):
        async with asyncio.timeout(READ_SECONDS):
            read = 0
            async for chunk in response.aiter_stream():
                read += len(chunk)
                if read > READ_BYTES:  # the connection is closed with it
                    return


def answer_of(status: int) -> Answer:
    if status in SUCCESS:
        return Answer(status, None)
    if status in REDIRECT:
        return Answer(status, "redirected: webhooks follow no redirect")
    return Answer(status, f"answered {status} {_phrase(status)}".strip())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
