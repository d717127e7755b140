"""Decides what the URL of a pin is, whether a file is an image or a video, and waiting times.

The limits are those of Pinterest's specification of pins. No I/O.
"""

from collections.abc import Mapping
from typing import Any

from services.publisher.delivery.media_failures import MediaRejected
from shared.contract.delivery_advice import is_video
from shared.postgres.row import Row

MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_VIDEO_BYTES = 2 * 1024 * 1024 * 1024
IMAGE_SIGNATURES: Mapping[str, bytes] = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
}
"""The first bytes of files of each type. A server's Content-Type is often wrong."""
SIGNATURE_BYTES = 8
VIDEO_ATOMS = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
"""The names of parts with which MP4 and QuickTime files begin, in bytes 4 to 7."""

MAX_REGISTRATIONS = 3
"""Registrations of one video. If Pinterest takes none of its uploads, the pin fails."""
MAX_STATUS_READS = 150
"""Reads of the status of a video that is being processed: about a day. Then it counts as failed."""
FIRST_WAIT_SECONDS = 5.0
WAIT_FACTOR = 1.5
MAX_WAIT_SECONDS = 600.0
KEPT_SECONDS = 90.0
"""The time for which an upload is taken, and kept again and again while it runs. After a crash,
another process takes it then."""
OVERDUE_SECONDS = 300.0
"""A video whose next step has been due for longer makes no progress: nobody works at it."""
MAX_READY_SECONDS = 3600.0
"""Age of a ready video after which Pinterest is asked again whether it still has it."""


def find_image_type(beginning: bytes) -> str | None:
    """Returns the content type of a PNG or JPEG by its first bytes. None: it is neither."""
    for content_type, signature in IMAGE_SIGNATURES.items():
        if beginning.startswith(signature):
            return content_type
    return None


def require_image(beginning: bytes) -> str:
    """Returns the content type of an image. Raises MediaRejected for any other file."""
    if content_type := find_image_type(beginning):
        return content_type
    raise MediaRejected(
        "The file at image_url is neither PNG nor JPEG. Check that the URL leads to the image "
        "itself and not to a page, then retry the pin."
    )


def require_video(beginning: bytes) -> None:
    """Raises MediaRejected for a file that does not begin as a video."""
    if beginning[4:8] not in VIDEO_ATOMS:
        raise MediaRejected(
            "The file at image_url is not an MP4, MOV or M4V video. Check that the URL leads to "
            "the video itself and not to a page, then retry the pin."
        )


def is_asset(pin: Row) -> bool:
    """Returns whether the pin's image is an asset, so it has no address."""
    return pin["asset_id"] is not None or not pin["image_url"]


def is_fetched_by_pinterest(pin: Row, image_mode: str) -> bool:
    """Returns whether the pin can be sent at once, with the address of its image."""
    return image_mode == "url" and not is_asset(pin) and not is_video(pin["image_url"])


def reject_assets(pin: Row) -> None:
    """Raises MediaRejected for a pin whose image is an asset."""
    if is_asset(pin):
        raise MediaRejected(
            "Pinflow stores no assets, so asset_id can't be delivered to Pinterest. Create the pin "
            "with image_url, the public address of the image or video."
        )


def build_image_source(url: str) -> dict[str, object]:
    return {"source_type": "image_url", "url": url}


def build_bytes_source(content_type: str, data: str) -> dict[str, object]:
    return {"source_type": "image_base64", "content_type": content_type, "data": data}


def build_video_source(media_id: str, cover_image_url: str | None) -> dict[str, object]:
    """Builds the source of a video. Its cover is a URL, or else the first frame, because Pinterest
    requires one."""
    cover: dict[str, Any] = (
        {"cover_image_url": cover_image_url}
        if cover_image_url
        else {"cover_image_key_frame_time": 0}
    )
    return {"source_type": "video_id", "media_id": media_id, **cover}


def compute_wait_seconds(tries: int) -> float:
    """Returns the wait before a call or an upload is repeated, after so many: 5 s to 10 min."""
    return min(FIRST_WAIT_SECONDS * WAIT_FACTOR ** min(tries, 20), MAX_WAIT_SECONDS)
