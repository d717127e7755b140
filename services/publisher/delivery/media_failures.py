"""Defines how the image or the video of a pin can fail before the pin is created. No I/O.

MediaFailure
├── MediaUnreachable   passing: the pin waits, and is tried again
├── MediaPending       no failure: a video is not ready, and the pin waits
└── MediaRejected      final: the pin fails with `code`
"""

from typing import Literal

from shared.contract.errors import ErrorCode, PinflowError

MediaErrorCode = Literal[ErrorCode.MEDIA_REJECTED, ErrorCode.MEDIA_UNREACHABLE]


class MediaFailure(PinflowError):
    """The `media_source` of a pin can't be built now. `message` is for the pin's owner."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class MediaUnreachable(MediaFailure):
    """The image can't be fetched now: a timeout, 429, 5xx, or no connection.

    It counts as a try, as if Pinterest could not fetch the image (PINFLOW_DELIVERY_FETCH_TRIES).
    """


class MediaPending(MediaFailure):
    """A video is not ready at Pinterest. It counts as no try.

    `retry_after_seconds`: the earliest time to ask again. Whoever finishes the video sets
    `deliver_after` of the pin to null, so a longer wait costs nothing.
    """

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class MediaRejected(MediaFailure):
    """The image or video will never do: the pin fails with `code`."""

    def __init__(self, message: str, code: MediaErrorCode = ErrorCode.MEDIA_REJECTED) -> None:
        super().__init__(message)
        self.code = code
