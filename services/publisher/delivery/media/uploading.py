"""Uploads registered videos to Pinterest, from their URLs, beside the turns of the accounts.

An upload uses no token and no budget of its account, and may be repeated: the object store keeps
the last one. So it needs no lease, and it holds up no other pin of the account.
"""

import asyncio
import ssl
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import urlsplit
from uuid import UUID

import httpcore
import structlog

from services.publisher.delivery.media.fetching import (
    CONNECT_SECONDS,
    CONNECTION_ERRORS,
    IDLE_SECONDS,
    STALL_SECONDS,
    USER_AGENT,
    FetchedFile,
    MediaFetcher,
    limit_time,
    unreachable,
)
from services.publisher.delivery.media.multipart import build_form_frame
from services.publisher.delivery.media.repository import VideoRepository
from services.publisher.delivery.media.rules import (
    KEPT_SECONDS,
    MAX_VIDEO_BYTES,
    SIGNATURE_BYTES,
    require_video,
)
from services.publisher.delivery.media.video import (
    Video,
    VideoChange,
    record_failure,
    record_unreachable,
    record_upload,
    register_anew,
    retry_upload,
)
from services.publisher.delivery.media_failures import MediaRejected, MediaUnreachable
from shared.contract.urls import normalize_url
from shared.http.address_rules import AddressRules
from shared.http.checked_connections import (
    CheckedBackend,
    ForbiddenAddress,
    Resolve,
    to_target,
)

log = structlog.get_logger()

NOUN = "video"
KEEP_SECONDS = 20.0
"""Seconds after which an upload that runs is kept again (KEPT_SECONDS)."""
WRITE_BYTES = 1024 * 1024


class UploadRefused(Exception):
    """The object store does not take the upload: its URL has expired, or the file is wrong."""


class UploadInterrupted(Exception):
    """The object store can't be reached, or has failed."""


class VideoUploader:
    """Uploads videos. A process runs several uploads at once (PINFLOW_MEDIA_VIDEOS_AT_ONCE).

    If there are several, one workspace may use all but one: the sources of its videos may be slow,
    and an upload may take an hour.
    """

    def __init__(
        self,
        videos: VideoRepository,
        fetcher: MediaFetcher,
        store: "ObjectStore",
        *,
        max_tries: int,
        timeout_seconds: float,
        at_once: int,
    ) -> None:
        self._videos = videos
        self._per_workspace = max(1, at_once - 1)
        self._uploads: Counter[UUID] = Counter()
        """The uploads of this process, by workspace."""
        self._taking = asyncio.Lock()
        self._fetcher = fetcher
        self._store = store
        self._max_tries = max_tries
        self._timeout_seconds = timeout_seconds

    async def upload_next(self) -> int:
        """Uploads a video that is due. Returns the number of uploads, for PeriodicTask."""
        async with self._taking:  # otherwise two uploads could take a workspace's last place
            full = [item for item, count in self._uploads.items() if count >= self._per_workspace]
            video = await self._videos.take_upload(KEPT_SECONDS, full)
            if video is None:
                return 0
            self._uploads[video.workspace_id] += 1
        try:
            change = await self._upload_while_wanted(video)
        finally:
            self._uploads[video.workspace_id] -= 1
            if not self._uploads[video.workspace_id]:
                del self._uploads[video.workspace_id]
        if change is not None:
            await self._videos.change(video, change)
        log.info(
            "video_uploaded",
            pin_id=str(video.pin_id),
            next_step=change and change.values.get("step", video.step),
        )
        return 1

    async def _upload_while_wanted(self, video: Video) -> VideoChange | None:
        """Returns None if the pin was changed, deleted or canceled meanwhile."""
        upload = asyncio.create_task(self._decide(video))
        try:
            while not upload.done():
                await asyncio.wait({upload}, timeout=KEEP_SECONDS)
                if not upload.done() and not await self._videos.keep(video, KEPT_SECONDS):
                    return None
            return await upload
        finally:
            upload.cancel()
            with suppress(asyncio.CancelledError):
                await upload

    async def _decide(self, video: Video) -> VideoChange:
        """Uploads a video and decides what follows."""
        try:
            async with limit_time(
                self._timeout_seconds,
                lambda: unreachable(NOUN, f"it takes longer than {self._timeout_seconds:g} s"),
            ):
                await self._upload(video)
        except MediaUnreachable as failure:
            return record_unreachable(video, failure, self._max_tries)
        except MediaRejected as failure:
            return record_failure(failure)
        except UploadRefused as refusal:
            return register_anew(video, str(refusal))
        except UploadInterrupted as error:
            log.warning("video_upload_interrupted", pin_id=str(video.pin_id), reason=str(error))
            return retry_upload(video)
        return record_upload()

    async def _upload(self, video: Video) -> None:
        assert video.upload_url is not None  # noqa: S101 - a constraint of the table
        url, parameters = video.upload_url, video.upload_parameters or {}
        async with self._fetcher.open(
            normalize_url(video.source_url), max_bytes=MAX_VIDEO_BYTES, noun=NOUN
        ) as file:
            chunks = _require_video(file)
            if file.size is not None:
                await self._store.post(url, parameters, chunks, file.size)
                return
            # The object store needs the length first
            async with _spooling(chunks) as (stored, size):
                await self._store.post(url, parameters, _read(stored), size)


class ObjectStore:
    """Posts files to the upload URLs that Pinterest names: a host of its object store."""

    def __init__(self, rules: AddressRules, resolve: Resolve, *, max_connections: int) -> None:
        self._rules = rules
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=max_connections,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=CheckedBackend(rules, resolve),
        )

    async def post(
        self, url: str, fields: Mapping[str, str], chunks: AsyncIterator[bytes], size: int
    ) -> None:
        """Posts a form with a file of `size` bytes. Raises UploadRefused or UploadInterrupted.

        Whatever `chunks` raises comes out unchanged, and the store has no file then.
        """
        if violation := self._rules.find_violation(url):
            raise UploadRefused(f"its upload URL is not allowed: {violation}")
        frame = build_form_frame(fields)

        async def body() -> AsyncIterator[bytes]:
            yield frame.head
            async for chunk in chunks:
                yield chunk
            yield frame.tail

        try:
            async with self._pool.stream(
                "POST",
                to_target(urlsplit(normalize_url(url))),
                headers=[
                    ("Host", urlsplit(url).netloc),
                    ("User-Agent", USER_AGENT),
                    ("Content-Type", frame.content_type),
                    ("Content-Length", str(frame.compute_size(size))),
                ],
                content=body(),
                extensions={
                    "timeout": {
                        "connect": CONNECT_SECONDS,
                        "read": STALL_SECONDS,
                        "write": STALL_SECONDS,
                    }
                },
            ) as response:
                status = response.status
        except ForbiddenAddress as error:
            raise UploadInterrupted(str(error)) from None
        except CONNECTION_ERRORS as error:
            raise UploadInterrupted(type(error).__name__) from None
        _require_taken(status)

    async def close(self) -> None:
        await self._pool.aclose()


def _require_taken(status: int) -> None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }:
        raise UploadRefused(f"the upload was answered {status}")
    raise UploadInterrupted(f"answered {status}")


async def _require_video(file: FetchedFile) -> AsyncIterator[bytes]:
    """Yields the file's chunks if it begins as a video. Raises MediaRejected before the first."""
    beginning, is_checked = b"", False
    async for chunk in file.chunks():
        if is_checked:
            yield chunk
            continue
        beginning += chunk
        if len(beginning) >= SIGNATURE_BYTES:
            require_video(beginning)
            is_checked = True
            yield beginning
    if not is_checked:
        require_video(beginning)


@asynccontextmanager
async def _spooling(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[BinaryIO, int]]:
    """Writes chunks to a temporary file. Enters with the file at its beginning, and its size."""
    with tempfile.TemporaryFile(prefix="pinflow-video-") as stored:
        async for chunk in chunks:
            await asyncio.to_thread(stored.write, chunk)
        size = stored.tell()
        stored.seek(0)
        yield stored, size


async def _read(stored: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(stored.read, WRITE_BYTES):
        yield chunk
