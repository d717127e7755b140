"""Provides the `media_source` of pins: the entry of this package for the part that creates pins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from services.publisher.delivery.media.images import ImageUploads
from services.publisher.delivery.media.repository import VideoRepository
from services.publisher.delivery.media.rules import (
    build_image_source,
    build_video_source,
    is_fetched_by_pinterest,
    reject_assets,
)
from services.publisher.delivery.media.video import VideoStep
from services.publisher.delivery.media_failures import MediaPending, MediaRejected
from shared.contract.delivery_advice import is_video
from shared.contract.errors import ErrorCode
from shared.postgres.row import Row

PENDING_SECONDS = 600.0
"""The longest wait for a video. The pin is due as soon as its video is ready."""


class PinMedia:
    """Implements MediaSource (ports.py)."""

    def __init__(
        self,
        image_mode: Literal["url", "upload"],
        images: ImageUploads,
        videos: VideoRepository,
    ) -> None:
        self._image_mode = image_mode
        self._images = images
        self._videos = videos

    def is_ready(self, pin: Row) -> bool:
        """Returns whether `open` needs no time: Pinterest fetches the image itself."""
        return is_fetched_by_pinterest(pin, self._image_mode)

    @asynccontextmanager
    async def open(self, pin: Row) -> AsyncIterator[dict[str, object]]:
        """Enters with the `media_source`. Raises MediaFailure and DatabaseUnavailable."""
        reject_assets(pin)
        url = pin["image_url"]
        if is_video(url):
            yield await self._find_video(pin)
        elif self._image_mode == "url":
            yield build_image_source(url)
        else:
            async with self._images.open(url) as source:
                yield source

    async def _find_video(self, pin: Row) -> dict[str, object]:
        video = await self._videos.request(pin)
        match VideoStep(video["step"]):
            case VideoStep.READY:
                return build_video_source(video["media_id"], pin["cover_image_url"])
            case VideoStep.FAILED:
                code = ErrorCode(video["error_code"])
                if code is ErrorCode.MEDIA_UNREACHABLE:
                    raise MediaRejected(video["error_message"], ErrorCode.MEDIA_UNREACHABLE)
                raise MediaRejected(video["error_message"])
            case VideoStep.REGISTER | VideoStep.UPLOAD | VideoStep.PROCESS:
                raise MediaPending("The video is being uploaded to Pinterest.", PENDING_SECONDS)
