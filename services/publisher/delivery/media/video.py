"""Defines the video of a pin on its way to Pinterest, and decides its next step. No I/O.

register ──POST /media──▶ upload ──form with the file──▶ process ──GET /media/ID──▶ ready
    ▲                       │                               │
    └── refused, expired ───┴── failed or unknown ──────────┘   after 3 registrations: failed
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import Any
from uuid import UUID

from services.publisher.delivery.accounts.pauses import compute_fetch_delay
from services.publisher.delivery.media.rules import (
    MAX_REGISTRATIONS,
    MAX_STATUS_READS,
    compute_wait_seconds,
)
from services.publisher.delivery.media_failures import MediaFailure, MediaRejected
from shared.contract.errors import ErrorCode
from shared.contract.urls import normalize_url

NO_UPLOAD: Mapping[str, None] = {"upload_url": None, "upload_parameters": None}
MAX_URL_LENGTH = 8192
MAX_INTERRUPTED_UPLOADS = 20
"""Interrupted uploads to one URL: about two hours. Pinterest's URLs expire after some hours."""
POSTPONED_SECONDS = 60.0
"""The wait after a call that failed for a passing reason."""


class VideoStep(StrEnum):
    """Names what is to be done next with a video."""

    REGISTER = auto()
    UPLOAD = auto()
    PROCESS = auto()
    READY = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Video:
    """A row of publisher.delivery_media."""

    pin_id: UUID
    workspace_id: UUID
    account_id: UUID
    source_url: str
    step: VideoStep
    media_id: str | None
    upload_url: str | None
    upload_parameters: Mapping[str, str] | None
    registrations: int
    tries: int
    looks: int
    """Reads of the status, or interrupted uploads, since the step began."""


@dataclass(frozen=True, slots=True)
class VideoChange:
    """New values of the row. The next step waits for `wait_seconds`."""

    values: Mapping[str, Any]
    wait_seconds: float = 0


def record_registration(video: Video, answer: Mapping[str, Any]) -> VideoChange:
    """Goes on to the upload, or begins anew if Pinterest's answer does not permit one."""
    registered = replace(video, registrations=video.registrations + 1)
    url, parameters = answer.get("upload_url"), answer.get("upload_parameters")
    if not _is_upload_url(url) or not _is_form(parameters):
        return register_anew(registered, "its answer had no upload URL with parameters")
    return VideoChange(
        {
            "step": VideoStep.UPLOAD,
            "media_id": answer["media_id"],
            "upload_url": url,
            "upload_parameters": parameters,
            "registrations": registered.registrations,
            "looks": 0,
        }
    )


def record_upload() -> VideoChange:
    """Goes on to the processing at Pinterest."""
    return VideoChange(
        {"step": VideoStep.PROCESS, "looks": 0, "tries": 0, **NO_UPLOAD},
        compute_wait_seconds(0),
    )


def record_status(video: Video, status: object) -> VideoChange:
    """Decides by the status that Pinterest's answer has for the video."""
    if status == "succeeded":
        return VideoChange({"step": VideoStep.READY, "looks": 0})
    if status == "failed" or video.looks + 1 >= MAX_STATUS_READS:
        return register_anew(video, "Pinterest could not process it")
    return VideoChange({"looks": video.looks + 1}, compute_wait_seconds(video.looks + 1))


def register_anew(video: Video, reason: str) -> VideoChange:
    """Begins anew, because a medium that has failed never recovers. At most 3 times."""
    if video.registrations >= MAX_REGISTRATIONS:
        return record_failure(
            MediaRejected(
                f"Pinterest did not take the video in {video.registrations} uploads: {reason}. "
                "Check that it is an MP4, MOV or M4V with H.264 or H.265, 4 seconds to 15 minutes "
                "long, then retry the pin."
            )
        )
    return VideoChange(
        {
            "step": VideoStep.REGISTER,
            "media_id": None,
            "registrations": video.registrations,
            "looks": 0,
            **NO_UPLOAD,
        },
        compute_wait_seconds(video.registrations),
    )


def record_unreachable(video: Video, failure: MediaFailure, max_tries: int) -> VideoChange:
    """Waits and fetches the source again, at most `max_tries` times in all."""
    tries = video.tries + 1
    if tries >= max_tries:
        message = failure.message.removesuffix(" Pinflow tries again later.")
        return record_failure(
            MediaRejected(
                f"{message} This was try {tries}, the last one. Make the URL reachable, then retry "
                "the pin.",
                ErrorCode.MEDIA_UNREACHABLE,
            )
        )
    return VideoChange({"tries": tries}, compute_fetch_delay(tries))


def retry_upload(video: Video) -> VideoChange:
    """Uploads to the same URL again. When the URL has expired, it is refused (register_anew).

    A store may cut the connection instead of an answer, so the URL is replaced after some tries.
    """
    if video.looks + 1 >= MAX_INTERRUPTED_UPLOADS:
        # Does not count as a registration: nothing says that the video is at fault
        return register_anew(replace(video, registrations=video.registrations - 1), "interrupted")
    return VideoChange({"looks": video.looks + 1}, compute_wait_seconds(video.looks))


def postpone_call(retry_after_seconds: float | None = None) -> VideoChange:
    """Repeats the same call later, because it failed for a passing reason."""
    return VideoChange({}, max(POSTPONED_SECONDS, retry_after_seconds or 0))


def record_failure(failure: MediaRejected) -> VideoChange:
    """Ends the video. The next turn of the account fails its pin."""
    return VideoChange(
        {
            "step": VideoStep.FAILED,
            "error_code": failure.code,
            "error_message": failure.message,
            **NO_UPLOAD,
        }
    )


def _is_upload_url(url: object) -> bool:
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH:
        return False
    try:
        return bool(normalize_url(url))
    except ValueError:
        return False


def _is_form(parameters: object) -> bool:
    return isinstance(parameters, dict) and all(
        isinstance(value, str) for value in parameters.values()
    )
