"""HTTP models, field by field those of pinbridge-sdk 1.10.1."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from services.publisher.identity import schedule_id_of
from services.publisher.service import PinState


class PinStatus(StrEnum):
    QUEUED = "queued"
    DEFERRED = "deferred"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"


class ScheduleStatus(StrEnum):
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    DEFERRED = "deferred"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


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

_SCHEDULE_STATUS = {
    PinState.PUBLISHED: ScheduleStatus.DONE,
    PinState.FAILED: ScheduleStatus.FAILED,
    PinState.CANCELLED: ScheduleStatus.CANCELED,
}

_PAYLOAD = (
    "account_id",
    "board_id",
    "title",
    "description",
    "alt_text",
    "link_url",
    "image_url",
    "asset_id",
    "cover_image_url",
    "cover_image_asset_id",
    "related_terms",
    "dominant_color",
    "idempotency_key",
)


class ScheduleResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    pinterest_account_id: UUID
    run_at: datetime
    status: ScheduleStatus
    payload: dict[str, Any]
    last_error: str | None
    pin_id: UUID | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "ScheduleResponse":
        waiting = ScheduleStatus.QUEUED if row["is_due"] else ScheduleStatus.SCHEDULED
        return cls(
            id=schedule_id_of(row["pin_id"]),
            workspace_id=row["workspace_id"],
            pinterest_account_id=row["account_id"],
            run_at=row["run_at"],
            status=_SCHEDULE_STATUS.get(row["state"], waiting),
            payload={name: row[name] for name in _PAYLOAD if row[name] is not None},
            last_error=row["error_message"],
            pin_id=row["pin_id"] if row["published_at"] is not None else None,
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )


class AccountResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    pinterest_user_id: str
    display_name: str | None
    username: str | None
    scopes: str = "boards:read,pins:read,pins:write"
    created_at: datetime
    updated_at: datetime
    revoked_at: datetime | None
    token_expires_at: datetime | None = None
    health_status: str
    health_message: str | None = None
    health_checked_at: datetime | None = None
    reconnect_required: bool
    missing_scopes: list[str] = []

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "AccountResponse":
        revoked = row["revoked_at"] is not None
        return cls(**row, pinterest_user_id=str(row["id"]), health_status="revoked" if revoked else "healthy", reconnect_required=revoked)


class BoardResponse(BaseModel):
    id: str
    name: str
    description: str | None
    privacy: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "BoardResponse":
        return cls(id=row["board_id"], name=row["name"], description=row["description"], privacy=row["privacy"])
