"""HTTP models of pins."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from services.publisher.existing_pins import ContentComparison
from services.publisher.model import PinState
from services.publisher.pins.bulk_publish import BulkPublishItem
from services.publisher.pins.creation import PinOfKey
from services.publisher.pins.delivery_fields import (
    MediaType,
    PinDelivery,
    find_deferral_of,
    find_delivery,
    find_media_type,
    find_reason,
)
from services.publisher.pins.statuses import PinStatus, translate_pin_state
from shared.contract.events import RowStatus
from shared.contract.pins import PinSubmission
from shared.http.fields import (
    AccountId,
    CreatedAt,
    DifferingFields,
    PayloadMatches,
    PinterestPinId,
    UpdatedAt,
    WorkspaceId,
)
from shared.http.models import ApiModel

PinErrorCode = Annotated[
    str | None,
    Field(
        description="The error code that says why it failed, or is deferred. Null otherwise. "
        "docs/reference/errors.md lists the codes."
    ),
]
PinErrorMessage = Annotated[
    str | None,
    Field(description="The reason in words, and what to do next. Null if there is none."),
]
DeferredUntil = Annotated[
    datetime | None,
    Field(
        description="The time before which a deferred pin is not sent, in UTC. It may be deferred "
        "again then. Null if it is not deferred."
    ),
]


def _described(name: str) -> Any:
    """Takes a field's description from PinSubmission."""
    return Field(description=PinSubmission.model_fields[name].description)


class PinResponse(ApiModel):
    """A pin that is published, failed, or due: about to be published or sent to Pinterest."""

    id: UUID
    """The pin's id. It depends only on the workspace and the idempotency key."""
    workspace_id: WorkspaceId
    pinterest_account_id: AccountId
    status: PinStatus
    media_type: MediaType = MediaType.IMAGE
    title: Annotated[str, _described("title")]
    description: Annotated[str | None, _described("description")]
    related_terms: list[str] | None
    """Search terms that Pinterest may relate to the pin. Null if there are none."""
    alt_text: Annotated[str | None, _described("alt_text")]
    dominant_color: Annotated[str | None, _described("dominant_color")]
    cover_image_url: Annotated[str | None, _described("cover_image_url")]
    link_url: Annotated[str | None, _described("link_url")]
    media_url: str
    """The same address as `image_url`."""
    image_url: str
    """The image's address: the submitted URL, or the asset's address if an asset was submitted."""
    asset_id: Annotated[UUID | None, _described("asset_id")]
    board_id: Annotated[str, _described("board_id")]
    delivery: PinDelivery = PinDelivery.NONE
    pinterest_pin_id: PinterestPinId = None
    error_code: PinErrorCode
    error_message: PinErrorMessage
    deferred_until: DeferredUntil = None
    idempotency_key: Annotated[str, _described("idempotency_key")]
    created_at: CreatedAt
    updated_at: UpdatedAt
    published_at: datetime | None
    """When it was published, in UTC. With `delivery` `pinterest`, when Pinflow knew that it is on
    Pinterest. Null until then."""
    failed_at: datetime | None
    """When publishing last failed, in UTC. Null if it never did."""
    removed_from_pinterest_at: datetime | None = None
    """When Pinflow removed the pin from Pinterest, in UTC. Null if it did not. Pinflow does not
    learn of pins that are deleted at Pinterest."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any], base_url: str) -> "PinResponse":
        # The SDK's image_url is never null. For a pin with an asset it is the asset's address
        image_url = row["image_url"] or f"{base_url.rstrip('/')}/v1/assets/{row['asset_id']}"
        named = {name: row[name] for name in cls.model_fields if name in row}
        reason = find_reason(row)
        return cls(
            **{
                **named,
                "id": row["pin_id"],
                "pinterest_account_id": row["account_id"],
                "status": _find_status(row),
                "media_type": find_media_type(row),
                "delivery": find_delivery(row),
                "error_code": reason.code,
                "error_message": reason.message,
                "deferred_until": reason.deferred_until,
                "removed_from_pinterest_at": row["removed_at"],
                "image_url": image_url,
                "media_url": image_url,
            }
        )


class PublishedPinResponse(PinResponse):
    """A pin as `POST /v1/pins` answers it."""

    payload_matches: PayloadMatches = None
    differing_fields: DifferingFields = None

    @classmethod
    def from_pin_of_key(cls, pin_of_key: PinOfKey, base_url: str) -> "PublishedPinResponse":
        pin = PinResponse.from_row(pin_of_key.row, base_url)
        return cls(**pin.model_dump(), **_dump_comparison(pin_of_key.comparison))


class PinBatchItemResult(ApiModel):
    """The result of one pin of a batch."""

    index: int
    """Position in the request, from 0."""
    idempotency_key: str
    """The key that was sent. Empty if it is missing or not a text."""
    status: RowStatus
    pin: PinResponse | None = None
    """The created pin, or the existing pin with the key."""
    error: dict[str, Any] | None = None
    """The error of a failed item, as `POST /v1/pins` would answer it: code, message and details."""
    payload_matches: PayloadMatches = None
    differing_fields: DifferingFields = None

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


class PinBatchResponse(ApiModel):
    """One result for each pin, in the order of the request."""

    created_count: int
    """Pins that this request published."""
    existing_count: int
    """Pins whose idempotency key already had a pin. Nothing was published for them."""
    failed_count: int
    """Pins that failed. Their keys stay free."""
    results: list[PinBatchItemResult]
    """One result for each pin, in the order of the request."""
    headroom: dict[str, Any] | None = None
    """Always null: Pinflow has no quota."""

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


class JobStatusResponse(ApiModel):
    """The progress of publishing one pin."""

    job_id: UUID
    """The job's id: the same as `pin_id`."""
    pin_id: UUID
    """The pin's id."""
    status: PinStatus
    submitted_at: datetime
    """When the pin was accepted, in UTC."""
    completed_at: datetime | None
    """When the pin was published or failed, in UTC. Null until then."""
    pinterest_pin_id: PinterestPinId = None
    error_code: PinErrorCode
    error_message: PinErrorMessage
    deferred_until: DeferredUntil = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "JobStatusResponse":
        reason = find_reason(row)
        return cls(
            job_id=row["pin_id"],
            pin_id=row["pin_id"],
            status=_find_status(row),
            submitted_at=row["created_at"],
            completed_at=row["published_at"]
            or (row["failed_at"] if row["state"] == PinState.FAILED else None),
            pinterest_pin_id=row["pinterest_pin_id"],
            error_code=reason.code,
            error_message=reason.message,
            deferred_until=reason.deferred_until,
        )


def _find_status(row: Mapping[str, Any]) -> PinStatus:
    return translate_pin_state(row["state"], is_deferred=find_deferral_of(row) is not None)
