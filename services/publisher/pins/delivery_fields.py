"""Builds the fields of an answer that say whether and when a pin reaches Pinterest. No I/O."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from services.publisher.model import DELIVERY, PinState
from services.publisher.pins.deferrals import PinDeferral
from shared.contract.delivery_advice import is_video

_CONFIRMING = (
    "Pinflow is asking Pinterest whether it has this pin, because an answer was lost. It is not "
    "sent again before that is known."
)


class PinDelivery(StrEnum):
    """Says where a pin goes. It is decided when the pin is created, and never changes.

    - `none`: the pin is stored and announced, because its account was never connected.
    - `pinterest`: the pin is created on Pinterest.
    """

    NONE = "none"
    PINTEREST = DELIVERY


class MediaType(StrEnum):
    """The kind of media of a pin. A video is recognized by the end of its URL's path."""

    IMAGE = "image"
    VIDEO = "video"


class Reason(NamedTuple):
    """Says why a pin failed, is deferred, or is publishing for long. All None for other pins."""

    code: str | None
    message: str | None
    deferred_until: datetime | None


def find_deferral_of(row: Mapping[str, Any]) -> PinDeferral | None:
    """Returns the deferral that DeferralReader added to the row."""
    return row.get("deferral")


def find_reason(row: Mapping[str, Any]) -> Reason:
    if (deferral := find_deferral_of(row)) is not None:
        return Reason(deferral.code, deferral.message, deferral.until)
    if row["state"] == PinState.CONFIRMING:
        return Reason(None, _CONFIRMING, None)
    return Reason(row["error_code"], row["error_message"], None)


def find_delivery(row: Mapping[str, Any]) -> PinDelivery:
    return PinDelivery.NONE if row["delivery"] is None else PinDelivery(row["delivery"])


def find_media_type(row: Mapping[str, Any]) -> MediaType:
    """Returns the media type. A pin that is not delivered is always an image, as before."""
    url = row["image_url"]
    if row["delivery"] is None or url is None:
        return MediaType.IMAGE
    return MediaType.VIDEO if is_video(url) else MediaType.IMAGE
