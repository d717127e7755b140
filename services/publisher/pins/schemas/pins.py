"""HTTP models of pins."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from services.publisher.existing_pins import ContentComparison
from services.publisher.model import PinState
from services.publisher.pins.bulk_publish import BulkPublishItem
from services.publisher.pins.statuses import PinStatus, translate_pin_state
from services.publisher.pins.transitions import PinOfKey
from shared.contract.events import FieldDifference, RowStatus


class PinResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    pinterest_account_id: UUID
    status: PinStatus
    media_type: str = "image"
    title: str
    description: str | None
    related_terms: list[str] | None
    alt_text: str | None
    dominant_color: str | None
    cover_image_url: str | None
    link_url: str | None
    media_url: str
    image_url: str
    asset_id: UUID | None
    board_id: str
    pinterest_pin_id: str | None = None
    error_code: str | None
    error_message: str | None
    idempotency_key: str
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    failed_at: datetime | None
    removed_from_pinterest_at: datetime | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any], base_url: str) -> "PinResponse":
        # The SDK's image_url is never null. For a pin with an asset it is the asset's address
        image_url = row["image_url"] or f"{base_url.rstrip('/')}/v1/assets/{row['asset_id']}"
        named = {name: row[name] for name in cls.model_fields if name in row}
        return cls(
            **{
                **named,
                "id": row["pin_id"],
                "pinterest_account_id": row["account_id"],
                "status": translate_pin_state(row["state"]),
                "image_url": image_url,
                "media_url": image_url,
            }
        )


class PublishedPinResponse(PinResponse):
    """A pin as `POST /v1/pins` answers it."""

    payload_matches: bool | None = None
    """For an existing pin: whether the content equals the first accepted content of its key."""
    differing_fields: list[FieldDifference] | None = None
    """For an existing pin: the fields that differ from the pin as it is now."""

    @classmethod
    def from_pin_of_key(cls, pin_of_key: PinOfKey, base_url: str) -> "PublishedPinResponse":
        pin = PinResponse.from_row(pin_of_key.row, base_url)
        return cls(**pin.model_dump(), **_dump_comparison(pin_of_key.comparison))


class PinBatchItemResult(BaseModel):
    index: int
    """Position in the request, from 0."""
    idempotency_key: str
    status: RowStatus
    pin: PinResponse | None = None
    """The created pin, or the existing pin with the key."""
    error: dict[str, Any] | None = None
    """The error of a failed item, as `POST /v1/pins` would answer it: code, message and details."""
    payload_matches: bool | None = None
    """For an existing pin: whether the content equals the first accepted content of its key."""
    differing_fields: list[FieldDifference] | None = None
    """For an existing pin: the fields that differ from the pin as it is now."""

    @classmethod
    def from_item(cls, index: int, item: BulkPublishItem, base_url: str) -> "PinBatchItemResult":
        return cls(
            index=index,
            idempotency_key=item.key,
            status=item.status,
            pin=None if item.row is None else PinResponse.from_row(item.row, base_url),
            error=None if item.error is None else item.error.body()["detail"],
            **_dump_comparison(item.comparison),
        )


class PinBatchResponse(BaseModel):
    """One result for each pin, in the order of the request.

    `headroom` is always null: Pinflow has no quota.
    """

    created_count: int
    existing_count: int
    failed_count: int
    results: list[PinBatchItemResult]
    headroom: dict[str, Any] | None = None

    @classmethod
    def from_items(cls, items: Sequence[BulkPublishItem], base_url: str) -> "PinBatchResponse":
        counts = {
            f"{status}_count": sum(item.status is status for item in items) for status in RowStatus
        }
        return cls(
            **counts,
            results=[
                PinBatchItemResult.from_item(index, item, base_url)
                for index, item in enumerate(items)
            ],
        )


def _dump_comparison(comparison: ContentComparison | None) -> dict[str, Any]:
    return {} if comparison is None else comparison._asdict()


class PinDeleteResponse(BaseModel):
    id: UUID
    deleted: bool = True
    removed_from_pinterest: bool = False
    pinterest_pin_id: str | None = None
    reason: str | None = (
        "Pinflow has not sent this pin to Pinterest, so there was nothing to remove there."
    )


class JobStatusResponse(BaseModel):
    job_id: UUID
    pin_id: UUID
    status: PinStatus
    submitted_at: datetime
    completed_at: datetime | None
    """The time when the pin was published or failed."""
    pinterest_pin_id: str | None = None
    error_code: str | None
    error_message: str | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "JobStatusResponse":
        return cls(
            job_id=row["pin_id"],
            pin_id=row["pin_id"],
            status=translate_pin_state(row["state"]),
            submitted_at=row["created_at"],
            completed_at=row["published_at"]
            or (row["failed_at"] if row["state"] == PinState.FAILED else None),
            error_code=row["error_code"],
            error_message=row["error_message"],
        )
