"""HTTP models of pins."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from services.publisher.service import PinState


class PinStatus(StrEnum):
    QUEUED = "queued"
    DEFERRED = "deferred"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"


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
    def of(cls, row: Mapping[str, Any], base_url: str) -> "PinResponse":
        # The SDK's image_url is never null: a pin from an asset answers with the asset's address
        image_url = row["image_url"] or f"{base_url.rstrip('/')}/v1/assets/{row['asset_id']}"
        named = {name: row[name] for name in cls.model_fields if name in row}
        return cls(
            **{
                **named,
                "id": row["pin_id"],
                "pinterest_account_id": row["account_id"],
                "status": _PIN_STATUS[row["state"]],
                "image_url": image_url,
                "media_url": image_url,
            }
        )


_PIN_STATUS = {
    PinState.PUBLISHED: PinStatus.PUBLISHED,
    PinState.FAILED: PinStatus.FAILED,
    PinState.SCHEDULED: PinStatus.QUEUED,  # due: the scheduler is about to publish it
}
