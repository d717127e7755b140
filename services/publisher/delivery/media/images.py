"""Fetches an image and holds it as base64 while it is sent to Pinterest."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.publisher.delivery.media.fetching import (
    FetchedFile,
    MediaFetcher,
    limit_time,
    unreachable,
)
from services.publisher.delivery.media.rules import (
    MAX_IMAGE_BYTES,
    SIGNATURE_BYTES,
    build_bytes_source,
    require_image,
)
from services.publisher.delivery.media_failures import MediaPending
from shared.contract.urls import normalize_url
from shared.runtime.limits.reservations import ByteBudget, WaitTimeout

NOUN = "image"
MEMORY_FACTOR = 8 / 3
"""Base64 has 4/3 of the size, and there are two copies: the text, and the request with it."""
RETRY_SECONDS = 5.0
GROUP_BYTES = 3
"""Base64 encodes three bytes at a time."""


class ImageUploads:
    """Fetches images within a memory budget.

    The whole fetch takes at most `timeout_seconds`, with the wait for memory.
    """

    def __init__(self, fetcher: MediaFetcher, *, timeout_seconds: float, memory_bytes: int) -> None:
        """Takes a budget of `memory_bytes`, at least enough for one image of the maximum size."""
        self._fetcher = fetcher
        self._timeout_seconds = timeout_seconds
        self._budget = ByteBudget(memory_bytes, timeout_seconds)

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[dict[str, object]]:
        """Enters with the `media_source`, and holds the image's memory until the block ends.

        Raises MediaUnreachable, MediaRejected, or MediaPending if no memory becomes free in time.
        """
        timeout = limit_time(
            self._timeout_seconds,
            lambda: unreachable(NOUN, f"it takes longer than {self._timeout_seconds:g} s"),
        )
        reservation = None
        try:
            async with (
                timeout,
                self._fetcher.open(
                    normalize_url(url), max_bytes=MAX_IMAGE_BYTES, noun=NOUN
                ) as file,
            ):
                size = MAX_IMAGE_BYTES if file.size is None else file.size
                reservation = await self._budget.acquire(int(size * MEMORY_FACTOR))
                source = await _read(file)
            yield source
        except WaitTimeout:
            raise MediaPending(
                "Other images are being uploaded. The pin waits for memory.", RETRY_SECONDS
            ) from None
        finally:
            if reservation is not None:
                reservation.release()


async def _read(file: FetchedFile) -> dict[str, object]:
    """Encodes the image while it arrives, so that it is never in memory besides its base64."""
    encoded, rest, content_type = bytearray(), b"", None
    async for chunk in file.chunks():
        rest += chunk
        if content_type is None:
            if len(rest) < SIGNATURE_BYTES:
                continue
            content_type = require_image(rest)
        whole = len(rest) - len(rest) % GROUP_BYTES
        encoded += base64.b64encode(rest[:whole])
        rest = rest[whole:]
    content_type = content_type or require_image(rest)
    encoded += base64.b64encode(rest)
    return build_bytes_source(content_type, encoded.decode("ascii"))
