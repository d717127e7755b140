"""Builds the parts of the delivery process that concern images and videos."""

from services.publisher.delivery.attempts.call_failures import CallFailures
from services.publisher.delivery.config import DeliverySettings
from services.publisher.delivery.media.fetching import MediaFetcher
from services.publisher.delivery.media.images import ImageUploads
from services.publisher.delivery.media.repository import VideoRepository
from services.publisher.delivery.media.source import PinMedia
from services.publisher.delivery.media.uploading import ObjectStore, VideoUploader
from services.publisher.delivery.media.video_calls import TokenFailures, VideoCalls
from services.publisher.delivery.ports import CallBudget, ReportingTokenSource
from shared.http.address_rules import AddressRules
from shared.http.checked_connections import Resolver
from shared.pinterest.client import PinterestClient
from shared.postgres.database import Database
from shared.runtime.periodic import PeriodicTask

LOOKUPS_PER_FETCH = 4
"""Threads that resolve names, for each file that may be fetched at the same time. A lookup may take
half a minute, and outlast three fetches of images. With fewer threads, slow name servers of one
workspace's hosts would hold up the files of all.
"""
MAX_LOOKUPS = 256
"""Maximum threads that resolve names: a container may limit how many a process can start."""
UPLOAD_INTERVAL_SECONDS = 5.0
"""Seconds between two searches for videos to upload. A registered one wakes the search."""


class MediaParts:
    """The media source, the part of a turn for videos, and the uploads, which run beside turns."""

    def __init__(
        self,
        settings: DeliverySettings,
        database: Database,
        client: PinterestClient,
        tokens: ReportingTokenSource,
        budget: CallBudget,
        failures: CallFailures,
        token_failures: TokenFailures,
    ) -> None:
        fetches = settings.delivery_concurrency + settings.media_videos_at_once
        self._resolver = Resolver(min(LOOKUPS_PER_FETCH * fetches, MAX_LOOKUPS))
        videos = VideoRepository(database, settings.pinterest_mode)
        self._fetcher = MediaFetcher(
            settings.media_address_rules,
            self._resolver,
            max_connections=fetches,
        )
        self._store = ObjectStore(
            _choose_store_rules(settings),
            self._resolver,
            max_connections=settings.media_videos_at_once,
        )
        uploader = VideoUploader(
            videos,
            self._fetcher,
            self._store,
            max_tries=settings.delivery_fetch_tries,
            timeout_seconds=settings.media_upload_seconds,
            at_once=settings.media_videos_at_once,
        )
        images = ImageUploads(
            self._fetcher,
            timeout_seconds=settings.media_fetch_seconds,
            memory_bytes=settings.media_image_memory_bytes,
        )
        self.source = PinMedia(settings.pinterest_image_mode, images, videos)
        """Implements MediaSource."""
        self.uploads = [
            PeriodicTask(
                f"video-upload-{number}",
                uploader.upload_next,
                interval_seconds=UPLOAD_INTERVAL_SECONDS,
            )
            for number in range(1, settings.media_videos_at_once + 1)
        ]
        """Tasks to run beside the turns. They may be canceled at any time."""
        self.video_calls = VideoCalls(
            videos,
            client,
            tokens,
            budget,
            failures,
            token_failures,
            timeout_seconds=settings.pinterest_timeout_seconds,
            wake_uploads=self._wake_uploads,
        )
        """Implements TurnPart. Run it before the part that creates pins."""

    async def close(self) -> None:
        """Closes all connections. Call it after the tasks have ended."""
        await self._fetcher.close()
        await self._store.close()
        self._resolver.close()

    def _wake_uploads(self) -> None:
        for task in self.uploads:
            task.wake()


def _choose_store_rules(settings: DeliverySettings) -> AddressRules:
    """Permits every address to the simulator alone: its upload URL is usually a loopback one."""
    if settings.pinterest_mode == "simulated":
        return AddressRules.from_settings(variables="PINFLOW_MEDIA", allow_private=True)
    return AddressRules.from_settings(variables="PINFLOW_MEDIA", ports="443")
